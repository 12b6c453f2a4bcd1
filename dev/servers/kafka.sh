# Sourced by dev/stack: one Kafka process, broker and controller in one; and its own tools.
# shellcheck shell=bash disable=SC2034,SC2154 # Its settings are set there, or used there.

launch_kafka() {
    kafka_settings >"$state/kafka.properties"
    [[ -f $state/data/kafka/meta.properties ]] || format_kafka
    [[ ! -f $logs/kafka.log ]] || mv -f -- "$logs/kafka.log" "$logs/kafka.log.1"
    # Its folder is relative to the working folder: a path may hold characters which mean something in a settings file.
    cd -- "$state"
    launch "$kafka_pid" "$logs/kafka.log" java -Xmx512m -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
        -cp "$kafka_home:$kafka_libs/*" kafka.Kafka kafka.properties
}

format_kafka() {
    local cluster
    cluster=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)
    rm -rf -- "$state/data/kafka"
    mkdir -p -- "$state/data/kafka"
    cd -- "$state"
    with_log logs/kafka-format.log kafka_tool kafka.tools.StorageTool format -t "$cluster" -c kafka.properties ||
        die 'Kafka could not prepare its folder'
}

# Short-lived: what a long run gains from the compiler and the collector, these lose at start.
kafka_tool() {
    java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$kafka_home:$kafka_libs/*" "$@"
}

kafka_settings() {
    cat <<SETTINGS
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=CLIENTS://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=CLIENTS://127.0.0.1:$kafka_port
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs=data/kafka

# A topic is there because somebody wanted it.
auto.create.topics.enable=false
# As much as the largest record that a producer of ours may send.
message.max.bytes=4194304

# One broker.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4

# A killed consumer's partitions are free in a second or two.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=200

# A small machine.
num.io.threads=4
num.network.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
# A compacted topic is compacted at once.
log.cleaner.backoff.ms=500
file.delete.delay.ms=1000
SETTINGS
}

log4j_settings() {
    cat <<'SETTINGS'
status=error
appender.out.type=Console
appender.out.name=out
appender.out.target=SYSTEM_ERR
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
# Says when it has started.
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
SETTINGS
}

wait_for_kafka() { # START WAS
    if ! eventually 60 kafka_answers_or_ended || has_ended "$kafka_pid"; then
        show_tail "$logs/kafka.log"
        die 'Kafka does not answer'
    fi
    report kafka "$kafka_version" "$kafka_port" "$1" "$2"
}

kafka_answers_or_ended() { has_ended "$kafka_pid" || kafka_answers; }

# Asks for the versions of the protocol: the one request that needs nothing else.
kafka_answers() {
    local length
    grep -qs 'Kafka Server started' "$logs/kafka.log" || return 1
    length=$(
        exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$kafka_port" || exit 1
        printf '\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff' >&3
        timeout 2 head -c 4 <&3 | od -An -tx1 | tr -d ' \n'
    ) || return 1
    [[ $length =~ ^0000[0-9a-f]{4}$ ]]
}

stop_kafka() {
    is_running "$kafka_pid" || return 0
    if stop_process "$kafka_pid" TERM 15; then say 'kafka           stopped'; else say 'kafka           killed'; fi
}

# False if it does not run.
signal_kafka() { # SIGNAL
    local pid
    pid=$(pid_of "$kafka_pid") && kill -s "$1" "$pid"
}

ask_kafka() {
    local tool=$1
    shift
    load_env
    kafka_tool "org.apache.kafka.tools.$tool" --bootstrap-server "$ANALYTICS_KAFKA_BOOTSTRAP_SERVERS" "$@"
}

topics() { ask_kafka TopicCommand --list --exclude-internal; }

create_topics() { # PARTITIONS NAME…
    local partitions=$1 topic existing
    shift
    existing=$(topics)
    for topic; do
        if ! grep -qxF -- "$topic" <<<"$existing"; then
            ask_kafka TopicCommand --create --if-not-exists --topic "$topic" --partitions "$partitions" --replication-factor 1 |
                sed '/^WARNING: Due to limitations in metric names/d'
        fi
    done
}

# Without the trace of its stack: the line before it says what is wrong.
lag() { ask_kafka consumer.group.ConsumerGroupCommand --describe --offsets --group "${1:-analytics-service}" 2>/dev/null; }

# Kafka's producer logs what it could not send and exits with 0, so a misspelt name would pass.
produce() {
    topics | grep -xF -- "$1" >/dev/null || die "there is no topic '$1': 'dev/stack topics' lists them"
    ask_kafka ConsoleProducer --topic "$1" --command-property max.block.ms=5000
}

# Sourced by dev/stack: both servers from the repository that Maven knows, kept for all checkouts.
# shellcheck shell=bash disable=SC2034,SC2154 # Its settings are set there, or used there.

fetch_kafka() {
    local work
    [[ -d $kafka_libs ]] || {
        hint "fetching Kafka $kafka_version (about 40 MB) …"
        work=$(new_folder_in_cache)
        pom "org.apache.kafka:kafka_2.13:$kafka_version" "org.apache.kafka:kafka-tools:$kafka_version" \
            "org.apache.logging.log4j:log4j-slf4j-impl:$log4j_version" \
            "org.apache.logging.log4j:log4j-core:$log4j_version" >"$work/pom.xml"
        maven "$work" copy-dependencies "-DoutputDirectory=$work/libs" || die "could not fetch Kafka $kafka_version"
        keep "$work" "$kafka_home"
    }
    log4j_settings >"$kafka_home/log4j2.properties.$$"
    mv -f -- "$kafka_home/log4j2.properties.$$" "$kafka_home/log4j2.properties"
}

fetch_postgres() {
    local work architecture=amd64
    [[ $(uname -m) == x86_64 ]] || architecture=arm64v8
    postgres_binaries=$cache/postgresql-$postgres_version-$architecture/bin
    [[ -d $postgres_binaries ]] || {
        hint "fetching PostgreSQL $postgres_version (about 15 MB) …"
        work=$(new_folder_in_cache)
        pom "io.zonky.test.postgres:embedded-postgres-binaries-linux-$architecture:$postgres_version" >"$work/pom.xml"
        maven "$work" unpack-dependencies "-DoutputDirectory=$work/jar" ||
            die "could not fetch PostgreSQL $postgres_version"
        tar -xJf "$work"/jar/*.txz -C "$work" --no-same-owner
        rm -rf -- "$work/jar"
        keep "$work" "$(dirname -- "$postgres_binaries")"
    }
    "${as_postgres[@]}" test -x "$postgres_binaries/postgres" ||
        die "the user nobody cannot reach $postgres_binaries: set STACK_CACHE to a folder that everybody can read"
}

new_folder_in_cache() {
    mkdir -p -- "$cache"
    mktemp -d -- "$cache/fetching.XXXXXX"
}

# keep WORK HOME: only whole downloads ever have their final name; another checkout may have been quicker.
keep() {
    rm -f -- "$1/pom.xml" "$1/log"
    chmod -R u+rwX,go+rX,go-w -- "$1"
    mv -T -- "$1" "$2" 2>/dev/null || [[ -d $2 ]] || die "could not write $2"
    rm -rf -- "$1"
}

maven() {
    local work=$1 goal=$2
    shift 2
    with_log "$work/log" mvn -q -B -f "$work/pom.xml" "$maven_dependency:$goal" "$@" || {
        rm -rf -- "$work"
        return 1
    }
}

pom() {
    local artifact parts
    say '<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>stack</artifactId>'
    say '<version>1</version><packaging>pom</packaging><dependencies>'
    for artifact; do
        IFS=: read -r -a parts <<<"$artifact"
        say "<dependency><groupId>${parts[0]}</groupId><artifactId>${parts[1]}</artifactId>"
        say "<version>${parts[2]}</version></dependency>"
    done
    say '</dependencies></project>'
}

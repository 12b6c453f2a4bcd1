# Sourced by dev/stack: one PostgreSQL, its roles and its database.
# shellcheck shell=bash disable=SC2034,SC2154 # Its settings are set there, or used there.

launch_postgres() {
    prepare_postgres_home
    [[ -f $postgres_data/ready ]] || create_cluster
    # Left by a server that was killed; the number in it may be somebody else's by now.
    rm -f -- "$postgres_data/postmaster.pid"
    [[ ! -f $logs/postgres.log ]] || mv -f -- "$logs/postgres.log" "$logs/postgres.log.1"
    cd / # The user it runs as may not be able to reach this folder.
    launch "$postgres_pid" "$logs/postgres.log" "${as_postgres[@]}" "$postgres_binaries/postgres" -D "$postgres_data" \
        -c listen_addresses=127.0.0.1 -c "port=$postgres_port" -c unix_socket_directories= \
        -c max_connections=200 -c shared_buffers=256MB -c log_line_prefix='%m [%p] %q%u@%d '
}

prepare_postgres_home() {
    mkdir -p -- "$postgres_home"
    # /var/tmp is everybody's.
    [[ -O $postgres_home && ! -L $postgres_home ]] || die "$postgres_home belongs to somebody else: remove it"
    ((EUID != 0)) || install -d -o nobody -g "$(id -g nobody)" -m 700 -- "$postgres_data"
}

# Without psql: statements go to a server of one user, over its standard input.
create_cluster() {
    find "$postgres_data" -mindepth 1 -delete 2>/dev/null || true
    (cd / && with_log "$logs/initdb.log" "${as_postgres[@]}" "$postgres_binaries/initdb" -D "$postgres_data" -U postgres \
        --encoding=UTF8 --locale=C.UTF-8 --auth=trust --no-sync) || die 'initdb failed'
    printf 'host all all 127.0.0.1/32 scram-sha-256\n' >"$postgres_data/pg_hba.conf"
    single_user <<STATEMENTS
ALTER ROLE postgres PASSWORD '$password'
CREATE ROLE analytics_writer NOLOGIN
CREATE ROLE analytics_reader NOLOGIN
CREATE ROLE analytics_owner LOGIN CREATEROLE PASSWORD '$password'
CREATE ROLE analytics_ingest LOGIN PASSWORD '$password' IN ROLE analytics_writer
CREATE ROLE analytics_query LOGIN PASSWORD '$password' IN ROLE analytics_reader
CREATE DATABASE $database OWNER analytics_owner
STATEMENTS
    sync -f -- "$postgres_data"
    touch -- "$postgres_data/ready"
}

single_user() {
    (cd / && "${as_postgres[@]}" "$postgres_binaries/postgres" --single -D "$postgres_data" -c exit_on_error=on \
        -c unix_socket_directories= postgres >"$logs/single-user.log" 2>&1) || {
        show_tail "$logs/single-user.log"
        die 'PostgreSQL refused a statement'
    }
}

wait_for_postgres() { # START WAS
    if ! eventually 60 postgres_answers_or_ended || has_ended "$postgres_pid"; then
        show_tail "$logs/postgres.log"
        die 'PostgreSQL does not answer'
    fi
    report postgresql "$postgres_version" "$postgres_port" "$1" "$2"
}

postgres_answers_or_ended() { has_ended "$postgres_pid" || postgres_answers; }

# The server itself says so, in the last line of this file, once it has recovered and takes connections.
postgres_answers() {
    local lines=()
    mapfile -t lines 2>/dev/null <"$postgres_data/postmaster.pid" || return 1
    [[ ${lines[0]:-} == "$(pid_of "$postgres_pid")" && ${lines[7]:-} == ready* ]]
}

stop_postgres() {
    local signal
    case ${1:-fast} in
        fast) signal=INT ;;
        immediate) signal=QUIT ;;
        *) die "'$1' is not a way to stop PostgreSQL: fast or immediate" ;;
    esac
    is_running "$postgres_pid" || return 0
    if stop_process "$postgres_pid" "$signal" 30; then say 'postgresql      stopped'; else say 'postgresql      killed'; fi
}

reset_database() {
    stop_postgres fast >/dev/null
    single_user <<STATEMENTS
DROP DATABASE IF EXISTS $database
CREATE DATABASE $database OWNER analytics_owner
STATEMENTS
    start_again postgres
    say "database        $database is empty"
}

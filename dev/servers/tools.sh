# Sourced by dev/stack: what must be on the machine before anything else, and how it gets there.
# shellcheck shell=bash disable=SC2034,SC2154 # Its settings are set there, or used there.

tools() {
    local packages
    check_platform
    packages=$(missing_packages)
    if [[ -n $packages ]]; then
        install_packages "$packages"
        packages=$(missing_packages)
        [[ -z $packages ]] || die "still missing after the installation: $packages"
    fi
    check_rust
    say 'tools           all there'
}

# What only tests run: a pooler, certificates, a fuzzer of HTTP APIs.
test_tools() {
    local packages=()
    command -v pgbouncer >/dev/null || [[ -x /usr/sbin/pgbouncer ]] || packages+=(pgbouncer)
    command -v openssl >/dev/null || packages+=(openssl)
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    if ((${#packages[@]})); then install_packages "${packages[*]}"; fi
    fetch_schemathesis
    say 'test tools      all there'
}

# `schemathesis` in a Python environment of its own, kept for all checkouts.
fetch_schemathesis() {
    local work
    [[ -x $schemathesis ]] || {
        hint "fetching schemathesis $schemathesis_version (about 40 MB) …"
        work=$(dirname -- "$(dirname -- "$schemathesis")")
        mkdir -p -- "$cache"
        rm -rf -- "$work"
        with_log "$cache/schemathesis.log" python3 -m venv "$work" || die 'python3 could not make a virtual environment'
        with_log "$cache/schemathesis.log" "$work/bin/pip" install --disable-pip-version-check -q \
            "schemathesis==$schemathesis_version" || { rm -rf -- "$work"; die "could not fetch schemathesis"; }
    }
}

check_platform() {
    local architecture
    architecture=$(uname -m)
    if [[ $(uname -s) != Linux || ! $architecture =~ ^(x86_64|aarch64)$ || ! -e /etc/debian_version ]]; then
        die "the local servers need Debian or Ubuntu on amd64 or arm64; this is $(uname -s) on $architecture"
    fi
}

missing_packages() {
    local packages=()
    command -v g++ >/dev/null && command -v cc >/dev/null || packages+=(g++)
    command -v make >/dev/null || packages+=(make)
    command -v pkg-config >/dev/null || packages+=(pkg-config)
    # What librdkafka is built against.
    has_library zlib || packages+=(zlib1g-dev)
    has_library libssl || packages+=(libssl-dev)
    command -v xz >/dev/null || packages+=(xz-utils)
    command -v mvn >/dev/null || packages+=(maven)
    (($(java_major) >= 17)) || packages+=("$(java_package)")
    printf '%s' "${packages[*]}"
}

has_library() { command -v pkg-config >/dev/null && pkg-config --exists "$1"; }

java_major() {
    local line
    line=$(java -version 2>&1 | grep -m 1 'version "' || true)
    [[ $line =~ \"([0-9]+) ]] && printf '%s' "${BASH_REMATCH[1]}" || printf 0
}

# The oldest releases' default is older than the 17 that Kafka needs.
java_package() {
    local ID='' VERSION_ID=''
    # shellcheck source=/dev/null
    source /etc/os-release
    case $ID-$VERSION_ID in
        debian-11 | debian-12 | ubuntu-20.* | ubuntu-22.*) printf openjdk-17-jre-headless ;;
        *) printf default-jre-headless ;;
    esac
}

install_packages() {
    local started=$EPOCHREALTIME log
    if ((EUID != 0)); then
        say "Some packages are missing. Run this line, then try again:"
        say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $1"
        exit 1
    fi
    log=$(mktemp)
    hint "installing $1 (a minute or two) …"
    export DEBIAN_FRONTEND=noninteractive
    with_log "$log" apt-get update -q || die 'apt-get update failed'
    # shellcheck disable=SC2086 # One word per package.
    with_log "$log" apt-get install -q -y --no-install-recommends $1 || die "apt-get could not install $1"
    rm -f -- "$log"
    say "packages        installed in $(seconds_since "$started") s"
}

check_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$checkout/Cargo.toml")
    found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2 || true)
    [[ -n $found ]] ||
        die "Rust is missing: install $wanted or newer with rustup (https://rustup.rs), open a new shell, try again"
    [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1) == "$wanted" ]] ||
        die "Rust is $found, not $wanted or newer: run 'rustup update stable' (https://rustup.rs), try again"
}

# What the stress scripts share. Sourced by scripts that run with `set -euo pipefail`, from the top of the repository.

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

# read_numbers USAGE NAME=VARIABLE... -- ARGUMENT... - reads options that are whole numbers, and exports them.
read_numbers() {
    local usage=$1 option value known
    local -A variables=()
    shift
    while [[ $1 != -- ]]; do
        variables[--${1%%=*}]=${1#*=}
        shift
    done
    shift
    while (($# > 0)); do
        option=${1%%=*}
        if [[ $option == -h || $option == --help ]]; then
            echo "$usage"
            exit
        fi
        known=${variables[$option]-}
        [[ -n $known ]] || fail "unknown option: $option" "$usage"
        if [[ $1 == *=* ]]; then
            value=${1#*=}
        else
            value=${2-}
            shift
        fi
        [[ $value =~ ^[0-9]+$ ]] || fail "$option needs a number" "$usage"
        export "$known=$value"
        shift
    done
}

# prepare_stress PACKAGE... - installs what is missing, builds the binary as users have it, and keeps a copy of it: what
# is built meanwhile does not change it.
prepare_stress() {
    section "what is needed"
    require_rust
    install_missing gcc libc6-dev make "$@"
    run cargo build --release --locked
    copies=$(mktemp -d)
    trap 'rm -rf "$copies"' EXIT
    cp "${CARGO_TARGET_DIR:-target}/release/yester" "$copies"
    export STRESS_YESTER=$copies/yester
}

# stress TEST - runs one of the stress tests; what it needs and is not there is an error.
stress() {
    section "$1"
    CI=true run cargo test --locked --test stress -- --exact "$1" --nocapture
}

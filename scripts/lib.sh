# What the scripts share: messages, and making sure that everything they need is there.
# Sourced by scripts that run with `set -euo pipefail`, from the top of the repository.

bold='' dim='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'
fi

# section TITLE - begins a part of the output.
section() {
    printf '\n%s== %s ==%s\n' "$bold" "$1" "$plain"
}

# fail MESSAGE... - ends the script; every argument is a line.
fail() {
    printf '%serror:%s %s\n' "$red" "$plain" "$1" >&2
    shift
    if (($# > 0)); then
        printf '  %s\n' "$@" >&2
    fi
    exit 1
}

# run COMMAND... - shows a command as one would type it, then runs it.
run() {
    local word line=''
    for word in "$@"; do
        [[ $word =~ ^[][A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
        line+=" $word"
    done
    printf '%s$%s%s\n' "$dim" "$line" "$plain"
    "$@"
}

# version_at_least HAVE WANT
version_at_least() {
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

# require_rust COMPONENT... - checks for the toolchain that Cargo.toml asks for.
require_rust() {
    local want have component
    want=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null && [[ -r ${HOME:-/nonexistent}/.cargo/env ]]; then
        # shellcheck disable=SC1091
        source "$HOME/.cargo/env"
    fi
    command -v cargo >/dev/null && command -v rustc >/dev/null ||
        fail "there is no Rust toolchain; version $want or newer is needed" \
            "one way: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    have=$(rustc --version | cut -d ' ' -f 2)
    version_at_least "$have" "$want" ||
        fail "Rust $have is too old; version $want or newer is needed" "one way: rustup update stable"
    for component in "$@"; do
        cargo "$component" --version >/dev/null 2>&1 ||
            fail "cargo $component is missing" "one way: rustup component add ${component/fmt/rustfmt}"
    done
    echo "Rust $have"
}

# is_installed PACKAGE - tells whether a Debian package is there.
is_installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
}

# install_missing PACKAGE... - installs Debian packages that are missing, and says which.
install_missing() {
    local package missing=() as_root=()
    if ! command -v dpkg-query >/dev/null; then
        fail "packages can be installed on Debian and its relatives alone" \
            "install what these Debian packages hold, then take this call out: $*"
    fi
    for package in "$@"; do
        if ! is_installed "$package"; then
            missing+=("$package")
        fi
    done
    if ((${#missing[@]} == 0)); then
        echo "Debian packages: all there"
        return
    fi
    echo "Debian packages to install: ${missing[*]}"
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            fail "only root can install packages" "run as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends "${missing[@]}"
}

# python_environment FOLDER REQUIREMENTS - makes a Python environment, unless it is there already. The list names
# all that is installed, with hashes.
python_environment() {
    local folder=$1 wanted=$2
    if ! cmp -s "$wanted" "$folder/installed.txt"; then
        # The system's Python: of another, the wheels may have no hash in the list.
        run /usr/bin/python3 -m venv --clear "$folder"
        run "$folder/bin/python3" -m pip install -q --disable-pip-version-check \
            --no-deps --require-hashes --only-binary :all: -r "$wanted"
        cp "$wanted" "$folder/installed.txt"
    fi
}

# prepare_reader - makes the Python environment of mount-tests/reader.py, unless it is there already.
prepare_reader() {
    python_environment target/reader mount-tests/reader/requirements.txt
    echo "Python packages: all there"
}

# prepare_postgres18 - puts PostgreSQL 18 below target, unless it is there already.
prepare_postgres18() {
    python_environment target/postgres18 mount-tests/dumps/requirements.txt
    echo "PostgreSQL 18: there"
}

# postgres_bin - prints the directory of the newest installed PostgreSQL server.
postgres_bin() {
    local newest
    newest=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort -V | tail -n 1)
    [[ -n $newest ]] || fail "there is no PostgreSQL server under /usr/lib/postgresql"
    echo "$newest/bin"
}

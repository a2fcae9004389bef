# Garage, an S3 server of others, for the scripts that try yester with it: built once, run on loopback.
# Sourced by scripts that run with `set -euo pipefail`, from the top of the repository, after scripts/lib.sh.

garage_version=2.5.0
garage_folder=${YESTER_TOOLS:-/var/tmp/yester-tools}/garage

# prepare_garage - builds Garage, unless it is there already. It takes some ten minutes.
prepare_garage() {
    if [[ ! -x $garage_folder/bin/garage ]]; then
        run cargo install --quiet garage --version "$garage_version" --locked --no-default-features \
            --features bundled-libs,sqlite --root "$garage_folder" --target-dir "$garage_folder/target"
        rm -rf "$garage_folder/target"
    fi
    "$garage_folder/bin/garage" --version
}

# garage NODE ARGUMENT... - runs a command of a node. Needs $garage_data, where the nodes keep theirs.
garage() {
    local node=$1
    shift
    "$garage_folder/bin/garage" -c "$garage_data/$node.toml" "$@" 2>>"$garage_data/commands.log"
}

# free_port - prints a port that nothing listens on.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# configure_garage NODES - writes the configurations of so many nodes, which keep as many copies. Sets garage_url_N.
configure_garage() {
    local nodes=$1 node secret rpc s3
    secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    for ((node = 1; node <= nodes; node++)); do
        rpc=$(free_port) s3=$(free_port)
        printf -v "garage_url_$node" 'http://127.0.0.1:%s' "$s3"
        cat >"$garage_data/$node.toml" <<END
metadata_dir = "$garage_data/$node/meta"
data_dir = "$garage_data/$node/data"
db_engine = "sqlite"
replication_factor = $nodes
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$secret"

[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$s3"
END
    done
}

# start_garage NODE - starts a node in the background, and sets garage_pid_NODE.
start_garage() {
    "$garage_folder/bin/garage" -c "$garage_data/$1.toml" server >>"$garage_data/$1.log" 2>&1 &
    printf -v "garage_pid_$1" '%s' "$!"
    patiently garage "$1" status >/dev/null
}

# patiently COMMAND... - runs a command until it succeeds, for half a minute.
patiently() {
    local attempt
    for ((attempt = 0; attempt < 60; attempt++)); do
        "$@" && return
        sleep 0.5
    done
    fail "$* does not succeed; see $garage_data"
}

# unite_garage NODES BUCKET - makes one cluster of the nodes, with a bucket, and exports a key to it.
unite_garage() {
    local nodes=$1 bucket=$2 node id key
    for ((node = 1; node <= nodes; node++)); do
        id=$(garage "$node" node id -q)
        patiently garage 1 node connect "$id" >/dev/null
        patiently garage 1 layout assign -z "zone$node" -c 20G "${id%@*}" >/dev/null
    done
    garage 1 layout apply --version 1 >/dev/null
    patiently garage 1 bucket create "$bucket" >/dev/null
    key=$(garage 1 key create yester)
    garage 1 bucket allow --read --write --owner "$bucket" --key yester >/dev/null
    AWS_ACCESS_KEY_ID=$(sed -n 's/^Key ID: *//p' <<<"$key")
    AWS_SECRET_ACCESS_KEY=$(sed -n 's/^Secret key: *//p' <<<"$key")
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION=garage AWS_EC2_METADATA_DISABLED=true
}

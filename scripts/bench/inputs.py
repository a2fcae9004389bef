"""What the benchmarks work on: a large source tree, and the peers to compare with. Made once, then reused."""

import os
import pathlib
import subprocess
import sys

# Packages of the Rust registry whose sources, with all they depend on, are a tree of about 70,000 files.
CRATES = {
    "aws-sdk-ec2": '"1"',
    "aws-sdk-s3": '"1"',
    "bevy": '"0.20"',
    "datafusion": '"55"',
    "iced": '"0.14"',
    "leptos": '"0.8"',
    "polars": '{ version = "0.55", features = ["lazy", "sql"] }',
    "swc_core": '"83"',
    "tauri": '"2"',
    "wasmtime": '"50"',
    "windows": '"0.62"',
}


def source_tree(folder):
    """Returns a folder with the unpacked sources of many packages."""
    tree = folder / "tree"
    if not tree.is_dir():
        project = folder / "tree-project"
        (project / "src").mkdir(parents=True, exist_ok=True)
        (project / "src/main.rs").write_text("fn main() {}\n")
        dependencies = "\n".join(f"{name} = {version}" for name, version in CRATES.items())
        (project / "Cargo.toml").write_text(
            f'[package]\nname = "tree"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n{dependencies}\n'
        )
        print("fetching the sources of a large tree (once)", file=sys.stderr)
        subprocess.run(["cargo", "vendor", "--quiet", str(folder / "tree.new")], cwd=project, check=True,
                       stdout=subprocess.DEVNULL)
        (folder / "tree.new").rename(tree)
    return tree


def tree_size(tree):
    """Returns the number of files below a folder and the sum of their bytes."""
    files = [path for path in pathlib.Path(tree).rglob("*") if path.is_file() and not path.is_symlink()]
    return len(files), sum(path.stat().st_size for path in files)


def restic(folder):
    """Returns a restic from Debian's newest suite, unpacked beside the system's packages, not installed."""
    binary = folder / "restic/usr/bin/restic"
    if not binary.exists():
        root = folder / "apt"
        for part in ("state/lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True, exist_ok=True)
        (root / "sources.list").write_text(
            f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {debian_mirror()} sid main\n"
        )
        apt = ["apt-get", "-qq",
               "-o", f"Dir::Etc::sourcelist={root}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null",
               "-o", f"Dir::State={root}/state", "-o", f"Dir::Cache={root}/cache",
               "-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "download", "restic"], cwd=root, check=True)
        package = next(root.glob("restic_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "restic")], check=True)
    return binary


def debian_mirror():
    """Returns the mirror that this machine's own sources name."""
    for path in pathlib.Path("/etc/apt").rglob("*"):
        if path.suffix == ".sources":
            for line in path.read_text().splitlines():
                if line.startswith("URIs:"):
                    return line.split()[1]
        elif path.suffix == ".list":
            for line in path.read_text().splitlines():
                if line.startswith("deb ") and "debian" in line:
                    return next(word for word in line.split() if "://" in word)
    sys.exit(f"no Debian mirror is named below /etc/apt ({os.uname().nodename})")

"""What the benchmarks work on: a large source tree, and the peers to compare with. Made once, then reused."""

import os
import pathlib
import random
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


def many_files(folder):
    """Returns a folder with 1,000 folders of 1,000 small files each."""
    return made_once(folder / "million", lambda new: write_small_files(new, folders=1000, files=1000))


def large_directory(folder):
    """Returns a folder with 300,000 small files side by side."""
    return made_once(folder / "directory", lambda new: write_small_files(new, folders=1, files=300_000))


def sparse_file(folder):
    """Returns a folder with a file of 100 GB that is all holes but for 64 islands, at both ends as well."""
    return made_once(folder / "sparse", lambda new: write_islands(new / "disk.img", 100 * 10**9, islands=64))


def made_once(folder, make):
    if not folder.is_dir():
        print(f"making {folder} (once)", file=sys.stderr)
        new = folder.with_name(folder.name + ".new")
        subprocess.run(["rm", "-rf", str(new)], check=True)
        new.mkdir(parents=True)
        make(new)
        new.rename(folder)
    return folder


def write_small_files(root, folders, files):
    """Writes files of at most 2,000 bytes that look like the orders of a small shop; the same in every run."""
    choose = random.Random(20261121)
    names = [f"{choose.choice('BCDFGKLMNPRST')}{choose.choice('aeiou')}{choose.choice('lmnrst')}{choose.choice('aeio')}"
             for _ in range(400)]
    lines = [
        f'  {{"sku": "{choose.randrange(10**8):08}", "name": "{choose.choice(names)} {choose.choice(names)}", '
        f'"count": {choose.randrange(1, 40)}, "price": {choose.randrange(99, 99999) / 100}}},\n'.encode()
        for _ in range(20_000)
    ]
    for folder in range(folders):
        path = f"{root}/{folder:04}"
        os.mkdir(path)
        for number in range(files):
            order = f'{{"order": "{choose.getrandbits(64):016x}", "by": "{choose.choice(names)}", "items": [\n'
            body = b"".join(choose.choices(lines, k=choose.randrange(24)))
            with open(f"{path}/order-{number:06}.json", "wb", buffering=0) as file:
                file.write(order.encode() + body + b"]}\n")


def write_islands(path, length, islands):
    """Writes islands of 1 to 4 MiB: the first at the beginning, the last up to the end."""
    choose = random.Random(20261121)
    with path.open("wb") as file:
        file.truncate(length)
        for number in range(islands):
            island = choose.randbytes(choose.randrange(1 << 20, 4 << 20))
            file.seek((length - len(island)) * number // (islands - 1))
            file.write(island)


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

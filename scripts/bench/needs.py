"""What must be there before anything is measured: Debian packages, the peers' programs, and this one's. Made once."""

import os
import pathlib
import shutil
import subprocess
import sys

from peers import Borg, Restic, Rustic, Yester

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ["fuse3", "zstd", "tar", "diffutils", "findutils", "mount", "postgresql", "redis-server", "redis-tools",
            "strace", "python3-pip"]
BORG_PACKAGES = ["python3-venv", "python3-dev", "gcc", "libc6-dev", "pkg-config", "libacl1-dev", "libssl-dev",
                 "liblz4-dev", "libzstd-dev", "libxxhash-dev", "libfuse3-dev"]
RUSTIC_PACKAGES = ["gcc", "libc6-dev", "pkg-config", "libfuse3-dev", "cmake", "make"]


def tools(folder, runs, without=(), yester=None):
    """Returns the peers that are asked for and this program, each with a folder of its own below `runs`.

    The peers themselves are in `folder`, and stay there.
    """
    packages = list(PACKAGES)
    packages += BORG_PACKAGES if "borg" not in without else []
    packages += RUSTIC_PACKAGES if "rustic" not in without else []
    install_missing(packages)
    makers = {"restic": (Restic, restic), "borg": (Borg, borg), "rustic": (Rustic, rustic)}
    peers = [kind(make(folder), runs / f"{name}-run") for name, (kind, make) in makers.items()
             if name not in without]
    return [*peers, Yester(yester or build(), runs / "yester-run")]


def install_missing(packages):
    script = 'source scripts/lib.sh; install_missing "$@" >&2'
    subprocess.run(["bash", "-euo", "pipefail", "-c", script, "bash", *dict.fromkeys(packages)], cwd=REPOSITORY,
                   check=True)


def build():
    """Returns this program, built for release."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=REPOSITORY, check=True)
    return target_folder() / "release/yester"


def target_folder():
    """Returns where Cargo puts what it builds."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))


def borg(folder):
    """Returns the newest borg of the Python registry, in an environment of its own."""
    binary = folder / "borg/bin/borg"
    if not binary.exists():
        print("building borg (once)", file=sys.stderr)
        # The system's Python, to which the development headers belong.
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", folder / "borg"], check=True)
        subprocess.run([folder / "borg/bin/pip", "install", "-q", "--disable-pip-version-check",
                        "borgbackup[pyfuse3]"], check=True)
    return binary


def rustic(folder):
    """Returns the newest rustic of the Rust registry, as its authors build it but for what backups do not need."""
    binary = folder / "rustic/bin/rustic"
    if not binary.exists():
        print("building rustic (once, some 20 minutes)", file=sys.stderr)
        subprocess.run(["cargo", "install", "--quiet", "rustic-rs", "--locked", "--no-default-features",
                        "--features", "mount", "--root", folder / "rustic", "--target-dir", folder / "rustic-target"],
                       check=True)
        shutil.rmtree(folder / "rustic-target")
    return binary


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

#!/usr/bin/env python3
"""Measures what hosts with ingest-only keys lose: what two hosts share, what the next night finds, and deltas.

Backs up TREE and five nights of a table, as `all` measures them by "series", from two hosts: once with full keys, once
with an ingest-only key for each host. Prints the table of docs/security.md. Needs neither root nor peers; the stores
take some 3 times what TREE takes, below FOLDER.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import night_inputs  # noqa: E402
from inputs import tree_size  # noqa: E402
from tools import stored_mb  # noqa: E402

NIGHTS = 5


class Host:
    """A host with folders and a key of its own."""

    def __init__(self, folder, yester, store, name, key):
        self.folder, self.yester, self.store, self.name = folder / f"{store.name}-{name}", yester, store, name
        self.environment = os.environ | {
            "YESTER_STORE": str(store), "YESTER_KEY_FILE": str(key),
            "CACHE_DIRECTORY": str(self.folder / "cache"), "STATE_DIRECTORY": str(self.folder / "state")}

    def run(self, *arguments, source=subprocess.DEVNULL):
        command = [self.yester, *arguments, "--quiet"]
        subprocess.run(command, env=self.environment, stdin=source, stdout=subprocess.DEVNULL, check=True)

    def ingest(self, *arguments, source=subprocess.DEVNULL):
        """Returns what the store grew by, and the seconds that took."""
        before, began = stored_mb(self.store), time.monotonic()
        self.run("ingest", "--host", self.name, *arguments, source=source)
        return stored_mb(self.store) - before, time.monotonic() - began

    def lose_cache(self):
        shutil.rmtree(self.folder / "cache")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=pathlib.Path, metavar="TREE")
    parser.add_argument("--yester", default="target/release/yester", metavar="FILE")
    parser.add_argument("--folder", type=pathlib.Path, help="where the stores are made [default: a temporary folder]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="hosts-") as folder:
        folder = pathlib.Path(folder)
        measured = [measure(folder, arguments, kind) for kind in ("full", "ingest-only")]
    files, length = tree_size(arguments.tree)
    print(f"{arguments.tree}: {files:,} files, {length / 10**6:,.0f} MB\n")
    print("| | full keys | ingest-only keys |\n|---|---:|---:|")
    for line in measured[0]:
        print(f"| {line} | {' | '.join(shown(*figures[line]) for figures in measured)} |")


def shown(growth, seconds):
    return f"{growth:.{1 if growth >= 10 else 3}f} MB, {seconds:.1f} s"


def measure(folder, arguments, kind):
    """Returns growth and seconds of each backup, by what it is."""
    store, key = folder / kind, folder / f"{kind}.key"
    admin = Host(folder, arguments.yester, store, "admin", key)
    admin.run("init")
    hosts = []
    for name in ("one", "two"):
        own = key
        if kind == "ingest-only":
            own = folder / f"{name}.key"
            admin.run("key", "export", "--host", name, "--output", str(own))
        hosts.append(Host(folder, arguments.yester, store, name, own))
    one, two = hosts
    tree = [str(arguments.tree), "--source", "tree"]
    figures = {
        "first host, first night": one.ingest(*tree),
        "second host, first night, the same files": two.ingest(*tree),
        "first host, next night, nothing changed": one.ingest(*tree),
    }
    path, nights = folder / "rows", []
    for night in night_inputs.series(path, 1):
        with path.open("rb") as rows:
            nights.append(one.ingest("--as", "rows", source=rows))
        if night == NIGHTS:
            break
    figures["a table, first night"] = nights[0]
    figures["the table, each later night"] = [sum(part) / (NIGHTS - 1) for part in zip(*nights[1:])]
    one.lose_cache()
    figures["first host, its cache lost, the files once more"] = one.ingest(*tree)
    return figures


if __name__ == "__main__":
    main()

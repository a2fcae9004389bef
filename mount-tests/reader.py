"""A second reader of yester's stores, which shares no code with the program.

It was written from docs/format.md alone, to whose sections § refers. It proves that the specification is
enough to read a store, and keeps the program honest: both have to read every store of the tests alike. It
prefers being short over being fast, refuses what it cannot rely on, though not all that the specification
forbids, and never writes to a store.

    python3 mount-tests/reader.py STORE [--passphrase-file F | --key-file F | --recovery-key F] COMMAND

    list               one line of JSON for each snapshot
    ls SNAP            one line of JSON for each entry of a snapshot's tree
    extract SNAP DIR   files, directories and links, with modes and times, to a new folder
    cat SNAP PATH      the content of one file
    check              opens and re-hashes everything, and prints what it counted

SNAP is the beginning of a session id, or of the random part of one. Byte strings that are not UTF-8 are shown
as {"b64": "..."}. The exit code is 0, or 1 if something was refused.

It needs Python 3.11 and the packages in reader/requirements.txt. Start reading in reader/store.py.
"""

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reader.keys import DATA, Credential
from reader.packs import DELTA, Pack
from reader.rules import Refused, decode_json, require, shown, warn
from reader.store import NUMBER, NUMBERED, SESSION_ID, SLOT, Store, standing
from reader.trees import BLOCK, CHARACTER, DIRECTORY, FILE, KIND_NAMES, SYMLINK, Entry, Tree, file_bytes


def describe(tree: Tree, path: bytes, entry: Entry) -> dict[str, Any]:
    """An entry as JSON; values of extended attributes by their SHA-256."""
    mode, uid, gid, user, group, mtime, _, _, xattrs = entry.attributes
    owners = [None if owner is None else shown(owner) for owner in (user, group)]
    line: dict[str, Any] = {"path": shown(path), "kind": KIND_NAMES[entry.kind], "mode": f"{mode:04o}"}
    line |= {"uid": uid, "gid": gid, "user": owners[0], "group": owners[1], "size": file_bytes(entry)}
    line["mtime"] = {"seconds": mtime // 10**9, "nanoseconds": mtime % 10**9}
    if entry.kind == DIRECTORY:
        line["entries"] = entry.detail[1]
    elif entry.kind == SYMLINK:
        line |= {"target": shown(entry.detail), "size": len(entry.detail)}
    elif entry.kind in (CHARACTER, BLOCK):
        line["device"] = "{},{}".format(*entry.detail)
    if entry.link is not None:
        line |= {"link_group": f"{entry.link[0]:016x}", "links": entry.link[1]}
    if xattrs:
        values = [(name, tree.xattr(value)) for name, value in xattrs]
        line["xattrs"] = [
            [shown(name), len(value), hashlib.sha256(value).hexdigest()] for name, value in values
        ]
    return line


def run_list(store: Store) -> None:
    """Prints all snapshots."""
    for body in store.snapshots():
        chosen = ("id", "time", "source", "host", "tags", "paths", "completeness")
        line = {name: body[name] for name in chosen}
        line["marks"] = store.marks(body["id"])
        line["standing"] = standing(line["marks"])
        print(json.dumps(line))


def run_ls(store: Store, snapshot: str) -> None:
    """Prints all entries of a snapshot."""
    tree = Tree(store, store.find_snapshot(snapshot))
    for path, entry in tree.walk(tree.root):
        print(json.dumps(describe(tree, path, entry)))


def run_cat(store: Store, snapshot: str, path: str) -> None:
    """Writes one file to standard output."""
    tree = Tree(store, store.find_snapshot(snapshot))
    tree.write(tree.find(os.fsencode(path)), sys.stdout.buffer, seekable=False)


def run_extract(store: Store, snapshot: str, target: str) -> None:
    """Writes the tree of a snapshot to a new folder."""
    tree = Tree(store, store.find_snapshot(snapshot))
    top = os.fsencode(target)
    os.mkdir(top)
    linked: dict[int, bytes] = {}
    directories = [(top, tree.attributes)]
    for path, entry in tree.walk(tree.root):
        place = os.path.join(top, path)
        if entry.link is not None and entry.link[0] in linked:
            os.link(linked[entry.link[0]], place, follow_symlinks=False)
            continue
        if entry.kind == FILE:
            with open(place, "xb") as file:
                tree.write(entry, file, seekable=True)
            set_attributes(place, entry.attributes)
        elif entry.kind == DIRECTORY:
            os.mkdir(place, 0o700)
            directories.append((place, entry.attributes))
        elif entry.kind == SYMLINK:
            os.symlink(entry.detail, place)
            os.utime(place, ns=(entry.attributes[5],) * 2, follow_symlinks=False)
        else:
            warn(f"not extracted: {KIND_NAMES[entry.kind]} {json.dumps(shown(path))}")
            continue
        if entry.link is not None:
            linked[entry.link[0]] = place
    # Only now, since writing into a directory needs its write permission and changes its time.
    for place, attributes in reversed(directories):
        set_attributes(place, attributes)


def set_attributes(place: bytes, attributes: list[Any]) -> None:
    """Sets mode and modification time of what is no symbolic link."""
    os.chmod(place, attributes[0])
    os.utime(place, ns=(attributes[5],) * 2)


def run_check(store: Store) -> None:
    """Opens and re-hashes everything, and prints what it counted."""
    check = Check(store)
    check.everything()
    print(json.dumps(dict(sorted(check.counts.items())) | {"refused": check.refused}))
    require(check.refused == 0, f"{check.refused} objects were refused")


class Check:
    """Goes through all objects of a store, and on after what is refused."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts: Counter[str] = Counter()
        self.refused = 0
        self.listed: dict[bytes, list[Pack]] = {}
        for index in store.index_objects.values():
            for pack in index.packs:
                self.listed.setdefault(pack.id, []).append(pack)

    def everything(self) -> None:
        """Checks each kind of object; the config was checked when the store was opened."""
        store = self.store
        self.each("key slots", store.keys_of(SLOT), self.slot)
        self.each("packs", store.pack_keys(), self.pack)
        self.each("index objects", store.keys_of(rf"index/{NUMBERED}"), store.open_index)
        self.each("session marks", store.keys_of(rf"sessions/{NUMBERED}"), store.session_mark)
        self.each("marks", store.keys_of(rf"marks/{NUMBERED}"), store.mark)
        self.each("snapshots", store.keys_of(f"snapshots/{SESSION_ID}"), self.snapshot)

    def each(self, what: str, keys: list[str], check: Callable[[str], Any]) -> None:
        """Checks objects of one kind."""
        for key in keys:
            try:
                check(key)
                self.counts[what] += 1
            except (Refused, KeyError, TypeError) as error:
                self.refused += 1
                warn(f"{key}: {error}")

    def slot(self, key: str) -> None:
        """Holds a key slot against its other copy; only its own credential opens it."""
        slot = decode_json(self.store.get(key), 16_384)
        require(slot["id"] == key[5:21], "the slot has another id")
        for copy in self.store.keys_of(rf"keys/{key[5:21]}\.{NUMBER}\.json"):
            require(decode_json(self.store.get(copy), 16_384) == slot, f"{copy} is not alike")

    def pack(self, key: str) -> None:
        """Holds a pack against its name, its chunks against theirs, and the index against the pack."""
        pack = self.store.open_pack(key)
        for listed in self.listed.get(pack.id, []):
            same = (listed.size, listed.sealed, listed.frames) == (pack.size, pack.sealed, pack.frames)
            require(same, "an index object says something else")
        for frame_number, frame in enumerate(pack.frames):
            self.store.read_frame(pack, frame_number)
            self.counts["frames"] += 1
            self.counts["delta frames"] += frame.encoding == DELTA
            self.counts["chunks"] += len(frame.chunks)

    def snapshot(self, key: str) -> None:
        """Opens a snapshot, walks its tree, and looks for each chunk of its files."""
        manifest = self.store.snapshot(key)
        if manifest["kind"] == "tombstone":
            self.counts["tombstones"] += 1
            return
        tree = Tree(self.store, manifest)
        for path, entry in tree.walk(tree.root):
            describe(tree, path, entry)
            self.counts["entries"] += 1
            for chunk_id, length in tree.content(entry) if entry.kind == FILE else ():
                places = [] if chunk_id is None else self.store.chunks.get((DATA, chunk_id), [])
                found = chunk_id is None or any(place[3] == length for place in places)
                require(found, f"{shown(path)}: a chunk is missing")


def main() -> int:
    """Runs one command."""
    parser = argparse.ArgumentParser(description="Reads a yester store by its specification.")
    parser.add_argument("store", type=Path)
    secrets = parser.add_mutually_exclusive_group()
    for option in ("--passphrase-file", "--key-file", "--recovery-key"):
        secrets.add_argument(option, type=Path, metavar="F")
    commands = parser.add_subparsers(required=True)
    for name, run, arguments in (
        ("list", run_list, []),
        ("ls", run_ls, ["snapshot"]),
        ("cat", run_cat, ["snapshot", "path"]),
        ("extract", run_extract, ["snapshot", "target"]),
        ("check", run_check, []),
    ):
        command = commands.add_parser(name)
        command.set_defaults(run=run, arguments=arguments)
        for argument in arguments:
            command.add_argument(argument)
    options = parser.parse_args()
    try:
        credential = Credential()
        if options.passphrase_file:
            credential = Credential(passphrase=options.passphrase_file.read_bytes().removesuffix(b"\n"))
        elif file := options.key_file or options.recovery_key:
            credential = Credential.from_text(file.read_text(errors="replace"))
        options.run(Store(options.store, credential), *(getattr(options, name) for name in options.arguments))
        return 0
    except Refused as error:
        warn(str(error))
    except (KeyError, TypeError, OverflowError) as error:
        warn(f"a field is missing, or nothing that can be used: {error!r}")
    except OSError as error:
        warn(f"{error.filename}: {error.strerror}")
    return 1


if __name__ == "__main__":
    sys.exit(main())

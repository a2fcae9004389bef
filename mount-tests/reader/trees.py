"""Trees (§9) and content (§10)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .keys import DATA, LIST, TREE
from .rules import (
    MIB,
    clean,
    decode_cbor,
    fields,
    from_base64,
    from_hex,
    identifier,
    items,
    number,
    octets,
    require,
    rising,
)
from .store import Store

FILE, DIRECTORY, SYMLINK, FIFO, CHARACTER, BLOCK, SOCKET = range(7)
KIND_NAMES = ["file", "directory", "symlink", "fifo", "char_device", "block_device", "socket"]


@dataclass(frozen=True)
class Entry:
    """What a directory says about a name."""

    name: bytes
    kind: int
    attributes: list[Any]
    link: tuple[int, int] | None
    detail: Any

    @classmethod
    def decode(cls, value: Any) -> "Entry":
        """Decodes an entry, but for what its content or tree refers to."""
        name, kind, attributes, link, detail = fields(value, 5)
        require(name not in (b".", b"..") and b"/" not in clean(name, 1_024), f"{name!r} is no name")
        if link is not None:
            require(kind != DIRECTORY, "a directory has a link group")
            group, links = fields(link, 2)
            link = (number(group), number(links, (1 << 32) - 1, 2))
        if number(kind, SOCKET) == SYMLINK:
            clean(detail, 4_095)
        elif kind in (CHARACTER, BLOCK):
            detail = [number(part, (1 << 32) - 1) for part in fields(detail, 2)]
        elif kind in (FIFO, SOCKET):
            require(detail is None, "a detail where none belongs")
        return cls(name, kind, decode_attributes(attributes), link, detail)


def decode_attributes(value: Any) -> list[Any]:
    """Decodes an attribute record: mode, uid, gid, user, group, mtime, ctime, btime, xattrs."""
    mode, uid, gid, user, group, mtime, ctime, btime, xattrs = fields(value, 9)
    for owner in (user, group):
        require(owner is None or len(clean(owner, 255)) > 0, "an owner has no possible name")
    times = [None if time is None else decode_time(time) for time in (mtime, ctime, btime)]
    require(None not in times[:2], "a time is missing")
    pairs = [fields(xattr, 2) for xattr in items(xattrs, 4_096)]
    rising([clean(name, 255) for name, _ in pairs], "extended attributes")
    owners = [number(mode, 0o7777), number(uid, (1 << 32) - 1), number(gid, (1 << 32) - 1), user, group]
    return [*owners, *times, pairs]


def decode_time(value: Any) -> int:
    """Decodes a time, as nanoseconds since 1970."""
    seconds, nanoseconds = fields(value, 2)
    return number(seconds, (1 << 63) - 1, -(1 << 63)) * 10**9 + number(nanoseconds, 10**9 - 1)


def file_bytes(entry: Entry) -> int:
    """The size of a regular file."""
    if entry.kind != FILE:
        return 0
    how, what = fields(entry.detail, 2)
    return (
        number(fields(what, 2)[1], (1 << 63) - 1)
        if how == 1
        else sum(length for _, length in pieces(what, 32))
    )


def pieces(value: Any, most: int) -> list[tuple[bytes | None, int]]:
    """Decodes items of content: a chunk and its length, or none and the length of a hole."""
    decoded: list[tuple[bytes | None, int]] = []
    for item in items(value, most):
        if isinstance(item, list):
            chunk_id, length = fields(item, 2)
            decoded.append((identifier(chunk_id), number(length, 4 * MIB, 1)))
        else:
            require(not decoded or decoded[-1][0] is not None, "two holes are neighbours")
            decoded.append((None, number(item, (1 << 63) - 1, 1)))
    return decoded


class Tree:
    """Walks the tree of a snapshot."""

    def __init__(self, store: Store, manifest: dict[str, Any]) -> None:
        root = manifest["root"]
        self.store = store
        self.root = [from_hex(root["page"], 32), number(root["entries"]), number(root["bytes"])]
        self.attributes = decode_attributes(decode_cbor(from_base64(root["attributes"])))

    def page(self, page_id: bytes) -> tuple[int, list[Any]]:
        """The level and the elements of a page."""
        data = self.store.chunk(TREE, page_id)
        require(len(data) <= 65_536, "a page is too long")
        level, elements = fields(decode_cbor(data), 2)
        return number(level, 8), elements

    def entries(
        self, tree: list[Any], level: int | None = None, last: bytes | None = None
    ) -> Iterator[Entry]:
        """All entries of a directory, in order; what its pages say about each other has to agree."""
        page_id, count, size = identifier(fields(tree, 3)[0]), number(tree[1]), number(tree[2])
        found_level, elements = self.page(page_id)
        require(level in (None, found_level), "a page has the level of another")
        require(level is None or count >= 1, "a page reference to nothing")
        found_count = found_size = 0
        name = b""
        for element in items(elements, 65_536, 0 if level is None and found_level == 0 else 1):
            if found_level == 0:
                below: Any = [Entry.decode(element)]
            else:
                below_name, below_tree = fields(element, 2)
                below = self.entries(below_tree, found_level - 1, octets(below_name, 1_024))
            for entry in below:
                require(name < entry.name, f"names are not strictly sorted at {entry.name!r}")
                name, found_count, found_size = entry.name, found_count + 1, found_size + file_bytes(entry)
                yield entry
        require(last in (None, name), "a page does not end with the name that its parent says")
        require(count == found_count and size == min(found_size, (1 << 64) - 1), "a page has other sums")

    def lookup(self, tree: list[Any], name: bytes) -> Entry:
        """The entry of one name, by reading one page of each level (§14)."""
        level, elements = self.page(identifier(fields(tree, 3)[0]))
        while level > 0:
            below = [fields(element, 2)[1] for element in elements if fields(element, 2)[0] >= name]
            require(len(below) > 0, f"there is no {name!r}")
            level, elements = self.page(identifier(fields(below[0], 3)[0]))
        found = [entry for entry in map(Entry.decode, elements) if entry.name == name]
        require(len(found) == 1, f"there is no {name!r}")
        return found[0]

    def find(self, path: bytes) -> Entry:
        """The entry under a path."""
        entry = Entry(b"", DIRECTORY, self.attributes, None, self.root)
        for component in filter(None, path.split(b"/")):
            require(entry.kind == DIRECTORY, f"{entry.name!r} is no directory")
            entry = self.lookup(entry.detail, component)
        return entry

    def walk(self, tree: list[Any], path: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
        """All entries below a directory, with their paths."""
        for entry in self.entries(tree):
            below = path + b"/" + entry.name if path else entry.name
            yield below, entry
            if entry.kind == DIRECTORY:
                yield from self.walk(entry.detail, below)

    def content(self, entry: Entry) -> Iterator[tuple[bytes | None, int]]:
        """The pieces of a file: a chunk id or none for a hole, and a length."""
        how, what = fields(entry.detail, 2)
        if number(how, 1) == 0:
            yield from pieces(what, 32)
        else:
            yield from self.node(what, None)

    def node(self, reference: Any, level: int | None) -> Iterator[tuple[bytes | None, int]]:
        """The pieces below a list node."""
        node_id, length = fields(reference, 2)
        found_level, elements = fields(decode_cbor(self.store.chunk(LIST, identifier(node_id))), 2)
        require(level in (None, number(found_level, 8)), "a list node has the level of another")
        found = 0
        items(elements, 1_024, 1)
        below = (
            [pieces(elements, 1_024)]
            if found_level == 0
            else (self.node(child, found_level - 1) for child in elements)
        )
        for part in below:
            for piece in part:
                found += piece[1]
                yield piece
        require(found == number(length, (1 << 63) - 1, 1), "a list node has another length")

    def write(self, entry: Entry, file: BinaryIO, seekable: bool) -> None:
        """Writes the content of a file, seeking over its holes where that is possible."""
        require(entry.kind == FILE, f"{entry.name!r} is no regular file")
        for chunk_id, length in self.content(entry):
            if chunk_id is not None:
                file.write(self.store.chunk(DATA, chunk_id, length))
            elif seekable:
                file.seek(length, os.SEEK_CUR)
            else:
                for start in range(0, length, MIB):
                    file.write(bytes(min(MIB, length - start)))
        if seekable:
            file.truncate()

    def xattr(self, value: Any) -> bytes:
        """The value of an extended attribute."""
        if isinstance(value, bytes):
            return octets(value, 4_096, 0)
        chunk_id, length = fields(value, 2)
        return self.store.chunk(TREE, identifier(chunk_id), number(length, 4 * MIB, 1))

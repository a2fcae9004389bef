"""Packs (§5), frames (§6) and index objects (§7)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import zstandard
from blake3 import blake3

from .keys import DATA, DATA_PACK, FULL, INDEX, INGEST_ONLY, TREE_PACK, Keys, Sealed, Writer, u32
from .rules import MIB, Refused, decode_cbor, fields, identifier, items, number, require, rising

RAW, ZSTD, DELTA = 0, 1, 2


@dataclass(frozen=True)
class Frame:
    """An entry of a directory."""

    offset: int
    stored: int
    encoding: int
    base: bytes | None
    chunks: list[tuple[int, bytes, int]]

    @cached_property
    def plain(self) -> int:
        """The plain length."""
        return sum(length for _, _, length in self.chunks)


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack whose directory is known."""

    id: bytes
    size: int
    sealed: Sealed
    frames: list[Frame]

    @property
    def key(self) -> str:
        """The store key."""
        return f"packs/{self.id.hex()[:2]}/{self.id.hex()}"


def decode_directory(data: bytes, kind: int, header_bytes: int) -> list[Frame]:
    """Decodes the directory of a pack."""
    frames, offset = [], header_bytes
    for entry in items(fields(decode_cbor(data), 1)[0], 65_536):
        stored, encoding, base, features, chunks = fields(entry, 5)
        known = []
        for chunk in items(chunks, 4 * MIB, 1):
            chunk_kind, chunk_id, length = fields(chunk, 3)
            require(number(chunk_kind, 2) == DATA or kind == TREE_PACK, "a data pack holds another chunk")
            require(chunk_kind != DATA or kind == DATA_PACK, "a tree pack holds a data chunk")
            known.append((chunk_kind, identifier(chunk_id), number(length, 4 * MIB, 1)))
        frame = Frame(offset, number(stored, least=17), number(encoding, 2), base, known)
        require(frame.plain <= 4 * MIB, "a frame is too long")
        limit = frame.plain + 16
        require(
            stored == limit if encoding == RAW else stored < limit, "a frame has an impossible stored length"
        )
        require((base is not None) == (encoding == DELTA), "a base is missing, or where none belongs")
        require(base is None or isinstance(base, bytes) and len(base) in (32, 64), "a base is no id")
        if features is not None:
            require(all(number(feature) >= 0 for feature in fields(features, 3)), "features are no numbers")
        frames.append(frame)
        offset += stored
    return frames


def open_pack(keys: Keys, pack_id: bytes, data: bytes) -> Pack:
    """Opens a pack by what it says itself, which counts only if its bytes have the hash that is its name."""
    require(blake3(data).digest() == pack_id, "the bytes do not have the hash that is the name")
    require(len(data) <= 88_080_796 and data[-8:] == b"YSTRPACK", "this is no pack, or too long a one")
    kind = data[9]
    require(kind in (DATA_PACK, TREE_PACK), "the object is no pack")
    sealed = Sealed.open_header(keys, data, kind)
    length = int.from_bytes(data[-16:-8], "little")
    require(16 < length <= min(16 * MIB, len(data) - 16 - sealed.header_bytes), "the trailer points nowhere")
    start = len(data) - 16 - length
    directory = sealed.open(2, 0, b"", data[start : start + length])
    frames = decode_directory(directory, kind, sealed.header_bytes)
    end = frames[-1].offset + frames[-1].stored if frames else sealed.header_bytes
    require(end == start, "frames and directory do not fill the pack")
    return Pack(pack_id, len(data), sealed, frames)


@dataclass(frozen=True)
class IndexObject:
    """An index object, with the directories that it holds."""

    supersedes: list[str]
    packs: list[Pack]


def open_index(keys: Keys, store_key: str, data: bytes) -> IndexObject:
    """Opens all of an index object, and checks that its parts agree."""
    sealed = Sealed.open_header(keys, data, INDEX)
    require(
        len(data) <= 1024 * MIB and data[-8:] == b"YSTRINDX", "this is no index object, or too long a one"
    )
    root_bytes = int.from_bytes(data[-16:-8], "little")
    root_start = len(data) - 16 - root_bytes
    require(root_bytes <= 64 * MIB and root_start >= sealed.header_bytes, "the trailer points nowhere")
    extra = store_key.encode()
    root = decode_cbor(sealed.open(3, 0, extra, data[root_start : root_start + root_bytes]))
    supersedes, pack_rows, lookup_rows = fields(root, 3)
    for name in items(supersedes, 65_536):
        require(
            isinstance(name, str) and name.startswith("index/") and len(name) <= 403,
            "a superseded key is none",
        )
    offset, block = sealed.header_bytes, 0

    def next_block(length: int) -> bytes:
        nonlocal offset, block
        require(offset + length <= root_start, "a block reaches beyond its end")
        plain = sealed.open(4, block, extra, data[offset : offset + length])
        offset, block = offset + length, block + 1
        return plain

    packs: list[Pack] = []
    expected: set[bytes] = set()
    for row in items(pack_rows, 65_536):
        pack = index_pack(row, next_block)
        require(sealed.writer.kind == FULL or pack.sealed.writer == sealed.writer, "a pack of another writer")
        for frame_number, frame in enumerate(pack.frames):
            suffix = u32(len(packs)) + u32(frame_number)
            expected.update(chunk_id[:8] + suffix for _, chunk_id, _ in frame.chunks)
        packs.append(pack)
    require(sealed.writer.kind == FULL or not supersedes, "an ingest-only writer supersedes something")
    rising([pack.id for pack in packs], "packs")
    lookup, counts = b"", []
    for row in items(lookup_rows, 1 << 20):
        length, records = fields(row, 2)
        plain = next_block(number(length))
        require(len(plain) == 16 * number(records, 4_096, 1), "a lookup block has another length")
        counts.append(records)
        lookup += plain
    require(all(count == 4_096 for count in counts[:-1]), "a lookup block is not full")
    require(lookup == b"".join(sorted(expected)), "lookup and directories disagree")
    require(offset == root_start, "something lies between the blocks and the root")
    return IndexObject(supersedes, packs)


def index_pack(row: Any, next_block: Callable[[int], bytes]) -> Pack:
    """Decodes what an index object says about a pack."""
    pack_id, kind, size, writer_kind, writer, host, header_hash, header_bytes, key, block, count = fields(
        row, 11
    )
    require(isinstance(host, str) and 1 <= len(host.encode()) <= 255, "a host has no possible name")
    sealed = Sealed(
        number(kind, TREE_PACK, DATA_PACK),
        Writer(number(writer_kind, INGEST_ONLY, FULL), identifier(writer, 16), host),
        number(header_bytes, 125 + len(host.encode()), 125 + len(host.encode())),
        identifier(header_hash),
        identifier(key),
    )
    frames = decode_directory(next_block(number(block, 16 * MIB)), kind, header_bytes)
    require(len(frames) == number(count), "a directory has another number of frames")
    smallest = header_bytes + sum(frame.stored for frame in frames) + 16 + 16
    require(smallest < number(size, 88_080_796), "a pack is shorter than its parts")
    return Pack(identifier(pack_id), size, sealed, frames)


def decompress(frame: Frame, data: bytes, base: bytes | None) -> bytes:
    """Decodes the bytes of a frame whose seal has opened."""
    if frame.encoding == RAW:
        return data
    try:
        declared = zstandard.get_frame_parameters(data)
        require(declared.content_size == frame.plain, "the content size is not the plain length")
        require(
            declared.dict_id == 0 and declared.window_size <= 8 * MIB, "a dictionary, or too large a window"
        )
        prefix = None
        if base is not None:
            prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        decoder = zstandard.ZstdDecompressor(dict_data=prefix, max_window_size=8 * MIB)
        return decoder.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused(f"zstd: {error}") from None

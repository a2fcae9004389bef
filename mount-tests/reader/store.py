"""A store in a directory: its objects (§1, §11), and where each chunk is (§14)."""

import json
import re
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from .keys import FULL, MARK, PUBLIC_ROOT, SESSION_MARK, SNAPSHOT, Credential, Keys, Sealed, Writer, keyed, u32
from .packs import DELTA, IndexObject, Pack, decompress, open_index, open_pack
from .rules import MIB, Refused, decode_json, from_base64, from_hex, require, warn

SESSION_ID = r"\d{8}T\d{6}Z-[0-9a-f]{32}"
NUMBER = r"(?:0|[1-9]\d{0,9})"
NUMBERED = rf"{SESSION_ID}\.{NUMBER}"
SLOT = rf"keys/[0-9a-f]{{16}}\.{NUMBER}\.json"
MARK_AXES = {
    "forgotten": "forgetting",
    "restored": "forgetting",
    "protected": "protection",
    "unprotected": "protection",
    "accepted": "acceptance",
}
T = TypeVar("T")


def standing(states: list[str]) -> list[str]:
    """Which of the marks of a snapshot count (§11): on each axis the last; what only ends another is not named."""
    last = {MARK_AXES[state]: state for state in states}
    return sorted(state for state in last.values() if state not in ("restored", "unprotected"))


class Store:
    """An open store in a directory."""

    def __init__(self, folder: Path, credential: Credential) -> None:
        self.folder = folder
        config_keys = self.keys_of(rf"config/{NUMBER}\.json")
        require(len(config_keys) > 0, "there is no store")
        config_key = max(config_keys, key=lambda key: int(key[7:-5]))
        config = decode_json(self.get(config_key), 65_536)
        body = config["body"]
        require(
            body["version"] == 1 and body["features"]["read"] == [], "this reader is too old for the store"
        )
        domain = from_hex(body["domain"], 16)
        require(body["encryption"] in ("aes-256-gcm", "none"), "the encryption is unknown")
        root = PUBLIC_ROOT if body["encryption"] == "none" else self.unlock(domain, credential)
        self.domain_keys = Keys(root, domain)
        message = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        self.domain_keys.check_signature(b"yester config 1\n" + message, from_base64(config["signature"]))
        self.frame = lru_cache(maxsize=16)(self.read_frame)

    def keys_of(self, pattern: str) -> list[str]:
        """The keys of a form, sorted; other objects are none of the format."""
        top = self.folder / pattern.split("/")[0]
        found = (path.relative_to(self.folder).as_posix() for path in top.rglob("*") if path.is_file())
        return sorted(key for key in found if re.fullmatch(pattern, key))

    def get(self, key: str, start: int = 0, length: int = -1) -> bytes:
        """The bytes of an object, or a range of them."""
        try:
            with open(self.folder / key, "rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError as error:
            raise Refused(f"{key}: {error.strerror}") from None

    def unlock(self, domain: bytes, credential: Credential) -> bytes:
        """The root secret, by the first key slot that opens."""
        for key in self.keys_of(SLOT):
            try:
                slot = decode_json(self.get(key), 16_384)
                if slot["version"] == 1 and slot["domain"] == domain.hex():
                    root = credential.open_slot(slot)
                    if root is not None:
                        return root
            except (Refused, KeyError, TypeError) as error:
                warn(f"{key}: {error}")
        raise Refused("no key slot opens: wrong passphrase or key")

    def body(self, key: str, kind: int, most: int) -> tuple[Writer, dict[str, Any]]:
        """The body of a small object, and its writer."""
        data = self.get(key)
        require(len(data) <= most, "the object is too long")
        sealed = Sealed.open_header(self.domain_keys, data, kind)
        return sealed.writer, decode_json(sealed.open(3, 0, key.encode(), data[sealed.header_bytes :]), most)

    def snapshot(self, key: str) -> dict[str, Any]:
        """A manifest or a tombstone."""
        writer, body = self.body(key, SNAPSHOT, 16 * MIB)
        require(body["kind"] in ("manifest", "tombstone"), "a snapshot is neither manifest nor tombstone")
        if body["kind"] == "manifest":
            require(f"snapshots/{body['id']}" == key, "a manifest has another id than its key")
            require(
                writer.kind == FULL or body["host"] == writer.host, "an ingest-only writer speaks for another"
            )
        else:
            require(writer.kind == FULL, "an ingest-only writer cannot fence a session")
        return body

    def session_mark(self, key: str) -> dict[str, Any]:
        """A mark that shows that a session lives."""
        return self.body(key, SESSION_MARK, 65_536)[1]

    def mark(self, key: str) -> str:
        """What a mark says of its snapshot."""
        writer, body = self.body(key, MARK, 65_536)
        state = str(body["state"])
        require(state in MARK_AXES, f"{state!r} is no state")
        require(writer.kind == FULL or state == "protected", "an ingest-only writer may only protect")
        return state

    def marks(self, snapshot: str) -> list[str]:
        """What was said of a snapshot, the highest number last; what does not open says nothing."""
        keys = self.keys_of(rf"marks/{snapshot}\.{NUMBER}")
        keys.sort(key=lambda key: int(key.rsplit(".")[-1]))
        return list(self.each(keys, self.mark).values())

    def snapshots(self) -> list[dict[str, Any]]:
        """All manifests, in the order of their ids."""
        bodies = self.each(self.keys_of(f"snapshots/{SESSION_ID}"), self.snapshot)
        return [body for body in bodies.values() if body["kind"] == "manifest"]

    def each(self, keys: list[str], read: Callable[[str], T]) -> dict[str, T]:
        """What is read from each key; what is refused is left out."""
        found = {}
        for key in keys:
            try:
                found[key] = read(key)
            except (Refused, KeyError, TypeError) as error:
                warn(f"{key}: {error}")
        return found

    def find_snapshot(self, prefix: str) -> dict[str, Any]:
        """The one manifest whose id begins so."""
        found = [
            body
            for body in self.snapshots()
            if body["id"].startswith(prefix) or body["id"].split("-")[1].startswith(prefix)
        ]
        require(len(found) == 1, f"{len(found)} snapshots begin with {prefix}")
        return found[0]

    @cached_property
    def index_objects(self) -> dict[str, IndexObject]:
        """The index objects that open and count, by key."""
        opened = self.each(self.keys_of(rf"index/{NUMBERED}"), self.open_index)
        superseded = {key for index in opened.values() for key in index.supersedes}
        return {key: index for key, index in opened.items() if key not in superseded}

    @cached_property
    def packs(self) -> dict[bytes, Pack]:
        """All packs: from the index objects, or, where there is none, from the packs themselves (§14)."""
        if self.index_objects:
            return {pack.id: pack for index in self.index_objects.values() for pack in index.packs}
        opened = self.each(self.pack_keys(), self.open_pack)
        return {pack.id: pack for pack in opened.values()}

    def open_index(self, key: str) -> IndexObject:
        """An index object."""
        return open_index(self.domain_keys, key, self.get(key))

    def open_pack(self, key: str) -> Pack:
        """A pack by what it says itself."""
        return open_pack(self.domain_keys, bytes.fromhex(key[9:]), self.get(key))

    def pack_keys(self) -> list[str]:
        """The keys of all packs."""
        return [key for key in self.keys_of(r"packs/[0-9a-f]{2}/[0-9a-f]{64}") if key[6:8] == key[9:11]]

    @cached_property
    def chunks(self) -> dict[tuple[int, bytes], list[tuple[Pack, int, int, int]]]:
        """Where each chunk lies: pack, frame number, offset in the frame, length."""
        places: dict[tuple[int, bytes], list[tuple[Pack, int, int, int]]] = {}
        for pack in self.packs.values():
            for frame_number, frame in enumerate(pack.frames):
                offset = 0
                for kind, chunk_id, length in frame.chunks:
                    places.setdefault((kind, chunk_id), []).append((pack, frame_number, offset, length))
                    offset += length
        return places

    @cached_property
    def bases(self) -> dict[bytes, tuple[Pack, int]]:
        """Where each frame lies that may be the base of another."""
        places = {}
        for pack in self.packs.values():
            for frame_number, frame in enumerate(pack.frames):
                chunks = b"".join(chunk_id + u32(length) for _, chunk_id, length in frame.chunks)
                name = keyed(self.domain_keys.frame_key, chunks)
                if frame.encoding != DELTA or name not in places:
                    places[name] = (pack, frame_number)
        return places

    def read_frame(self, pack: Pack, frame_number: int) -> bytes:
        """The plain bytes of a frame, each chunk held against its id."""
        frame = pack.frames[frame_number]
        what = f"frame {frame_number} of {pack.key}"
        stored = self.get(pack.key, frame.offset, frame.stored)
        extra = u32(frame_number) + bytes([frame.encoding]) + (frame.base or b"")
        base = None
        if frame.base is not None:
            names = [frame.base[start : start + 32] for start in range(0, len(frame.base), 32)]
            require(all(name in self.bases for name in names), f"{what}: the base is missing")
            require(self.deltas(pack, frame_number) <= 8, f"{what}: the chain of deltas is too long")
            base = b"".join(self.frame(*self.bases[name]) for name in names)
            require(len(base) <= 4 * MIB, f"{what}: the base is too long")
        plain = decompress(frame, pack.sealed.open(1, frame_number, extra, stored), base)
        require(len(plain) == frame.plain, f"{what}: the plain length is another")
        offset = 0
        for kind, chunk_id, length in frame.chunks:
            right = self.domain_keys.chunk_id(kind, plain[offset : offset + length]) == chunk_id
            require(right, f"{what}: chunk {chunk_id.hex()} has other bytes")
            offset += length
        return plain

    def deltas(self, pack: Pack, frame_number: int, above: int = 0) -> int:
        """The number of deltas of a frame's chain, itself included; more than 8 for any that is too long."""
        base = pack.frames[frame_number].base
        if base is None or above > 8:
            return above
        names = [base[start : start + 32] for start in range(0, len(base), 32)]
        return max((self.deltas(*self.bases[name], above + 1) for name in names if name in self.bases), default=above + 1)

    def chunk(self, kind: int, chunk_id: bytes, length: int | None = None) -> bytes:
        """The plain bytes of a chunk, from the first of its places that is whole."""
        refused: Refused | None = None
        for pack, frame_number, offset, found in self.chunks.get((kind, chunk_id), []):
            try:
                require(length in (None, found), f"chunk {chunk_id.hex()} has another length")
                return self.frame(pack, frame_number)[offset : offset + found]
            except Refused as error:
                refused = error
        raise refused or Refused(f"chunk {chunk_id.hex()} is missing")

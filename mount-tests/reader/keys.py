"""Keys and hashing (§2), key slots (§11), HPKE and seals (§3), headers (§4)."""

import base64
import binascii
import hmac
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from .rules import Refused, from_hex, number, require

MAGIC = b"\x89YSTR\r\n\x1a"
# Kinds of objects, classes of writers, kinds of chunks.
DATA_PACK, TREE_PACK, INDEX, SESSION_MARK, SNAPSHOT, MARK = 1, 2, 3, 4, 5, 6
FULL, INGEST_ONLY = 1, 2
DATA, TREE, LIST = 0, 1, 2


def derive(context: str, material: bytes) -> bytes:
    """BLAKE3's key derivation mode."""
    return blake3(material, derive_key_context=context).digest()


def keyed(key: bytes, data: bytes) -> bytes:
    """BLAKE3's keyed mode."""
    return blake3(data, key=key).digest()


def u32(number: int) -> bytes:
    """A number as 4 bytes, little endian."""
    return number.to_bytes(4, "little")


PUBLIC_ROOT = derive("yester 1 public root of stores without encryption", b"")


@dataclass(frozen=True)
class Keys:
    """The keys of a domain."""

    root: bytes = field(repr=False)
    domain: bytes

    def derived(self, context: str) -> bytes:
        """A key that is bound to the domain."""
        return derive(context, self.root + self.domain)

    @cached_property
    def id_key(self) -> bytes:
        """The key of chunk ids."""
        return self.derived("yester 1 id key")

    @cached_property
    def frame_key(self) -> bytes:
        """The key of frame ids."""
        return derive("yester 1 frame id", self.id_key)

    @cached_property
    def recipient(self) -> X25519PrivateKey:
        """The key pair that objects are sealed for: DeriveKeyPair of RFC 9180, 7.1.3."""
        prk = labeled_extract(KEM, b"", b"dkp_prk", self.derived("yester 1 hpke key"))
        return X25519PrivateKey.from_private_bytes(labeled_expand(KEM, prk, b"sk", b"", 32))

    def writer_secret(self, writer: "Writer") -> bytes:
        """The secret without which nobody speaks for a writer."""
        host = writer.host.encode()
        material = self.root + self.domain + bytes([writer.kind]) + writer.id + bytes([len(host)]) + host
        return derive("yester 1 writer secret", material)

    def check_signature(self, message: bytes, signature: bytes) -> None:
        """Checks a signature by the domain."""
        signer = Ed25519PrivateKey.from_private_bytes(self.derived("yester 1 signing key"))
        try:
            signer.public_key().verify(signature, message)
        except InvalidSignature:
            raise Refused("the signature is wrong") from None

    def chunk_id(self, kind: int, plain: bytes) -> bytes:
        """The name of a chunk."""
        return keyed(self.id_key, bytes([kind]) + plain)


KEM = b"KEM" + (0x20).to_bytes(2)
SUITE = b"HPKE" + (0x20).to_bytes(2) + (0x01).to_bytes(2) + (0x02).to_bytes(2)


def labeled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    """LabeledExtract of RFC 9180, 4."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand of RFC 9180, 4; nothing here is longer than one hash."""
    labeled = length.to_bytes(2) + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labeled + b"\x01", "sha256")[:length]


def hpke_open(
    recipient: X25519PrivateKey,
    encapsulated: bytes,
    info: bytes,
    psk: bytes,
    psk_id: bytes,
    aad: bytes,
    sealed: bytes,
) -> bytes:
    """Opens the first and only message of a PSK context."""
    shared = recipient.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    context = encapsulated + recipient.public_key().public_bytes_raw()
    prk = labeled_extract(KEM, b"", b"eae_prk", shared)
    secret = labeled_expand(KEM, prk, b"shared_secret", context, 32)
    psk_hash = labeled_extract(SUITE, b"", b"psk_id_hash", psk_id)
    schedule = b"\x01" + psk_hash + labeled_extract(SUITE, b"", b"info_hash", info)
    secret = labeled_extract(SUITE, secret, b"secret", psk)
    key = labeled_expand(SUITE, secret, b"key", schedule, 32)
    nonce = labeled_expand(SUITE, secret, b"base_nonce", schedule, 12)
    return AESGCM(key).decrypt(nonce, sealed, aad)


@dataclass(frozen=True)
class Writer:
    """Who made an object."""

    kind: int
    id: bytes
    host: str


@dataclass(frozen=True)
class Sealed:
    """What opens the parts of an object: learnt from its header, or for a pack from an index object."""

    kind: int
    writer: Writer
    header_bytes: int
    header_hash: bytes
    key: bytes = field(repr=False)

    @classmethod
    def open_header(cls, keys: Keys, data: bytes, kind: int) -> "Sealed":
        """Opens the header at the beginning of an object."""
        require(len(data) >= 126 and data[:8] == MAGIC, "this is no sealed object")
        require(data[8] == 1 and data[10] == 1, "the version or suite is unknown")
        require(data[9] == kind, f"the object has kind {data[9]} where {kind} belongs")
        require(data[11] in (FULL, INGEST_ONLY), "the writer class is unknown")
        require(data[12:28] == keys.domain, "the object belongs to another domain")
        end = 45 + data[44]
        require(data[44] >= 1 and len(data) >= end + 80, "the header is cut off")
        try:
            writer = Writer(data[11], data[28:44], data[45:end].decode())
            object_key = hpke_open(
                keys.recipient,
                encapsulated=data[end : end + 32],
                info=b"yester 1 object key" + keys.domain,
                psk=keys.writer_secret(writer),
                psk_id=data[11:12] + writer.id + data[45:end],
                aad=data[:end],
                sealed=data[end + 32 : end + 80],
            )
        except (InvalidTag, ValueError):
            raise Refused("the header does not open") from None
        return cls(kind, writer, end + 80, blake3(data[: end + 80]).digest(), object_key)

    def open(self, part: int, number: int, extra: bytes, sealed: bytes) -> bytes:
        """Opens a part: the associated data is the header hash and what is extra."""
        nonce = bytes([part]) + bytes(7) + u32(number)
        require(len(sealed) >= 16, "a sealed part is cut off")
        try:
            return AESGCM(self.key).decrypt(nonce, sealed, self.header_hash + extra)
        except InvalidTag:
            raise Refused(f"part {part}.{number} does not open") from None


@dataclass(frozen=True)
class Credential:
    """A passphrase or a file key."""

    passphrase: bytes | None = None
    file_key: bytes | None = None

    @classmethod
    def from_text(cls, text: str) -> "Credential":
        """Reads a file key as people write it."""
        letters = re.sub(r"[\s-]", "", text).upper()
        require(letters.startswith("YESTERKEY1"), "this is no file key")
        letters = letters.removeprefix("YESTERKEY1")
        try:
            data = base64.b32decode(letters + "=" * (-len(letters) % 8))
        except binascii.Error:
            raise Refused("this is no file key") from None
        require(
            len(data) == 36 and blake3(data[:32]).digest()[:4] == data[32:], "the file key has a typing error"
        )
        require(base64.b32encode(data).decode().rstrip("=") == letters, "the file key has a typing error")
        return cls(file_key=data[:32])

    def open_slot(self, slot: dict[str, Any]) -> bytes | None:
        """Opens a key slot; there is no root secret if it is the slot of another credential."""
        domain, kdf = from_hex(slot["domain"], 16), slot["kdf"]
        salt = from_hex(kdf["salt"], 16)
        if kdf["algorithm"] == "argon2id" and self.passphrase is not None:
            memory = number(kdf["memory_kib"], 1024 * 1024, 8 * 1024)
            passes, lanes = number(kdf["passes"], 16, 1), number(kdf["lanes"], 16, 1)
            derivation = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
            kek = derivation.derive(self.passphrase)
            aad = b"yester 1 slot" + domain + b"\x01" + u32(memory) + u32(passes) + u32(lanes) + salt
        elif kdf["algorithm"] == "key-file" and self.file_key is not None:
            kek = derive("yester 1 key file", self.file_key + salt)
            aad = b"yester 1 slot" + domain + b"\x02" + salt
        else:
            return None
        if derive("yester 1 slot commitment", kek) != from_hex(slot["commitment"], 32):
            return None
        try:
            wrap_key = derive("yester 1 slot wrap", kek)
            return AESGCM(wrap_key).decrypt(bytes(12), from_hex(slot["sealed"], 48), aad)
        except InvalidTag:
            raise Refused("a key slot commits to the key and does not open") from None

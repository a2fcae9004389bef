"""What all parts of the specification share: refusing, CBOR (§8), and the forms of values in JSON (§11)."""

import base64
import binascii
import json
import re
import sys
from itertools import pairwise
from typing import Any

import cbor2

MIB = 1 << 20


class Refused(Exception):
    """Something in the store breaks a rule of the specification, or is not there."""


def require(condition: bool, what: str) -> None:
    """Refuses what breaks a rule."""
    if not condition:
        raise Refused(what)


def decode_cbor(data: bytes) -> Any:
    """Decodes the one encoding that a value has."""
    try:
        value = cbor2.loads(data)
        check_cbor(value, 0)
        canonical = cbor2.dumps(value) == data
    except (cbor2.CBORDecodeError, cbor2.CBOREncodeError, ValueError, OverflowError, RecursionError) as error:
        raise Refused(f"this is no CBOR: {error}") from None
    require(canonical, "this is not the CBOR encoding that the value has, or something is behind it")
    return value


def check_cbor(value: Any, depth: int) -> None:
    """Refuses the types that do not occur."""
    if isinstance(value, list):
        require(depth < 16, "arrays are nested too deep")
        for item in value:
            check_cbor(item, depth + 1)
    elif isinstance(value, int):
        require(-(1 << 64) <= value < 1 << 64, "a number is too large")
    else:
        require(
            value is None or isinstance(value, (bytes, str)), f"a {type(value).__name__} has no place here"
        )


def fields(value: Any, count: int) -> list[Any]:
    """The known fields of a structure; those behind them are skipped."""
    require(isinstance(value, list) and len(value) >= count, f"a structure has less than {count} fields")
    known: list[Any] = value[:count]
    return known


def items(value: Any, most: int, least: int = 0) -> list[Any]:
    """A list within its limits."""
    require(
        isinstance(value, list) and least <= len(value) <= most, "a list is longer or shorter than it may be"
    )
    return list(value)


def number(value: Any, most: int = (1 << 64) - 1, least: int = 0) -> int:
    """A whole number within its limits."""
    require(type(value) is int and least <= value <= most, f"{value!r} is not between {least} and {most}")
    return int(value)


def octets(value: Any, most: int, least: int = 1) -> bytes:
    """A byte string within its limits."""
    require(
        isinstance(value, bytes) and least <= len(value) <= most, "a byte string has a wrong length or type"
    )
    return bytes(value)


def identifier(value: Any, length: int = 32) -> bytes:
    """An id."""
    return octets(value, length, length)


def clean(value: Any, most: int) -> bytes:
    """A byte string without a zero byte."""
    name = octets(value, most)
    require(b"\0" not in name, "there is a zero byte in a name")
    return name


def rising(values: list[Any], what: str) -> None:
    """Refuses what is not strictly sorted."""
    require(all(low < high for low, high in pairwise(values)), f"{what} are not strictly sorted")


def decode_json(data: bytes, most: int) -> dict[str, Any]:
    """Decodes a JSON object."""
    require(len(data) <= most, "a JSON object is too long")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(f"this is no JSON: {error}") from None
    require(isinstance(value, dict), "this is no JSON object")
    return dict(value)


def from_hex(text: Any, length: int) -> bytes:
    """Bytes of lower-case hex digits."""
    require(
        isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text) is not None, "no hex digits"
    )
    return bytes.fromhex(text)


def from_base64(text: Any) -> bytes:
    """Bytes of base64 in its one form."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Refused("this is no base64") from None
    require(base64.b64encode(data).decode() == text, "this is not the only form of base64")
    return data


def shown(data: bytes) -> str | dict[str, str]:
    """A byte string in JSON, as §11 has it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(data).decode()}


def warn(message: str) -> None:
    """Says something to people."""
    print(f"reader: {message}", file=sys.stderr)

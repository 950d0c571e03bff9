"""What an API key looks like, and what is kept of it."""

import string
from binascii import crc32
from hashlib import sha256
from secrets import choice
from typing import NamedTuple

PREFIX = "ork_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECKSUM = 43, 6
"""43 characters of 62 are 256 bits; six hold a CRC-32."""
_LENGTH = len(PREFIX) + _RANDOM + _CHECKSUM
_SHOWN = len(PREFIX) + 4


class NewSecret(NamedTuple):
    """`key` is shown once and never kept; `hint` is its beginning, by which people tell keys apart."""

    key: str
    hash: bytes
    hint: str


def new_secret() -> NewSecret:
    """`ork_`, 256 random bits and a checksum: whoever searches files for lost secrets is sure of a find."""
    start = PREFIX + "".join(choice(_ALPHABET) for _ in range(_RANDOM))
    key = start + _checksum(start.encode())
    return NewSecret(key, hash_of(key.encode()), key[:_SHOWN])


def is_well_formed(key: bytes) -> bool:
    """Whether it may be a key at all. What is not is refused without asking the database."""
    start, checksum = key[:-_CHECKSUM], key[-_CHECKSUM:]
    return len(key) == _LENGTH and start.startswith(PREFIX.encode()) and checksum == _checksum(start).encode()


def hash_of(key: bytes) -> bytes:
    """SHA-256. A slow hash hinders guessing of what people choose; nobody guesses 256 random bits."""
    return sha256(key).digest()


def _checksum(start: bytes) -> str:
    rest, digits = crc32(start), ""
    for _ in range(_CHECKSUM):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits

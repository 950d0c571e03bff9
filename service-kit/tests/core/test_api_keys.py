import re
import string

import pytest

from service_kit.api_keys import hash_of, is_well_formed, new_secret


def test_a_key_is_recognised_by_its_prefix_and_checksum() -> None:
    secret = new_secret()

    assert re.fullmatch(r"ork_[0-9A-Za-z]{49}", secret.key)
    assert is_well_formed(secret.key.encode())
    assert secret.key.startswith(secret.hint) and len(secret.hint) == 8
    assert secret.hash == hash_of(secret.key.encode())


@pytest.mark.parametrize("place", range(53))
def test_a_key_with_another_character_is_none(place: int) -> None:
    key = new_secret().key
    other = next(each for each in string.ascii_letters if each != key[place])

    assert not is_well_formed((key[:place] + other + key[place + 1 :]).encode())


@pytest.mark.parametrize("key", [b"", b"ork_", b"\xff" * 53, b"ork_" + b"0" * 48, b"ork_" + b"0" * 50])
def test_what_is_no_key_at_all_is_none(key: bytes) -> None:
    assert not is_well_formed(key)


def test_no_two_keys_are_the_same() -> None:
    assert len({new_secret().key for _ in range(1_000)}) == 1_000

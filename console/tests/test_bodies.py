import base64
import json
from typing import Any

import msgspec
import pytest

from order_console.bodies import CHARACTERS_MAX, body_of
from order_console.testing.fake_services import LETTER_IN_FULL
from order_processor_client.admin_models import DeadLetterInFull


def letter(body: str | bytes) -> DeadLetterInFull:
    text = body if isinstance(body, str) else None
    content = body.encode() if isinstance(body, str) else body
    given: dict[str, Any] = {
        **LETTER_IN_FULL,
        "body": text,
        "body_base64": base64.b64encode(content).decode(),
    }
    return msgspec.convert(given, DeadLetterInFull)


def test_json_gets_lines_of_its_own_and_keeps_its_numbers() -> None:
    body = body_of(letter('{"a":[1200.0,1e400,{}],"b":"x, {y}: \\"z\\"","c":[]}'))

    assert body.formatted == (
        '{\n  "a": [\n    1200.0,\n    1e400,\n    {}\n  ],\n  "b": "x, {y}: \\"z\\"",\n  "c": []\n}'
    )


@pytest.mark.parametrize(
    "document", [{"a": [1, {"b": None}], "": {}}, [[], [[]]], {"x": [True, False, -1.5e-9]}]
)
def test_formatting_changes_nothing(document: Any) -> None:
    formatted = body_of(letter(json.dumps(document))).formatted

    assert formatted and json.loads(formatted) == document


@pytest.mark.parametrize("text", ["this is not JSON", "", "12", '{"a":', "[" * 100_000])
def test_what_is_no_document_is_shown_as_it_is(text: str) -> None:
    body = body_of(letter(text))

    assert body.formatted is None and body.text == text[:CHARACTERS_MAX]


def test_what_is_no_text_is_shown_as_bytes() -> None:
    body = body_of(letter(b"\x00\xff<b>" + b"x" * 20))

    assert not body.is_text and not body.cut
    assert body.text.splitlines()[0].startswith("000000  00 ff 3c 62 3e 78") and ".<b>x" not in body.text[:10]


def test_two_megabytes_are_cut() -> None:
    for content in ("x" * 2_000_000, b"\xff" * 2_000_000, json.dumps(["x" * 1000] * 2000)):
        body = body_of(letter(content))

        assert body.cut and len(body.text) <= 20_000 + CHARACTERS_MAX
        assert body.formatted is None or len(body.formatted) <= CHARACTERS_MAX

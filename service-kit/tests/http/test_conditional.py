import pytest
from starlette.datastructures import Headers

from service_kit.http.conditional import is_known

ETAG = 'W/"2"'


@pytest.mark.parametrize(
    "value", ['W/"2"', '"2"', '"1", "2"', 'W/"1",W/"2"', '"x" , W/"2" , "y"', "*", ' W/"2" ']
)
def test_a_tag_that_is_named_is_known(value: str) -> None:
    assert is_known(Headers({"if-none-match": value}), ETAG)


@pytest.mark.parametrize("value", ['W/"1"', '"22"', "2", "", '"1", "3"', "W/", "**", '"2'])
def test_another_tag_or_none_is_not(value: str) -> None:
    assert not is_known(Headers({"if-none-match": value}), ETAG)


def test_without_the_header_nothing_is_known() -> None:
    assert not is_known(Headers(), ETAG)


def test_the_header_may_come_in_several_lines() -> None:
    headers = Headers(raw=[(b"if-none-match", b'"1"'), (b"if-none-match", b'"2"')])
    assert is_known(headers, ETAG)

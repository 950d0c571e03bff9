"""Conditional requests (RFC 9110, 13): who knows the newest state already is not told it again."""

from starlette.datastructures import Headers


def is_known(headers: Headers, etag: str) -> bool:
    """Whether `If-None-Match` names `etag`, by the weak comparison that it asks for, or anything at all.

    An entity tag holds no comma here, so that a list of them needs no parser.
    """
    lines = headers.getlist("if-none-match")
    tags = {tag.strip().removeprefix("W/") for line in lines for tag in line.split(",")}
    return tags == {"*"} or etag.removeprefix("W/") in tags

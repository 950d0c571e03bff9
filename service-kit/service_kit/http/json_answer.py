"""An answer for the routes that are asked for most."""

from collections.abc import Iterable

from starlette.responses import Response


class JsonAnswer(Response):
    """JSON that is encoded already, with headers that are.

    Starlette's own looks through the headers and encodes each of them, for every answer.
    """

    def __init__(
        self, body: bytes, status_code: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        self.body = body
        self.status_code = status_code
        self.background = None
        self.raw_headers = [
            *headers,
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"application/json"),
        ]

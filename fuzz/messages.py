"""What is sent: requests made of the examples in the services' documents, and what can be wrong with them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

from tools.documents import operations, resolved

Json = Any
SMUGGLED = "smuggled"
"""In the path of a request that hides in the body of another, and in headers that nobody may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it should be."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def encoded(self, *more: str, body: bytes | None = None, length: bool = True) -> bytes:
        payload = self.body if body is None else body
        lines = [f"{self.method} {self.path} HTTP/1.1", "host: fuzz"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"content-length: {len(payload)}"] if length else []
        return "\r\n".join([*lines, *more, "", ""]).encode("latin-1") + payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Bytes for one connection, sent in `pieces`.

    `answers_max`: more than that would mean that the service saw a request that is none. `answers`: exactly
    so many must come.
    """

    kind: str
    pieces: tuple[bytes, ...]
    answers_max: int | None = None
    answers: int | None = None


def requests_of(document: Json, headers: tuple[tuple[str, str], ...]) -> list[Request]:
    """One request for each operation and each example of its body; none that is answered by a stream."""
    return [
        Request(method=method, path=_path(path, operation, document), headers=sent, body=body)
        for method, path, operation in operations(document)
        if not streams(operation, document)
        for sent in [(*headers, *_headers(operation, document))]
        for body in _bodies(operation, document)
    ]


def streams(operation: Json, document: Json) -> bool:
    """Whether it is answered by events without an end."""
    answers = (resolved(answer, document) for answer in operation["responses"].values())
    return any("text/event-stream" in answer.get("content", {}) for answer in answers)


def _path(path: str, operation: Json, document: Json) -> str:
    for given in operation["parameters"]:
        parameter = resolved(given, document)
        if parameter["in"] == "path":
            path = path.replace(
                f"{{{parameter['name']}}}", quote(str(_example(parameter, document)), safe="")
            )
    return path


def _headers(operation: Json, document: Json) -> Iterator[tuple[str, str]]:
    for given in operation["parameters"]:
        parameter = resolved(given, document)
        if parameter["in"] == "header" and parameter.get("required"):
            yield parameter["name"], str(_example(parameter, document))


def _example(parameter: Json, document: Json) -> Json:
    schema = resolved(parameter["schema"], document)
    return parameter.get("example", schema.get("enum", ["x"])[0])


def _bodies(operation: Json, document: Json) -> Iterator[bytes]:
    if "requestBody" not in operation:
        yield b""
        return
    for media in resolved(operation["requestBody"], document)["content"].values():
        for given in media["examples"].values():
            value = resolved(given, document)["value"]
            yield value.encode() if isinstance(value, str) else json.dumps(value).encode()


def cases(requests: list[Request], random: Random, count: int) -> Iterator[Case]:
    """`count` cases, each kind as often as every other; the same seed gives the same."""
    with_body = [request for request in requests if request.body]
    kinds = list(KINDS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        request = random.choice(with_body if kind in BODY_KINDS else requests)
        case = KINDS[kind](request, random)
        yield Case(
            kind=kind,
            pieces=_split(b"".join(case.pieces), random),
            answers_max=case.answers_max,
            answers=case.answers,
        )


def _split(data: bytes, random: Random) -> tuple[bytes, ...]:
    """In up to four pieces, at any byte."""
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.choice([0, 0, 1, 3])))
    return tuple(data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True))


def _case(*pieces: bytes, answers_max: int | None = None, answers: int | None = None) -> Case:
    return Case(kind="", pieces=pieces, answers_max=answers_max, answers=answers)


def valid(request: Request, random: Random) -> Case:
    return _case(request.encoded(), answers=1)


def truncated(request: Request, random: Random) -> Case:
    data = request.encoded()
    return _case(data[: random.randrange(len(data))], answers_max=1)


def flipped(request: Request, random: Random) -> Case:
    data = bytearray(request.encoded())
    for _ in range(random.choice([1, 1, 2, 8])):
        data[random.randrange(len(data))] = random.randrange(256)
    return _case(bytes(data))


def spliced(request: Request, random: Random) -> Case:
    data = request.encoded()
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return _case(random.choice([data[:start] + data[end:], data[:end] + data[start:], data[start:end] * 3]))


def garbage(request: Request, random: Random) -> Case:
    starts = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"\r\n" * 50,
        b"AMQP\x00\x00\x09\x01",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://other.example/health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"get /health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"",
    ]
    return _case(random.choice(starts) + random.randbytes(random.choice([0, 3, 300])))


def oversized_head(request: Request, random: Random) -> Case:
    size = random.choice([60_000, 70_000, 200_000])
    heads = [f"x-large: {'x' * size}", "\r\n".join(f"x-{number}: 1" for number in range(size // 10))]
    large = [request.encoded(head) for head in heads]
    long_path = f"GET /orders/{'x' * size} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    return _case(random.choice([*large, long_path]))


def oversized_body(request: Request, random: Random) -> Case:
    announced = random.choice([1_048_577, 10**9, 2**63, 10**30])
    sent = request.encoded(f"content-length: {announced}", length=False) + b"x" * random.choice([0, 100_000])
    return _case(random.choice([sent, request.encoded(body=b" " * 1_048_577 + request.body)]), answers_max=1)


def wrong_encoding(request: Request, random: Random) -> Case:
    text = request.body.decode()
    bodies = [
        text.encode("utf-16"),
        text.encode("utf-32-be"),
        b"\xef\xbb\xbf" + request.body,
        request.body.replace(b'"', b"\xff", random.randrange(4)),
        request.body.replace(b":", b":\xc0\x80", 1),
        bytes(random.choice([byte, byte | 128]) for byte in request.body),
    ]
    return _case(request.encoded(body=random.choice(bodies)), answers=1)


def strange_path(request: Request, random: Random) -> Case:
    tails = [
        *(
            "%ff",
            "%00",
            "%0d%0aset-cookie:%20smuggled=1",
            "%2e%2e",
            "%",
            "%zz",
            "//",
            "/%ed%a0%80",
            "#x",
            ";x=1",
        ),
        *("?", "?a", "?limit=1&limit=2", "?limit=%ff", "?%00=%00", "?limit=-1"),
    ]
    tail = random.choice([*tails, "?" + "a=1&" * 200, "?limit=9" * 40])
    altered = Request(
        method=request.method, path=request.path + tail, headers=request.headers, body=request.body
    )
    return _case(altered.encoded(), answers_max=1)


def strange_json(request: Request, random: Random) -> Case:
    """Duplicate keys, huge numbers, NaN, lone surrogates, control characters, deep nesting."""
    number = random.choice(
        ["NaN", "Infinity", "-Infinity", "1e999999", "1" * 5000, "-0", "1e-400", "0x1", "01", "1."]
    )
    text = random.choice(
        [r'"\ud800"', r'"\udfff\ud800"', r'"\u0000"', '"\x01"', '"' + "x" * 9000 + '"', r'"\q"', '"']
    )
    deep = random.choice([100, 5_000, 200_000])
    value = random.choice(
        [number, text, "null", "true", "[]", "{}", "[" * deep, "[" * deep + "]" * deep, '{"a":' * deep]
    )
    parts = request.body.decode().split(":")
    place = random.randrange(1, len(parts)) if len(parts) > 1 else 0
    replaced = ":".join([*parts[:place], value, *parts[place + 1 :]])
    doubled = request.body.decode().replace("{", '{"order_id": 1, "order_id": "twice", "reason": "a", ', 1)
    return _case(request.encoded(body=random.choice([replaced, doubled, value]).encode()), answers=1)


def bad_chunking(request: Request, random: Random) -> Case:
    size = random.choice(
        ["-1", "zz", "0x5", "ffffffffffffffffff", "5 ", " 5", "+5", "", "5;" + "x" * 70_000, "5\n", "6"]
    )
    ending = random.choice(
        ["\r\n0\r\n\r\n", "\n0\n\n", "0\r\n\r\n", "\r\n0\r\nx-trailer: smuggled\r\n\r\n", ""]
    )
    head = request.encoded("transfer-encoding: chunked", body=b"", length=False)
    return _case(head + f"{size}\r\nabcde{ending}".encode())


def chunked(request: Request, random: Random) -> Case:
    """As it should be, in chunks of any size."""
    step = random.choice([1, 7, 10_000])
    chunks = [request.body[start : start + step] for start in range(0, len(request.body), step)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return _case(request.encoded("transfer-encoding: chunked", body=b"", length=False) + body, answers=1)


def pipelined(request: Request, random: Random) -> Case:
    count = random.choice([2, 5, 12])
    return _case(request.encoded() * count, answers=count)


def injected_header(request: Request, random: Random) -> Case:
    end = random.choice(["\n", "\r", "\r\n ", "\x00", "\r\n", "\r\r\n", "\x0b"])
    name = random.choice(
        ["x-a", "prefer", "x-operator", "if-none-match", "traceparent", "authorization", "host"]
    )
    lines = [
        f"{name}: a{end}set-cookie: smuggled=1",
        f"{name} : a",
        f"{name}{end}: a",
        f": a{end}",
        f"{name}: \xff\xfe",
        f"host: one{end}",
        " folded: a",
    ]
    return _case(request.encoded(random.choice(lines)), answers_max=2 if end == "\r\n" else 1)


def smuggling(request: Request, random: Random) -> Case:
    """A length and chunks, or two lengths: who reads it otherwise than a proxy sees another request in it."""
    hidden = f"GET /{SMUGGLED} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    framings: list[tuple[tuple[str, ...], bytes]] = [
        (("content-length: {whole}", "transfer-encoding: chunked"), b"0\r\n\r\n" + hidden),
        (
            ("transfer-encoding: chunked", "content-length: 4"),
            b"1c\r\n" + b"x" * 28 + b"\r\n0\r\n\r\n" + hidden,
        ),
        (("content-length: 0", "content-length: {whole}"), hidden),
        (("content-length: {whole}", "content-length: 0"), hidden),
        (("content-length: 0, {whole}",), hidden),
        (("content-length: +{whole}",), hidden),
        (("content-length : {whole}",), hidden),
        (("content-length: 0x{whole}",), hidden),
        (("content-length: -1",), hidden),
        (("transfer-encoding: xchunked", "content-length: {whole}"), b"0\r\n\r\n" + hidden),
        (("transfer-encoding: chunked, identity",), b"0\r\n\r\n" + hidden),
        (("transfer-encoding: identity, chunked", "content-length: {whole}"), b"0\r\n\r\n" + hidden),
        (("transfer-encoding:\x0bchunked", "content-length: {whole}"), b"0\r\n\r\n" + hidden),
        (("transfer-encoding : chunked", "content-length: {whole}"), b"0\r\n\r\n" + hidden),
        (("x: y\ntransfer-encoding: chunked", "content-length: {whole}"), b"0\r\n\r\n" + hidden),
    ]
    lines, body = random.choice(framings)
    whole = [line.replace("{whole}", str(len(body))) for line in lines]
    return _case(request.encoded(*whole, body=b"", length=False) + body, answers_max=1)


Kind = Callable[[Request, Random], Case]
KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        valid,
        truncated,
        flipped,
        spliced,
        garbage,
        oversized_head,
        oversized_body,
        wrong_encoding,
        strange_path,
        strange_json,
        bad_chunking,
        chunked,
        pipelined,
        injected_header,
        smuggling,
    )
}
BODY_KINDS = {"wrong_encoding", "strange_json", "chunked", "oversized_body"}

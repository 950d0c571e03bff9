"""`/openapi.json`, and `/docs`: the same for people, without scripts and without assets of other hosts."""

import asyncio
import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role

_METHODS = ("get", "post", "put", "patch", "delete")
_STYLE = re.compile("<style>(.*?)</style>", re.DOTALL)
_CODE = re.compile("`([^`]+)`")


def document_routes(package: str) -> list[Route]:
    """The routes that show `openapi.json` of `package`, to everybody."""
    text = resources.files(package).joinpath("openapi.json").read_bytes()

    @cache
    def page() -> tuple[str, dict[str, str]]:
        return _page(json.loads(text))

    async def openapi(_: Request) -> Response:
        return Response(text, media_type="application/json")

    async def docs(_: Request) -> Response:
        html, headers = await asyncio.to_thread(page)  # takes some 50 ms, once
        return Response(html, headers=headers, media_type="text/html")

    return [
        Route("/openapi.json", Endpoint(openapi, Role.ANYBODY), methods=["GET"]),
        Route("/docs", Endpoint(docs, Role.ANYBODY), methods=["GET"]),
    ]


def _page(document: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """HTML, and the headers that let a browser show it and nothing else."""
    environment = Environment(
        loader=PackageLoader("service_kit.http"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"code": _code, "shown": _shown}

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            found = document
            for step in node["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            node = found
        return node

    html = environment.get_template("docs.html").render(api=document, methods=_METHODS, resolved=resolved)
    styles = [b64encode(sha256(style.encode()).digest()).decode() for style in _STYLE.findall(html)]
    sources = " ".join(f"'sha256-{digest}'" for digest in styles)
    headers = {
        "content-security-policy": f"default-src 'none'; style-src {sources}; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
    }
    return html, headers


def _code(text: str) -> Markup:
    """Of Markdown, what the documents use: `code`."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)

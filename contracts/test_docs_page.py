"""The page `/docs`, of the real documents: complete, and made of nothing but itself."""

import json
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import httpx
import pytest

from service_kit.http.application import application
from service_kit.http.documents import document_routes
from service_kit.observability.metrics import Metrics
from tools.documents import SERVED, complete_openapi, operations

PACKAGES = {"order-service": "order_service.api", "processor-service": "processor_service.api"}
LOADING = {"src", "srcset", "action", "data", "poster", "ping", "style"}


class Page(HTMLParser):
    """Tags, links and identifiers of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "href":
                self.links.add(value or "")
            if name == "id":
                self.ids.add(value or "")


@pytest.mark.parametrize("service", SERVED)
async def test_the_page_shows_every_operation_and_loads_nothing(service: str) -> None:
    answer = await get("/docs", PACKAGES[service])
    page = Page(answer.text)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    document = complete_openapi(service)
    assert {operation["operationId"] for _, _, operation in operations(document)} <= page.ids
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= page.ids
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "form", "object", "embed"})
    assert not page.attributes & LOADING
    assert "default-src 'none'; style-src 'sha256-" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("service", SERVED)
async def test_the_document_is_served_as_it_is(service: str) -> None:
    answer = await get("/openapi.json", PACKAGES[service])

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == complete_openapi(service)


async def test_text_of_a_document_is_never_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = json.dumps(complete_openapi("processor-service")).replace(
        "This document", "<script>`<b>`</script>"
    )
    (tmp_path / "openapi.json").write_text(evil)
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)

    page = await get("/docs", "any.package")

    assert "&lt;script&gt;<code>&lt;b&gt;</code>&lt;/script&gt;" in page.text
    assert Page(page.text).tags.isdisjoint({"script", "b>"})


async def get(path: str, package: str) -> httpx.Response:
    app = application(document_routes(package), metrics=Metrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)

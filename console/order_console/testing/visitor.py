"""Somebody at a browser: keeps cookies, follows links, fills in forms."""

import re
from collections.abc import Mapping

import httpx

_TOKEN = re.compile(r'name="token" value="([^"]+)"')


class Visitor:
    """A form is sent with the token of the page before it, and says where it is from, as browsers do."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, trust_env=False)
        self._own = {"origin": url, "sec-fetch-site": "same-origin"}
        self.token = ""

    async def get(self, path: str, **headers: str) -> httpx.Response:
        answer = await self._http.get(path, headers=headers)
        if found := _TOKEN.search(answer.text):
            self.token = found[1]
        return answer

    async def post(
        self, path: str, form: Mapping[str, str | list[str]], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        given = self._own if headers is None else headers
        return await self._http.post(path, data={"token": self.token, **form}, headers=given)

    async def login(self, key: str, operator: str = "Anna") -> httpx.Response:
        await self.get("/console/login")
        answer = await self.post("/console/login", {"key": key, "operator": operator})
        await self.get("/console")
        return answer

    def forget(self) -> None:
        self._http.cookies.clear()

    @property
    def http(self) -> httpx.AsyncClient:
        return self._http

    async def close(self) -> None:
        await self._http.aclose()

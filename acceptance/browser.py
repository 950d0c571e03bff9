"""A real Chromium, watched: what it complains of, and whom it asks."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import axe_playwright_python
from playwright.async_api import ConsoleMessage, Dialog, Page, Request, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
NO_CHROMIUM = (
    "no Chromium: TEST_CHROMIUM is not set, and none is in the PATH (Debian: apt-get install chromium)"
)
SERIOUS = ("serious", "critical")

Scheme = Literal["light", "dark"]


def find_chromium() -> str | None:
    """What TEST_CHROMIUM names, else one of the PATH."""
    given = os.environ.get("TEST_CHROMIUM")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


class Watched:
    """A page, and all that went wrong on it; it may ask the server at `url` only.

    `forgiven`: browsers complain of answers of such statuses, which a test may want.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.forgiven: tuple[int, ...] = ()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", self._refuse)
        page.on("request", self._look)

    async def goto(self, path: str) -> None:
        answer = await self.page.goto(self.url + path)
        assert answer and answer.ok, f"{path}: {answer and answer.status}"

    async def axe(self) -> list[str]:
        """What an accessibility check finds seriously wrong."""
        await self.page.evaluate(_axe())
        found: Any = await self.page.evaluate("axe.run()")
        return [
            f"{violation['id']}: {violation['help']}: {node['html'][:200]}"
            for violation in found["violations"]
            if violation["impact"] in SERIOUS
            for node in violation["nodes"]
        ]

    async def tab_to(self, words: str, *, most: int = 80) -> None:
        """Press Tab until what has the focus is called `words`, as somebody without a mouse does."""
        for _ in range(most):
            await self.page.keyboard.press("Tab")
            if words in await self.page.evaluate(_FOCUSED):
                return
        raise AssertionError(f"Tab does not lead to {words!r}")

    def _hear(self, message: ConsoleMessage) -> None:
        forgiven = any(f"status of {status} " in message.text for status in self.forgiven)
        if message.type in ("error", "warning") and not forgiven:
            self.complaints.append(f"{message.type}: {message.text}")

    async def _refuse(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _look(self, request: Request) -> None:
        if urlsplit(request.url)[:2] != urlsplit(self.url)[:2]:
            self.complaints.append(f"asks elsewhere: {request.url}")


@asynccontextmanager
async def browsing(
    executable: str,
    url: str,
    *,
    scheme: Scheme = "light",
    width: int = 1280,
    height: int = 900,
    scripts: bool = True,
) -> AsyncIterator[Watched]:
    """A page that has not been anywhere yet. At its end there must have been nothing to complain of."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            context = await chromium.new_context(
                color_scheme=scheme,
                java_script_enabled=scripts,
                reduced_motion="reduce",
                viewport={"width": width, "height": height},
            )
            context.set_default_timeout(20_000)
            watched = Watched(await context.new_page(), url)
            yield watched
        finally:
            await chromium.close()
    assert not watched.complaints, "\n".join(watched.complaints)


_FOCUSED = """() => {
  const focused = document.activeElement;
  const label = focused.labels?.[0]?.textContent ?? "";
  return [focused.ariaLabel ?? "", label, focused.textContent].join(" ");
}"""


def _axe() -> str:
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

"""What every page of the console is made with: who asks, and how it is shown."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from order_console.access import PATH, Closed, ConsoleAccess, LoginNeeded
from order_console.assets import Assets
from order_console.feed import Feed
from order_console.forms import BadInput, Form, form_of, query_of
from order_console.notes import note_of
from order_console.rendering import environment
from order_console.services import Services
from order_console.session import Session
from order_console.trouble import FORESEEN, trouble_of
from order_processor_client.request import Service
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role

SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request of somebody who may ask; `form` is empty unless one was sent."""

    request: Request
    session: Session
    query: Form
    form: Form

    @property
    def operator(self) -> str:
        assert self.session.operator, "whoever is not logged in does not get here"
        return self.session.operator


Answering = Callable[[Request], Awaitable[Response]]
Page = Callable[[Visit], Awaitable[Response]]


class Site:
    """The pages' common ground."""

    def __init__(self, services: Services, feed: Feed, access: ConsoleAccess) -> None:
        self.services = services
        self.feed = feed
        self.access = access
        self.assets = Assets()
        self._templates = environment(self.assets)

    def page(self, path: str, page: Page) -> Route:
        async def get(request: Request) -> Response:
            session = self.access.session(request)
            return await page(Visit(request=request, session=session, query=query_of(request), form=Form()))

        return self.door(path, "GET", get)

    def form(self, path: str, page: Page) -> Route:
        async def post(request: Request) -> Response:
            session = self.access.session(request)
            form = await form_of(request)
            self.access.check_form(request, session, form)
            return await page(Visit(request=request, session=session, query=query_of(request), form=form))

        return self.door(path, "POST", post)

    def door(self, path: str, method: str, answer: Answering) -> Route:
        """A route that looks itself at who asks. Its errors are pages, and its answers have all headers."""

        async def safe(request: Request) -> Response:
            response = await self._answered(request, answer)
            response.headers.update(SECURITY)
            response.headers.setdefault("cache-control", "no-store")
            return response

        return Route(PATH + path, Endpoint(safe, Role.ANYBODY), methods=[method])

    def show(self, visit: Visit, template: str, *, status: int = 200, **values: Any) -> Response:
        return self.show_to(visit.request, visit.session, template, status=status, **values)

    def show_to(
        self, request: Request, session: Session | None, template: str, *, status: int = 200, **values: Any
    ) -> Response:
        """For whom nobody knows, `session` is None: such a page has no form."""
        common = {
            "operator": session.operator if session else None,
            "has_login": self.access.has_login,
            "token": self.access.form_token(session) if session else None,
            "path": request.scope["path"].removeprefix(PATH),
            "snapshot": self.feed.snapshot,
            "note": note_of(query_of(request)),
        }
        html = self._templates.get_template(template).render(common | values)
        response = Response(html.encode("utf-8", "backslashreplace"), status, media_type="text/html")
        if session:
            self.access.remember(response, request, session)
        return response

    def part(self, template: str, **values: Any) -> str:
        """A piece of a page."""
        return self._templates.get_template(template).render(values)

    async def _answered(self, request: Request, answer: Answering) -> Response:
        try:
            return await answer(request)
        except LoginNeeded:
            return to("/login", next=_asked(request))
        except Closed:
            return self.show_to(request, None, "closed.html", status=403)
        except FORESEEN as error:
            trouble = trouble_of(error, changing=request.method == "POST")
            return self.show_to(request, None, "trouble.html", status=trouble.status, trouble=trouble)


def service_of(form: Form) -> Service:
    """The service that an address or a form names. Raises BadInput."""
    word = form.text("service")
    try:
        return Service(word)
    except ValueError:
        raise BadInput(f"There is no service {word[:40]!r}: it is 'order' or 'processor'.") from None


def reason_of(form: Form) -> str:
    """Raises BadInput: whoever reads the audit log wants to know."""
    reason = form.text("reason")
    if not reason:
        raise BadInput("A reason is needed: it goes into the audit log.")
    return reason


def to(path: str, **query: object) -> Response:
    """After a change: on to a page that tells of it, so that reloading it does nothing again."""
    given = {name: str(value) for name, value in query.items() if value is not None}
    return RedirectResponse(f"{PATH}{path}?{urlencode(given)}" if given else PATH + path, 303)


def _asked(request: Request) -> str | None:
    if request.method != "GET":
        return None
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else str(path)

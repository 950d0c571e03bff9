"""Who may see the console, and whose form may change something."""

from hmac import compare_digest
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from order_console.forms import BadInput, Form
from order_console.session import SESSION_SECONDS, Session, Sessions
from service_kit.http.access import is_local

COOKIE = "order-console"
PATH = "/console"
LOCAL_OPERATOR = "local"
OPERATOR_LENGTH_MAX = 100


class Closed(Exception):
    """Nobody can log in: there is no key, and whoever asks is not on this machine."""


class LoginNeeded(Exception):
    """Whoever asks is not logged in, or not any more."""


class ForeignForm(Exception):
    """A form that did not come from a page of this console, or from one that is too old."""


class ConsoleAccess:
    """With a key, whoever logged in with it. Without one, and with `open_on_loopback`, this machine.

    The console asks the services with a key of its own, so it must look as closely as they do.
    """

    def __init__(self, admin_key: str | None, *, open_on_loopback: bool = False) -> None:
        self._key = admin_key.encode() if admin_key else None
        self._open_on_loopback = open_on_loopback
        self._sessions = Sessions(admin_key)

    @property
    def has_login(self) -> bool:
        return self._key is not None

    def session(self, request: Request) -> Session:
        """Raises Closed, LoginNeeded."""
        session = self.visitor(request)
        if session.operator is None:
            raise LoginNeeded
        return session

    def visitor(self, request: Request) -> Session:
        """Also of those who are not logged in: their login form needs a session too. Raises Closed."""
        if self._key is None and not (self._open_on_loopback and is_local(request)):
            raise Closed
        known = self._sessions.of_cookie(request.cookies.get(COOKIE, ""))
        return known or self._sessions.new(None if self.has_login else LOCAL_OPERATOR)

    def login(self, form: Form) -> Session:
        """Raises BadInput when the key is another, or the name cannot be used."""
        if self._key is not None and not compare_digest(form.text("key").encode(), self._key):
            raise BadInput("This is not the admin key.")
        return self._sessions.new(_operator(form.text("operator")))

    def form_token(self, session: Session) -> str:
        return self._sessions.form_token(session)

    def check_form(self, request: Request, session: Session, form: Form) -> None:
        """Raises ForeignForm."""
        if not (_is_of_our_own_page(request) and self._sessions.is_form_token(session, form.text("token"))):
            raise ForeignForm

    def remember(self, response: Response, request: Request, session: Session) -> None:
        """As a cookie that no script reads, no other site sends, and other paths of this host do not get."""
        forwarded = request.headers.get("x-forwarded-proto", "")
        response.set_cookie(
            COOKIE,
            self._sessions.cookie(session),
            max_age=SESSION_SECONDS,
            path=PATH,
            secure="https" in (request.scope["scheme"], forwarded),
            httponly=True,
            samesite="strict",
        )

    def forget(self, response: Response) -> None:
        response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")


def _is_of_our_own_page(request: Request) -> bool:
    """Browsers that know `Sec-Fetch-Site` say it themselves; a proxy may have changed the host."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == request.headers.get("host", "").lower()


def _operator(name: str) -> str:
    if not 1 <= len(name) <= OPERATOR_LENGTH_MAX or not name.isprintable():
        raise BadInput(f"Your name must have 1 to {OPERATOR_LENGTH_MAX} printable characters.")
    return name

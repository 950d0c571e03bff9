"""Who is logged in, in a signed cookie: good wherever the key is the same, and after a restart."""

import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import scrypt
from hmac import compare_digest, digest

SESSION_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`operator` is None until somebody has logged in; `nonce` makes the tokens of its forms its own."""

    operator: str | None
    nonce: str
    expires_at: int


class Sessions:
    """Signs sessions with what is derived from the admin key; without one, with what only this process knows.

    The key itself is in no cookie. It is derived slowly, since whoever has a cookie can try keys against it.
    """

    def __init__(self, admin_key: str | None, *, now: Callable[[], float] = time.time) -> None:
        secret = admin_key.encode() if admin_key else secrets.token_bytes(32)
        self._secret = scrypt(secret, salt=b"order-console session", n=2**14, r=8, p=1, dklen=32)
        self._now = now

    def new(self, operator: str | None) -> Session:
        expires_at = int(self._now()) + SESSION_SECONDS
        return Session(operator=operator, nonce=secrets.token_urlsafe(16), expires_at=expires_at)

    def cookie(self, session: Session) -> str:
        content = _encoded(json.dumps([session.operator, session.nonce, session.expires_at]).encode())
        return f"{content}.{self._signature('cookie', content)}"

    def of_cookie(self, cookie: str) -> Session | None:
        """None when it is not ours, was changed, or is over."""
        content, _, signature = cookie.partition(".")
        if not _same(signature, self._signature("cookie", content)):
            return None
        operator, nonce, expires_at = json.loads(urlsafe_b64decode(content))
        if expires_at <= self._now():
            return None
        return Session(operator=operator, nonce=nonce, expires_at=expires_at)

    def form_token(self, session: Session) -> str:
        return self._signature("form", session.nonce)

    def is_form_token(self, session: Session, token: str) -> bool:
        return _same(token, self.form_token(session))

    def _signature(self, purpose: str, content: str) -> str:
        return _encoded(digest(self._secret, f"{purpose}:{content}".encode(), "sha256"))


def _same(given: str, ours: str) -> bool:
    return compare_digest(given.encode("utf-8", "replace"), ours.encode())


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).decode()

"""Somebody who issues signed tokens."""

from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """`name` and `audience` are what its tokens say as `iss` and `aud`."""

    name: str
    audience: str
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "rsa"}))

    def key_set(self) -> dict[str, Any]:
        return {"keys": [self.key.as_dict(private=False)]}

    def token(self, **claims: Any) -> str:
        given = {"iss": self.name, "aud": self.audience} | claims
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, given, self.key)

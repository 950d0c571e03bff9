"""What can go wrong between here and a service."""

import msgspec


class ClientError(Exception):
    """Base of the client's errors."""


class Misconfigured(ClientError):
    """A URL, the key or the operator's name cannot be used as it was given."""


class Unreachable(ClientError):
    """No answer came: whether the request was carried out is not known."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} cannot be reached: {reason}")
        self.url = url
        self.reason = reason


class UnexpectedAnswer(ClientError):
    """An answer that this API does not give: something else listens at the URL, or another version."""


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one part of the input; `loc` leads there, such as `("body", "items", 0, "sku")`."""

    loc: tuple[str | int, ...] = ()
    msg: str = ""

    def __str__(self) -> str:
        steps = self.loc[1:] if self.loc[:1] == ("body",) else self.loc
        return f"{'.'.join(map(str, steps))}: {self.msg}" if steps else self.msg


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The document that says why something was refused."""

    status: int
    error_type: str
    detail: str = ""
    errors: tuple[FieldError, ...] = ()

    def __str__(self) -> str:
        if not self.errors:
            return self.detail
        return f"{self.detail.rstrip('.')}: {'; '.join(map(str, self.errors))}"


class ProblemError(ClientError):
    """The service refused (RFC 9457). `error_type` is its stable word, such as `OrderConflict`.

    `retry_after` is how many seconds it asks to wait, if it does.
    """

    def __init__(self, problem: Problem, *, retry_after: float | None = None) -> None:
        super().__init__(str(problem))
        self.status = problem.status
        self.error_type = problem.error_type
        self.detail = problem.detail
        self.errors = problem.errors
        self.retry_after = retry_after

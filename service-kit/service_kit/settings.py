"""Settings come from the environment: read once, in `main`, and checked all at once.

A variable is `APP__` and the name of a field, in any case (`APP__DB_DSN`, `app__db_dsn`; of two spellings the
one in capitals counts). An empty value counts as unset.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import Meta, inspect

from service_kit.errors import StartupError

PREFIX = "APP__"

_HOSTS = (
    r"(([^\s:,/?#@\[\]]*|\[[0-9a-fA-F:.]+\])(:\d{1,5})?)(,([^\s:,/?#@\[\]]*|\[[0-9a-fA-F:.]+\])(:\d{1,5})?)*"
)
_AUTHORITY = rf"://([^/?#\s]*@)?{_HOSTS}(/[^?#\s]*)?(\?\S*)?$"

_PASSWORD = re.compile(r"(?<=://)([^:/?#\s]*:)[^/?#\s]*(?=@)|([?&](?:ssl)?password=)[^&\s]*")
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}

DatabaseUrl = Annotated[
    str,
    Meta(
        pattern=rf"^postgres(ql(\+asyncpg)?)?{_AUTHORITY}",
        description="postgresql://user:password@host:5432/database (several host:port with commas between; "
        "special characters in a password as %40 and so on)",
        extra={"secret": True},
    ),
]
BrokerUrl = Annotated[
    str,
    Meta(
        pattern=rf"^amqps?{_AUTHORITY}",
        description="amqp://user:password@host:5672/virtual-host or amqps://… (special "
        "characters in a password as %40 and so on)",
        extra={"secret": True},
    ),
]
AdminKey = Annotated[
    Annotated[str, Meta(pattern=r"^[!-~]{16,200}$")] | None,
    Meta(
        description="16 to 200 printable ASCII characters without spaces",
        extra={"secret": True, "mask": "all"},
    ),
]
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="letters, digits and . _ - only")
]
Instance = Annotated[
    Name | None, Meta(description="letters, digits and . _ - only; else the machine's name and a number")
]
Host = Annotated[str, Meta(pattern=r"^\S{1,255}$", description="an address or a name of this machine")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Rate = Annotated[
    Annotated[float, Meta(ge=0.1, le=1_000_000)] | None,
    Meta(description="requests a second, from 0.1 to 1000000; no limit when unset"),
]
Connections = Annotated[int, Meta(ge=1, le=1_000_000)]
Origins = Annotated[
    Annotated[str, Meta(pattern=r"^https?://[^\s,/?#@*]+(,https?://[^\s,/?#@*]+)*$")] | None,
    Meta(description="origins such as https://shop.example, with commas between"),
]
TokenWord = Annotated[
    Annotated[str, Meta(pattern=r"^\S{1,1000}$")] | None, Meta(description="a name or URL without spaces")
]
_THIS_MACHINE = r"http://(localhost|127\.0\.0\.1|\[::1\])"
KeysUrl = Annotated[
    Annotated[str, Meta(pattern=rf"^(https://[^\s/?#@]+|{_THIS_MACHINE}(:\d{{1,5}})?)(/[^\s#]*)?$")] | None,
    Meta(description="https://host/path, or http:// on this machine alone"),
]
Algorithms = Annotated[
    str,
    Meta(
        pattern=r"^(RS|PS|ES)(256|384|512)(,(RS|PS|ES)(256|384|512))*$",
        description="RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 with commas between; "
        "none and HS… are never taken",
    ),
]
Days = Annotated[float, Meta(gt=0, le=3650)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
_Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LOG_LEVELS: tuple[str, ...] = get_args(_Level)
LogLevel = Annotated[
    _Level,
    Meta(description="DEBUG, INFO, WARNING, ERROR or CRITICAL"),
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What both services share; each adds its own, and sets `service_name` and `port`."""

    service_name: Name
    db_dsn: DatabaseUrl
    rabbitmq_url: BrokerUrl = "amqp://guest:guest@localhost/"
    host: Host = "127.0.0.1"
    port: Port
    exchange: Name = "orders"
    queue_type: Literal["classic", "quorum"] = "classic"
    events_per_message: Annotated[int, Meta(ge=1, le=1000)] = 1
    migrate: bool = True
    log_level: LogLevel = "INFO"
    shutdown_grace_seconds: Seconds = 20.0
    inbox_retention_days: Days = 7.0
    """How long the keys of handled events are kept; versions alone guard against later duplicates."""
    publications_retention_days: Days = 7.0
    """How long it is kept when each event was published, and by which process."""
    instance: Instance = None
    """What this process is called in what it records; see `instance_name`."""
    admin_key: AdminKey = None
    """A key that may all, and that needs no database; processes of a deployment ask each other with it."""
    auth: Literal["keys", "off"] = "keys"
    """Whether keys are asked for; `off` leaves the admin routes to those who have `admin_key`."""
    rate_per_key: Rate = None
    """Requests a second, with bursts of five times as many; in a bulk each order counts as one."""
    rate_per_address: Rate = None
    connections_max: Connections = 10_000
    connections_per_address_max: Connections = 4_000
    cors_origins: Origins = None
    """Whose pages may call the API from a browser; none by default."""
    jwt_issuer: TokenWord = None
    """Whose signed tokens are good as well as keys: what they name as `iss`."""
    jwt_audience: TokenWord = None
    """What they name as `aud`."""
    jwt_jwks_url: KeysUrl = None
    """Where the issuer tells its keys."""
    jwt_algorithms: Algorithms = "RS256,ES256"

    def __post_init__(self) -> None:
        """Raises StartupError when tokens are set up in part, or would not be asked for."""
        needed = ("jwt_issuer", "jwt_audience", "jwt_jwks_url")
        missing = [_variable(name) for name in needed if getattr(self, name) is None]
        if 0 < len(missing) < len(needed):
            every = ", ".join(map(_variable, needed))
            raise StartupError(f"tokens need all of {every}; not set: {', '.join(missing)}", exit_code=2)
        if not missing and self.auth == "off":
            text = "APP__AUTH=off asks nobody for a token: set APP__AUTH=keys, or unset APP__JWT_ISSUER etc."
            raise StartupError(text, exit_code=2)


S = TypeVar("S", bound=Settings)


class ReadSettings(NamedTuple, Generic[S]):
    """`warnings`: a line for each variable that looks like a setting and is none."""

    settings: S
    warnings: Sequence[str]


def read_settings(
    kind: type[S], environ: Mapping[str, str], *, also_known: Collection[str] = ()
) -> ReadSettings[S]:
    """Read `kind` from `environ`; `also_known` are names (without prefix) that mean something elsewhere.

    Raises StartupError with exit code 2, whose text has a line for every bad setting and shows no password.
    """
    given = _given(environ)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, field in fields.items():
        if name in given:
            try:
                values[name] = _convert(given[name], field.type)
            except msgspec.ValidationError:
                faults.append(_fault(name, given[name], field.type))
        elif field.required:
            faults.append(f"{_variable(name)} is not set; needed: {_allowed(field.type)}")
    if faults:
        raise StartupError("\n".join(faults), exit_code=2)
    unknown = [
        name for name in given if name not in fields and name not in {word.lower() for word in also_known}
    ]
    return ReadSettings(kind(**values), [_warning(name, list(fields)) for name in unknown])


def masked(settings: Settings) -> dict[str, object]:
    """The settings for a log line: keys, and passwords in addresses, are replaced by `***`."""
    shown = {name: _mask(value) for name, value in msgspec.structs.asdict(settings).items()}
    for field in msgspec.structs.fields(settings):
        if shown[field.name] is not None and _metadata(field.type).get("mask") == "all":
            shown[field.name] = "***"
    return shown


def settings_help(kind: type[Settings]) -> str:
    """A line for each setting: its variable, what is allowed, and its default."""
    return "\n".join(
        f"  {_variable(field.name):30} {_allowed(field.type)}"
        + ("; required" if field.required else f" [{_mask(_shown_default(field.default))}]")
        for field in msgspec.structs.fields(kind)
    )


def _shown_default(value: object) -> object:
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else value


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """The values that are set, by field name."""
    # Sorted, capitals come first in ASCII; so in reverse they come last, and win.
    names = sorted((name for name in environ if name.upper().startswith(PREFIX)), reverse=True)
    return {name[len(PREFIX) :].lower(): environ[name].strip() for name in names if environ[name].strip()}


def _convert(text: str, kind: Any) -> object:
    match _plain(kind):
        case inspect.BoolType():
            return _one_of(text, _BOOLEANS)
        case inspect.LiteralType(values=words):
            return _one_of(text, {str(word): word for word in words})
        case _:
            return msgspec.convert(text, kind, strict=False)


def _one_of(text: str, words: Mapping[str, object]) -> object:
    """The meaning of a word in any case."""
    for word, meaning in words.items():
        if word.lower() == text.lower():
            return meaning
    raise msgspec.ValidationError


def _plain(kind: Any) -> inspect.Type:
    """The type without its annotations, and without None."""
    found = inspect.type_info(kind)
    while isinstance(found, inspect.Metadata | inspect.UnionType):
        found = found.type if isinstance(found, inspect.Metadata) else found.types[0]
    return found


def _fault(name: str, text: str, kind: Any) -> str:
    shown = "" if _metadata(kind).get("secret") else f"={text[:80]!r}"
    return f"{_variable(name)}{shown} is not valid; allowed: {_allowed(kind)}"


def _allowed(kind: Any) -> str:
    if described := _metadata(kind).get("description"):
        return str(described)
    match _plain(kind):
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=words):
            return " or ".join(str(word) for word in words)
        case inspect.IntType() as number:
            return f"a whole number{_range(number)}"
        case inspect.FloatType() as number:
            return f"a number{_range(number)}"
        case _:
            return "another value"


def _range(number: inspect.IntType | inspect.FloatType) -> str:
    above = f" above {number.gt:g}" if number.gt is not None else ""
    low = f" from {number.ge:g}" if number.ge is not None else above
    return f"{low} to {number.le:g}" if number.le is not None else low


def _metadata(kind: Any) -> dict[str, Any]:
    found = inspect.type_info(kind)
    return (
        {**(found.extra_json_schema or {}), **(found.extra or {})}
        if isinstance(found, inspect.Metadata)
        else {}
    )


def _warning(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"; is {_variable(close[0])} meant?" if close else ""
    return f"{_variable(name)} is set, but there is no such setting{hint}"


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _mask(value: object) -> object:
    return (
        _PASSWORD.sub(lambda found: (found[1] or found[2]) + "***", value)
        if isinstance(value, str)
        else value
    )

"""The standard variables of OpenTelemetry: whether spans are traced at all, and that no value is nonsense.

The SDK reads them itself. They are looked at here since what it does not understand it takes for the default,
such as recording everything, or fails with a traceback.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from service_kit.errors import StartupError
from service_kit.settings import Settings
from service_kit.tracing.messaging import Messaging
from service_kit.tracing.tracer import Tracer

RABBITMQ = "rabbitmq"


def tracer_for(
    settings: Settings,
    *,
    messaging_system: str = RABBITMQ,
    shares_process: bool = False,
    is_global: bool = False,
) -> Tracer | None:
    """The tracer of a service, or None as long as the environment names no OTLP endpoint.

    The service is named by OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES, else as its settings say; always so
    when it `shares_process` with another one. `is_global`: what others trace in this process by the API goes
    the same way, unless they have a provider of their own. Raises StartupError with exit code 2.
    """
    _forget_empty_ones()
    if not is_on(os.environ):
        return None
    if wrong := list(faults(os.environ)):
        raise StartupError("\n".join(wrong), exit_code=2)
    messaging = Messaging(system=messaging_system, exchange=settings.exchange)
    try:
        # Not before it is needed: it costs 0.2 seconds, and 10 MB.
        from service_kit.tracing.sdk import open_tracer

        name = settings.service_name
        return open_tracer(name, messaging, shares_process=shares_process, is_global=is_global)
    except Exception as error:  # whatever the SDK makes of a variable that is not among ours
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise StartupError(f"OTEL_*: {text}", exit_code=2) from error


def is_on(environ: Mapping[str, str]) -> bool:
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return not disabled and exporter != "none" and any(environ.get(name, "").strip() for name in _ENDPOINTS)


def faults(environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable whose value makes no sense."""
    for names, is_valid, allowed in _RULES:
        for name in names:
            value = environ.get(name, "").strip()
            if value and not is_valid(value):
                shown = "" if name in _ENDPOINTS else f"={value[:80]!r}"  # a URL may hold a password
                yield f"{name}{shown} is not valid; allowed: {allowed}"
    if "ratio" in environ.get("OTEL_TRACES_SAMPLER", "").lower():
        share = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
        if not _is_share(share):
            yield f"OTEL_TRACES_SAMPLER_ARG={share[:80]!r} is not valid; allowed: a number from 0 to 1"


def _forget_empty_ones() -> None:
    """By the specification an empty value counts as unset; the SDK does not see it so everywhere."""
    for name in [name for name in os.environ if name.startswith("OTEL_") and not os.environ[name].strip()]:
        del os.environ[name]


def _of_exporter(name: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_{name}", f"OTEL_EXPORTER_OTLP_TRACES_{name}"


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value.lower() in words


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_share(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return False


def _is_positive(value: str) -> bool:
    try:
        return 0 < float(value) < float("inf")
    except ValueError:
        return False


def _is_count(value: str) -> bool:
    return value.isascii() and value.isdigit() and int(value) > 0


def _is_readable(value: str) -> bool:
    return os.path.isfile(value) and os.access(value, os.R_OK)


_ROOT_SAMPLERS = ("always_on", "always_off", "traceidratio")
_SAMPLERS = [f"{prefix}{name}" for prefix in ("", "parentbased_") for name in _ROOT_SAMPLERS]
_ENDPOINTS = _of_exporter("ENDPOINT")

_RULES: tuple[tuple[tuple[str, ...], Callable[[str], bool], str], ...] = (
    (_ENDPOINTS, _is_url, "http://host:4318 or https://…"),
    (_of_exporter("PROTOCOL"), _one_of("http/protobuf"), "http/protobuf (a collector takes it on port 4318)"),
    (_of_exporter("COMPRESSION"), _one_of("none", "gzip", "deflate"), "none, gzip or deflate"),
    (_of_exporter("TIMEOUT"), _is_positive, "seconds, above 0"),
    (
        (*_of_exporter("CERTIFICATE"), *_of_exporter("CLIENT_KEY"), *_of_exporter("CLIENT_CERTIFICATE")),
        _is_readable,
        "a file that can be read",
    ),
    (("OTEL_TRACES_EXPORTER",), _one_of("otlp"), "otlp or none"),
    (("OTEL_TRACES_SAMPLER",), _one_of(*_SAMPLERS), ", ".join(_SAMPLERS)),
    (
        tuple(
            f"OTEL_BSP_{name}"
            for name in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE")
        ),
        _is_count,
        "a whole number above 0",
    ),
)

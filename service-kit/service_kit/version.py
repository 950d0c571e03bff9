"""Which release of this software runs."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Such as `1.2.3`; `unknown` where the code runs without being installed."""
    try:
        return version("order-processor")
    except PackageNotFoundError:
        return "unknown"

"""The entry of the command, which loads everything else: `python -m processor_service` is the same."""

from collections.abc import Callable
from typing import NoReturn

from service_kit.quiet_start import start


def main() -> NoReturn:
    start(_load)


def _load() -> Callable[[], NoReturn]:
    from processor_service.main import cli

    return cli


if __name__ == "__main__":
    main()

"""The entry of the command, which loads everything else: `python -m processor_service` is the same."""

from service_kit.quiet_start import start


def main() -> None:
    start("processor_service.main")


if __name__ == "__main__":
    main()

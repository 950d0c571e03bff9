"""The entry of the command, which loads everything else: `python -m order_processor` is the same."""

from service_kit.quiet_start import start


def main() -> None:
    start("order_processor.main")


if __name__ == "__main__":
    main()

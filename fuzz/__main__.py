"""The command `make fuzz`."""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

from acceptance.deployment import deployment
from fuzz.campaign import Outcome, fuzz
from fuzz.stage import Headers, targets
from service_kit.testing.postgres_server import PostgresServer, given_postgres, postgres_for_tests
from service_kit.testing.rabbitmq_server import given_rabbitmq, rabbitmq_for_tests

REQUESTS, RAW = 20_000, 20_000


def main() -> int:
    """0: all held; 1: not."""
    arguments = _arguments()
    seed = SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    print(f"seed {seed}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="order-fuzz-")))
        postgres, rabbitmq = given_postgres(), given_rabbitmq()
        server = stack.enter_context(postgres_for_tests(postgres[0] if postgres else None))
        rabbitmq_url = stack.enter_context(rabbitmq_for_tests(rabbitmq[0] if rabbitmq else None))
        outcomes = asyncio.run(_fuzz_both(server, rabbitmq_url, folder, arguments, seed))
    for outcome in outcomes:
        print(outcome)
        for fault in outcome.faults:
            print(f"  {fault}")
    return 1 if any(outcome.faults for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="generated of the documents, in all")
    parser.add_argument("--raw", type=int, default=RAW, help="connections with raw bytes, in all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--header", action="append", default=[], help="'Name: value', of every request")
    return parser.parse_args()


async def _fuzz_both(
    server: PostgresServer, rabbitmq_url: str, folder: Path, arguments: argparse.Namespace, seed: int
) -> list[Outcome]:
    """One after the other, half of everything each."""
    given: Headers = tuple(
        (name, value.strip()) for name, _, value in (h.partition(":") for h in arguments.header)
    )
    async with (
        deployment(server, rabbitmq_url, f"fuzz-{seed}", folder) as deployed,
        targets(deployed, given) as found,
    ):
        return [
            await fuzz(
                target, requests=arguments.requests // 2, raw=arguments.raw // 2, seed=seed, folder=folder
            )
            for target in found
        ]


if __name__ == "__main__":
    sys.exit(main())

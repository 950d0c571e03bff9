"""When the service is back, and how long nothing was accepted."""

import asyncio
from collections.abc import Iterable
from itertools import pairwise

from chaos.answers import Answer
from chaos.instances import Instance
from chaos.load import Client
from cluster.stage import Stage

_GIVEN_UP_SECONDS = 90.0


async def seconds_until_back(staged: Stage, since: float) -> float | None:
    """From `since` until each order-service process took a new order that became final, and all are ready.

    None when that did not happen within 90 s. The orders are recorded and judged as all others.
    """
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout_at(since + _GIVEN_UP_SECONDS):
            await asyncio.gather(*(_becomes_final(staged, instance) for instance in staged.orders))
            if not await staged.all_ready(_GIVEN_UP_SECONDS):
                return None
    except TimeoutError:
        return None
    return clock() - since


async def _becomes_final(staged: Stage, instance: Instance) -> None:
    client = Client(staged.load, first=0, urls=[instance.url])
    order_id, customer = staged.load.new_order()
    try:
        answer = await client.post(order_id, customer)
        while answer is None or answer.order is None or answer.order["status"] == "pending":
            await asyncio.sleep(0.1)
            answer = await client.get(order_id)
    finally:
        client.close()


def longest_silence(answers: Iterable[Answer], begin: float, end: float) -> float:
    """The most seconds between `begin` and `end` in which no order was accepted."""
    times = sorted(
        answer.answered_at for answer in answers if answer.accepted and begin <= answer.answered_at <= end
    )
    return max(later - earlier for earlier, later in pairwise([begin, *times, end]))

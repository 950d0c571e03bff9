"""A policy that gets stuck for as long as a file is there: `STUCK_FILE` names it."""

import asyncio
import os
from pathlib import Path

from processor_service.policy import Decision, Order, approve, reject


async def decide(order: Order) -> Decision:
    while Path(os.environ["STUCK_FILE"]).exists():
        await asyncio.sleep(0.1)
    return reject("Too fatty food") if "potato" in {item.sku for item in order.items} else approve()

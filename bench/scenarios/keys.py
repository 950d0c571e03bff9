"""What asking for keys costs: intake at its limit with keys off and on, in turn."""

from bench.generator import load
from bench.scenarios.scenario import Bench, Figures, Lengths, Scenario
from bench.servers import Servers
from bench.stage import stage
from service_kit.http.principal import Role
from service_kit.postgres.api_keys import ApiKeys, NewKey
from service_kit.postgres.audit import Cause
from service_kit.postgres.database import Database

CONNECTIONS = 64
_TURNS = ("off", "keys", "keys", "off")
"""There and back, so that a machine that gets faster or slower favours none."""


async def run(bench: Bench) -> Figures:
    """`share`: the orders a second with keys, as a share of those without."""
    rates: dict[str, list[float]] = {"off": [], "keys": []}
    for auth in _TURNS:
        bench.tell(f"keys {'off' if auth == 'off' else 'on'}")
        rates[auth].append(await _at_its_limit(bench.servers, bench.lengths, auth))
    return {**rates, "share": sum(rates["keys"]) / sum(rates["off"])}


async def _at_its_limit(servers: Servers, lengths: Lengths, auth: str) -> float:
    """With a key that is restricted to one customer, which is the longest check that there is."""
    async with stage(servers, broker_away=True, settings={"APP__AUTH": auth}) as staged:
        await staged.listening(staged.order)
        async with Database(staged.orders_dsn, application_name="bench") as database:
            new = NewKey(name="bench", roles=[Role.WRITE], customers=["customer-17"])
            made = await ApiKeys(database).create(new, Cause(operator="bench", reason="to measure"))
        spec = staged.spec(
            connections=CONNECTIONS, seconds=lengths.intake_seconds, prefix="k064", key=made.secret
        )
        result = await load(spec)
    if set(result.statuses) != {"201"}:
        raise RuntimeError(f"not every order was accepted: {result.statuses}")
    return result.rate


SCENARIO = Scenario(
    name="keys",
    story="POST at 64 connections with keys off and on, in turn",
    run=run,
    seconds=lambda lengths: len(_TURNS) * (lengths.intake_seconds + 6),
    by_default=False,
)

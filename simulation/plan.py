"""What one seed decides before the run: sizes, rates, orders and the times of everything."""

from dataclasses import dataclass, field
from random import Random

from service_kit.event_flow import Pace
from service_kit.relay import RelaySettings
from service_kit.retry import Backoff, RetryPolicy

RETRY_POLICY = RetryPolicy(attempts_max=5, backoff=Backoff(first_seconds=0.5, max_seconds=4.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The settings of the services, small enough for batches and polls of all kinds to happen."""

    pace: Pace
    events_per_message: int
    prefetch: int
    intake_rows: int
    reconcile_after_seconds: float | None
    inbox_retention_days: float
    shutdown_grace_seconds: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A request to be made `at` seconds: the order `number` in its contents number `variant`."""

    at: float
    number: int
    variant: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A request to be made `at` seconds: to cancel the order `number`, which may not be there yet."""

    at: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`storm_seconds` is when the last new fault begins. `calm` means that nothing goes wrong at all."""

    seed: int
    tuning: Tuning
    order_services: int
    processors: int
    orders: int
    posts: tuple[Post, ...]
    storm_seconds: float
    calm: bool
    lossy: bool
    statement_rate: float = 0.0
    pause_rate: float = 0.0
    message_rate: float = 0.0
    acknowledgement_rate: float = 0.0
    delivery_rate: float = 0.0
    crashes: int = 0
    terminations: int = 0
    stops: int = 0
    database_outages: int = 0
    broker_restarts: int = 0
    connection_losses: int = 0
    blockades: int = 0
    unbindings: int = 0
    deletions: int = 0
    poison: int = 0
    stale_results: int = 0
    postponed: dict[int, int] = field(default_factory=dict)
    """How often the policy postpones an order before it decides; counted as attempts when even."""
    cancels: tuple[Cancel, ...] = ()


def make_plan(seed: int) -> Plan:
    random = Random(f"plan {seed}")
    calm = random.random() < 0.08
    lossy = not calm and random.random() < 0.4
    storm_seconds = random.uniform(3.0, 10.0)
    orders = random.randint(20, 25)
    plan = {
        "seed": seed,
        "tuning": _tuning(random, reconciles=lossy or random.random() < 0.3),
        "order_services": random.choice((1, 2, 2, 3)),
        "processors": random.choice((1, 2, 2, 3)),
        "orders": orders,
        "posts": _posts(random, orders, storm_seconds),
        "storm_seconds": storm_seconds,
        "calm": calm,
        "lossy": lossy,
        "poison": random.randint(0, 5),
        "stale_results": random.randint(0, 3),
        "pause_rate": random.choice((0.0, 0.05, 0.3)),
        "postponed": {
            number: random.randint(1, 2) for number in random.sample(range(orders), random.randint(0, 3))
        },
    }
    plan["cancels"] = _cancels(Random(f"cancels {seed}"), plan["posts"])  # type: ignore[arg-type]
    return Plan(**plan, **({} if calm else _troubles(random, lossy)))  # type: ignore[arg-type]


def _tuning(random: Random, *, reconciles: bool) -> Tuning:
    inbox_retention_days = random.choice((7.0, 7.0, 1e-5))
    pace = Pace(
        relay=RelaySettings(
            batch_rows=random.choice((1, 3, 8, 50)), poll_seconds=random.choice((1.0, 3.0, 5.0))
        ),
        batch_messages=random.choice((1, 3, 8, 50)),
        retry_policy=RETRY_POLICY,
        retry_poll_seconds=random.choice((1.0, 3.0, 5.0)),
        lease_seconds=random.choice((5.0, 20.0)),
        cleaning_seconds=60.0 if inbox_retention_days > 1 else 4.0,
        watching_seconds=60.0,
    )
    return Tuning(
        pace=pace,
        events_per_message=random.choice((1, 1, 3)),
        prefetch=random.choice((1, 3, 10, 100)),
        intake_rows=random.choice((1, 3, 50)),
        reconcile_after_seconds=random.uniform(3.0, 10.0) if reconciles else None,
        inbox_retention_days=inbox_retention_days,
    )


def _posts(random: Random, orders: int, storm_seconds: float) -> tuple[Post, ...]:
    """Each order once, and repetitions and conflicts of some, at the same moment or later."""
    moments = [random.uniform(0.0, storm_seconds) for _ in range(random.randint(3, 8))]
    posts = [Post(at=random.choice(moments), number=number) for number in range(orders)]
    for first in random.sample(posts, orders // 2):
        for _ in range(random.choice((1, 1, 2))):
            later = first.at + random.choice((0.0, 0.0, 0.002, random.uniform(0.0, 10.0)))
            posts.append(Post(at=later, number=first.number, variant=random.choice((0, 0, 1))))
    return tuple(sorted(posts, key=lambda post: (post.at, post.number, post.variant)))


def _cancels(random: Random, posts: tuple[Post, ...]) -> tuple[Cancel, ...]:
    """Most about when the order is decided; some by two clients at once."""
    wanted = random.sample(posts, random.choice((0, 1, 3, 6)))
    return tuple(
        Cancel(at=post.at + random.choice((0.0, 0.01, 0.02, random.uniform(0.0, 3.0))), number=post.number)
        for post in [*wanted, *wanted[:2]]
    )


def _troubles(random: Random, lossy: bool) -> dict[str, object]:
    """Each kind in about half of the seeds, so that every mixture comes up."""

    def some(maximum: int) -> int:
        return random.randint(1, maximum) if random.random() < 0.4 else 0

    def rate(maximum: float) -> float:
        return random.uniform(0.0, maximum) if random.random() < 0.5 else 0.0

    return {
        "statement_rate": rate(0.15),
        "message_rate": rate(0.3),
        "acknowledgement_rate": rate(0.2),
        "delivery_rate": rate(0.1),
        "crashes": some(6),
        "terminations": some(4),
        "stops": some(2),
        "database_outages": some(3),
        "broker_restarts": some(3),
        "connection_losses": some(5),
        "blockades": some(2),
        "unbindings": some(2),
        "deletions": some(2) if lossy else 0,
    }

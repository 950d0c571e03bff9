"""What the admin API of the services gives. A figure that a service cannot tell just now is None."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from order_processor_client.models import Time


class Check(Struct, frozen=True, kw_only=True):
    ok: bool
    detail: str = ""


class Readiness(Struct, frozen=True, kw_only=True):
    """What `/ready` says, to whoever asks."""

    service: str
    status: str
    checks: dict[str, Check] = field(default_factory=dict)


class Consuming(Struct, frozen=True, kw_only=True):
    """Whether events are taken from the queue; `by`, `reason` and `since` tell of the last change.

    `paused` is None while that cannot be known.
    """

    paused: bool | None
    by: str | None = None
    reason: str | None = None
    since: Time | None = None


class Backlog(Struct, frozen=True, kw_only=True):
    outbox_pending: int | None = None
    outbox_oldest_seconds: float | None = None
    retries_pending: int | None = None
    retries_next_due_at: Time | None = None
    dead_letters: int | None = None
    queue_messages: int | None = None
    inbox_keys: int | None = None


class ServiceState(Struct, frozen=True, kw_only=True):
    service: str
    instance: str
    version: str
    started_at: Time
    now: Time
    checks: dict[str, Check]
    consuming: Consuming
    backlog: Backlog


class DeadLetter(Struct, frozen=True, kw_only=True):
    """`group` names all dead letters of one event type whose reasons differ only in variable parts."""

    id: int
    source: str
    event_type: str
    event_key: str
    subject: str | None = None
    reason: str
    group: str
    attempts: int
    times_seen: int
    moved_at: Time
    last_seen_at: Time | None = None
    size: int | None = None
    replay_id: int | None = None


class DeadLetterInFull(DeadLetter, frozen=True, kw_only=True):
    """`body` is None when the bytes are no text; `body_base64` always holds them."""

    message_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    body: str | None = None
    body_base64: str = ""
    first_failed_at: Time | None = None


class DeadLetterPage(Struct, frozen=True, kw_only=True):
    dead_letters: list[DeadLetter]
    has_more: bool = False


class DeadLetterGroup(Struct, frozen=True, kw_only=True):
    group: str
    event_type: str
    reason: str
    count: int
    first_at: Time
    last_at: Time
    example_id: int


class DeadLetterGroups(Struct, frozen=True, kw_only=True):
    """The largest groups; `total` counts all dead letters."""

    groups: list[DeadLetterGroup]
    total: int
    has_more: bool = False


class DeadLetterFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Those that match in everything that is given; all of them when nothing is."""

    event_type: str | None = None
    group: str | None = None
    subject: str | None = None
    source: str | None = None
    since: Time | None = None
    until: Time | None = None


Selection = Sequence[int] | DeadLetterFilter
"""Dead letters by their ids (at most 10,000), or by what they have in common."""


class ForecastExample(Struct, frozen=True, kw_only=True):
    id: int
    forecast: str
    why: str | None = None


class Forecast(Struct, frozen=True, kw_only=True):
    """What a replay would do now, were it started; of very many the last are `unexamined`."""

    total: int
    will_run: int
    already_processed: int
    will_fail_again: int
    unexamined: int = 0
    examples: list[ForecastExample] = field(default_factory=list)


class Replay(Struct, frozen=True, kw_only=True):
    """`state` is running, paused, stopped (too many failed), cancelled or finished.

    `remaining` are those whose outcome is not known yet. `not_found` and `in_other_replays` tell, when it was
    started, how many of those that were selected were left out.
    """

    id: int
    state: str
    total: int
    handled: int
    skipped: int
    failed: int
    remaining: int
    step: int | None = None
    per_second: float | None = None
    failure_share_max: float | None = None
    operator: str | None = None
    reason: str | None = None
    created_at: Time | None = None
    finished_at: Time | None = None
    stopped_because: str | None = None
    in_flight: int | None = None
    not_found: int | None = None
    in_other_replays: int | None = None
    forecast: Forecast | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"


class ReplayPage(Struct, frozen=True, kw_only=True):
    replays: list[Replay]
    has_more: bool = False


class AuditEntry(Struct, frozen=True, kw_only=True):
    id: int
    at: Time
    operator: str
    action: str
    target: str | None = None
    reason: str | None = None
    details: Any = None


class ApiKey(Struct, frozen=True, kw_only=True):
    """`hint` is its beginning; `customers` None: of all. `state` is usable, expired or revoked."""

    id: int
    hint: str
    name: str
    roles: list[str]
    customers: list[str] | None = None
    state: str
    created_at: Time
    expires_at: Time | None = None
    revoked_at: Time | None = None
    last_used_at: Time | None = None
    replaces: int | None = None


class ApiKeyPage(Struct, frozen=True, kw_only=True):
    keys: list[ApiKey]
    has_more: bool = False


class MadeApiKey(Struct, frozen=True, kw_only=True):
    """`secret` is the key itself, which is told this once."""

    key: ApiKey
    secret: str


class AuditPage(Struct, frozen=True, kw_only=True):
    entries: list[AuditEntry]
    has_more: bool = False


class Percentiles(Struct, frozen=True, kw_only=True):
    p50: float | None = None
    p99: float | None = None


class FlowSample(Struct, frozen=True, kw_only=True):
    """What all instances together did in the `seconds` before `at`; latency is from accepted to final."""

    at: Time
    seconds: float
    accepted: int
    done: int
    failed: int
    latency_ms: Percentiles | None = None


class Flow(Struct, frozen=True, kw_only=True):
    now: Time
    samples: list[FlowSample]


class StuckOrder(Struct, frozen=True, kw_only=True):
    order_id: str
    pending_seconds: float
    why: str
    since: Time | None = None


class StuckOrders(Struct, frozen=True, kw_only=True):
    orders: list[StuckOrder]
    total: int


class Rule(Struct, frozen=True, kw_only=True):
    skus: list[str]
    fail_reason: str


class Ruleset(Struct, frozen=True, kw_only=True):
    """`policy` says what decides, `problem` why a newer file of rules is not in force."""

    version: str | None = None
    policy: str | None = None
    source: str | None = None
    loaded_at: Time | None = None
    rules: list[Rule] = field(default_factory=list)
    success_rate: float | None = None
    problem: str | None = None


class ChangedOrder(Struct, frozen=True, kw_only=True):
    order_id: str
    rule: Any = None
    sku: str | None = None


class Change(Struct, frozen=True, kw_only=True):
    """So many orders would get another decision: `before` and `after` are decisions in words."""

    before: str = field(name="from")
    after: str = field(name="to")
    count: int
    examples: list[ChangedOrder] = field(default_factory=list)


class Rehearsal(Struct, frozen=True, kw_only=True):
    version: str | None = None
    orders: int
    unchanged: int
    changed: int
    changes: list[Change] = field(default_factory=list)


class WebhookEndpoint(Struct, frozen=True, kw_only=True):
    """No filter means everything. `secret` is given by what makes one, and by nothing else."""

    id: int
    url: str
    description: str
    event_types: Sequence[str]
    customer_ids: Sequence[str]
    enabled: bool
    disabled_because: str | None
    created_at: Time
    previous_secret_until: Time | None = None
    secret: str | None = None


class WebhookEndpointPage(Struct, frozen=True, kw_only=True):
    endpoints: Sequence[WebhookEndpoint]
    has_more: bool


class WebhookDelivery(Struct, frozen=True, kw_only=True):
    """`answered`: the status of the last answer, if there was one; `body` is what is sent."""

    id: int
    message_id: str
    event_type: str
    order_id: str
    status: str
    attempts: int
    answered: int | None
    last_error: str | None
    created_at: Time
    due_at: Time | None
    ended_at: Time | None
    body: Any


class WebhookDeliveryPage(Struct, frozen=True, kw_only=True):
    deliveries: Sequence[WebhookDelivery]
    has_more: bool

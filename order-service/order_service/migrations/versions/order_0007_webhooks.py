"""Endpoints of webhooks, and the deliveries to them."""

from alembic import op

revision = "order_0007"
down_revision = "order_0006"
branch_labels = None
depends_on = None

# No filter means everything. `since`: only what follows that position of the log is delivered. The secrets
# are kept as they are: each delivery is signed with them.
ENDPOINTS = """
CREATE TABLE webhook_endpoints (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    url text NOT NULL,
    description text NOT NULL DEFAULT '',
    event_types text[] NOT NULL DEFAULT '{}',
    customer_ids text[] NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    disabled_because text,
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_secret_until timestamptz,
    since bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""

# `due_at` is the lease of whoever is sending, too: after a crash the delivery is due again by itself.
DELIVERIES = """
CREATE TABLE webhook_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id bigint NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    message_id text NOT NULL,
    event_type text NOT NULL,
    order_id text NOT NULL,
    body text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    answered integer,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
)
"""
DUE = (
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at) WHERE status = 'pending'"
)
OF_ENDPOINT = "CREATE INDEX webhook_deliveries_of_endpoint ON webhook_deliveries (endpoint_id, id)"

# Up to `position` of the log the deliveries are written.
CURSOR = """
CREATE TABLE webhook_cursor (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    position bigint NOT NULL DEFAULT 0
)
"""


def upgrade() -> None:
    for statement in (
        ENDPOINTS,
        DELIVERIES,
        DUE,
        OF_ENDPOINT,
        CURSOR,
        "INSERT INTO webhook_cursor DEFAULT VALUES",
    ):
        op.execute(statement)


def downgrade() -> None:
    for table in ("webhook_cursor", "webhook_deliveries", "webhook_endpoints"):
        op.execute(f"DROP TABLE {table}")

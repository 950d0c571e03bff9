"""Audit log, replays, groups of dead letters, and the switch of consuming."""

from alembic import op

from service_kit.postgres import schema

revision = "order_0003"
down_revision = "order_0002"
branch_labels = None
depends_on = None

# A row for each instance and second in which something happened. `latency` counts finished orders by the time
# that they took (`order_service.infrastructure.flow`).
FLOW_SAMPLES = """
CREATE TABLE flow_samples (
    at timestamptz NOT NULL DEFAULT now(),
    instance text NOT NULL,
    seconds float8 NOT NULL,
    accepted integer NOT NULL,
    done integer NOT NULL,
    failed integer NOT NULL,
    latency integer[] NOT NULL
)
"""
BY_TIME = "CREATE INDEX flow_samples_at ON flow_samples (at)"


def upgrade() -> None:
    for statement in (*schema.CREATE_V3, FLOW_SAMPLES, BY_TIME):
        op.execute(statement)


def downgrade() -> None:
    for statement in ("DROP TABLE flow_samples", *schema.DROP_V3):
        op.execute(statement)

"""Processing states, outbox, inbox, retries and dead letters."""

from alembic import op

from service_kit.postgres import schema

revision = "processor_0001"
down_revision = None
branch_labels = None
depends_on = None

PROCESSING_STATES = """
CREATE TABLE processing_states (
    order_id text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('done', 'failed')),
    fail_reason text,
    attempt_count integer NOT NULL,
    last_error text,
    decided_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'failed') = (fail_reason IS NOT NULL))
)
"""


def upgrade() -> None:
    for statement in (PROCESSING_STATES, *schema.CREATE_V1):
        op.execute(statement)


def downgrade() -> None:
    for statement in (*schema.DROP_V1, "DROP TABLE processing_states"):
        op.execute(statement)

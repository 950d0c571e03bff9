"""How and by whom an order was decided; publications; whom retries and dead letters are about."""

from alembic import op

from service_kit.postgres import schema

revision = "processor_0002"
down_revision = "processor_0001"
branch_labels = None
depends_on = None

# Nullable and without a default, so that no row is touched: it takes no longer for ten million of them.
ADD = """
ALTER TABLE processing_states
    ADD COLUMN received_at timestamptz,
    ADD COLUMN decided_by text,
    ADD COLUMN rule integer,
    ADD COLUMN sku text,
    ADD COLUMN ruleset_version text,
    ADD COLUMN event bytea
"""

# For rehearsals, from the newest back. It begins empty, and grows at one end.
NEWEST = """
CREATE INDEX processing_states_decided_at ON processing_states (decided_at) WHERE event IS NOT NULL
"""

DROP = """
ALTER TABLE processing_states
    DROP COLUMN received_at,
    DROP COLUMN decided_by,
    DROP COLUMN rule,
    DROP COLUMN sku,
    DROP COLUMN ruleset_version,
    DROP COLUMN event
"""


def upgrade() -> None:
    for statement in (ADD, NEWEST, *schema.CREATE_V2, schema.name_subjects("order_id")):
        op.execute(statement)


def downgrade() -> None:
    for statement in (*schema.DROP_V2, DROP):
        op.execute(statement)

"""Who did what with an order, and when; publications; whom retries and dead letters are about."""

from alembic import op

from service_kit.postgres import schema

revision = "order_0002"
down_revision = "order_0001"
branch_labels = None
depends_on = None

# Nullable and without a default, so that no row is touched: it takes no longer for ten million orders.
ADD = """
ALTER TABLE orders
    ADD COLUMN accepted_at timestamptz,
    ADD COLUMN accepted_by text,
    ADD COLUMN applied_by text
"""
DROP = "ALTER TABLE orders DROP COLUMN accepted_at, DROP COLUMN accepted_by, DROP COLUMN applied_by"


def upgrade() -> None:
    for statement in (ADD, *schema.CREATE_V2, schema.name_subjects("order_id")):
        op.execute(statement)


def downgrade() -> None:
    for statement in (*schema.DROP_V2, DROP):
        op.execute(statement)

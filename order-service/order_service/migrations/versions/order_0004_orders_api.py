"""Cancelled orders, and indexes for the list of orders."""

from alembic import op

from service_kit.postgres.migrate import build_index, outside_of_transactions

revision = "order_0004"
down_revision = "order_0003"
branch_labels = None
depends_on = None

# Looks at no row, and may run twice: see `outside_of_transactions`.
CANCELLED = """
ALTER TABLE orders
    ADD COLUMN IF NOT EXISTS cancel_reason text,
    DROP CONSTRAINT IF EXISTS orders_status_check,
    DROP CONSTRAINT IF EXISTS orders_cancel_reason_check,
    ADD CONSTRAINT orders_status_check
        CHECK (status IN ('pending', 'done', 'failed', 'cancelled')) NOT VALID,
    ADD CONSTRAINT orders_cancel_reason_check
        CHECK (status = 'cancelled' OR cancel_reason IS NULL) NOT VALID
"""

VALIDATE = "ALTER TABLE orders VALIDATE CONSTRAINT {}"

# A page is read from one status, or merged from all: order_service/infrastructure/reader.py says how. Intake
# writes to the second alone: a pending order is in orders_pending already.
INDEXES = {
    "orders_final": "orders (status, created_at, order_id) WHERE status <> 'pending'",
    "orders_of_customer": 'orders (customer_id COLLATE "C", status, created_at, order_id)',
}


def upgrade() -> None:
    op.execute(CANCELLED)
    with outside_of_transactions():
        for constraint in ("orders_status_check", "orders_cancel_reason_check"):
            op.execute(VALIDATE.format(constraint))
        for name, definition in INDEXES.items():
            build_index(name, definition)


def downgrade() -> None:
    for name in INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {name}")
    op.execute(
        """
        UPDATE orders SET status = 'failed', fail_reason = coalesce(cancel_reason, 'cancelled'),
            cancel_reason = NULL
        WHERE status = 'cancelled'
        """
    )
    op.execute(
        """
        ALTER TABLE orders
            DROP COLUMN cancel_reason,
            DROP CONSTRAINT orders_status_check,
            ADD CONSTRAINT orders_status_check CHECK (status IN ('pending', 'done', 'failed'))
        """
    )

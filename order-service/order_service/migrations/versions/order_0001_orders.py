"""Orders, outbox, inbox, retries and dead letters."""

from alembic import op

from service_kit.postgres import schema

revision = "order_0001"
down_revision = None
branch_labels = None
depends_on = None

ORDERS = """
CREATE TABLE orders (
    order_id text COLLATE "C" PRIMARY KEY,
    customer_id text NOT NULL,
    items jsonb NOT NULL,
    amount numeric NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'failed')),
    version bigint NOT NULL DEFAULT 1,
    fail_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    reemitted_at timestamptz,
    CHECK (status = 'failed' OR fail_reason IS NULL)
)
"""

# Small at all times: an order leaves it when it becomes final.
PENDING = "CREATE INDEX orders_pending ON orders (created_at) WHERE status = 'pending'"


def upgrade() -> None:
    for statement in (ORDERS, PENDING, *schema.CREATE_V1):
        op.execute(statement)


def downgrade() -> None:
    for statement in (*schema.DROP_V1, "DROP TABLE orders"):
        op.execute(statement)

"""The log of what became of orders, from which streams and webhooks are told."""

from alembic import op

revision = "order_0006"
down_revision = "order_0005"
branch_labels = None
depends_on = None

# Written with each change of an order, so it costs as little as can be: no foreign key, no second index, and
# nothing that the order itself keeps. Positions must be given one by one (CACHE 1): of two changes of one
# order the later has the higher position.
ORDER_LOG = """
CREATE TABLE order_log (
    position bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    type text NOT NULL,
    order_id text NOT NULL,
    version bigint NOT NULL,
    reason text
)
"""

# Up to `position` the log is complete: nothing can appear there any more. Up to `forgotten` it is cleaned up.
HEAD = """
CREATE TABLE order_log_head (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    position bigint NOT NULL DEFAULT 0,
    forgotten bigint NOT NULL DEFAULT 0
)
"""


def upgrade() -> None:
    for statement in (ORDER_LOG, HEAD, "INSERT INTO order_log_head DEFAULT VALUES"):
        op.execute(statement)


def downgrade() -> None:
    for table in ("order_log_head", "order_log"):
        op.execute(f"DROP TABLE {table}")

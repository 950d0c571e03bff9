"""API keys."""

from alembic import op

from service_kit.postgres import schema

revision = "order_0005"
down_revision = "order_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in schema.CREATE_V4:
        op.execute(statement)


def downgrade() -> None:
    for statement in schema.DROP_V4:
        op.execute(statement)

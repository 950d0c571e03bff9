"""API keys."""

from alembic import op

from service_kit.postgres import schema

revision = "processor_0004"
down_revision = "processor_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in schema.CREATE_V4:
        op.execute(statement)


def downgrade() -> None:
    for statement in schema.DROP_V4:
        op.execute(statement)

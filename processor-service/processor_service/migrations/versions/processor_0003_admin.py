"""Audit log, replays, groups of dead letters, and the switch of consuming."""

from alembic import op

from service_kit.postgres import schema

revision = "processor_0003"
down_revision = "processor_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in schema.CREATE_V3:
        op.execute(statement)


def downgrade() -> None:
    for statement in schema.DROP_V3:
        op.execute(statement)

"""Alembic's environment."""

from service_kit.postgres.migrate import run_environment

run_environment()

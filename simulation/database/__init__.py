"""A database in memory with the transactions of PostgreSQL, READ COMMITTED, for the real adapters to run on."""

"""An in-memory database with PostgreSQL's READ COMMITTED transactions, for the real adapters to run on."""

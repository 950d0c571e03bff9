"""Triggers in the services' databases that write down every change, whoever makes it."""

import asyncpg

_LOG = """
CREATE TABLE chaos_audit (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation text NOT NULL, operation text NOT NULL, old jsonb, new jsonb
)
"""
# As its owner: the services' role may not write the audit in any other way.
_NOTE = """
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO chaos_audit (relation, operation, old, new) VALUES (
        TG_TABLE_NAME, TG_OP,
        CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - 'items' END,
        CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - 'items' END);
    RETURN NULL;
END $$
"""
_WATCHED = {"orders": ("orders", "outbox"), "processor": ("processing_states", "outbox")}

CHANGES = "SELECT relation, operation, old, new FROM chaos_audit ORDER BY number"


async def install(dsn: str, database: str) -> None:
    """Watch the tables of one of the two databases, which must be migrated."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_LOG)
        await connection.execute(_NOTE)
        for table in _WATCHED[database]:
            await connection.execute(
                f"CREATE TRIGGER chaos AFTER INSERT OR UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION chaos_note()"
            )
    finally:
        await connection.close()

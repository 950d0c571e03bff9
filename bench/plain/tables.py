"""The tables of the plain implementation; SQL that is run when a database is made for it."""

_SHARED = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_type text NOT NULL,
    payload jsonb NOT NULL,
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
CREATE TABLE processed_inbox (event_key text PRIMARY KEY);
"""
ORDERS = f"""
CREATE TABLE orders (
    order_id text PRIMARY KEY,
    customer_id text NOT NULL,
    items jsonb NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    version bigint NOT NULL DEFAULT 1,
    fail_reason text
);
CREATE INDEX orders_pending ON orders (order_id) WHERE status = 'pending';
{_SHARED}
"""
PROCESSOR = f"""
CREATE TABLE processing_states (order_id text PRIMARY KEY, version bigint NOT NULL, status text NOT NULL);
{_SHARED}
"""

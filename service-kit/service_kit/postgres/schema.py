"""The tables that every service of the kit has in its own database.

Migrations call these by version: a version is never edited, a change of the tables is a new version.
Outbox and inbox are queues, mostly dead rows: autovacuum looks at them early, by number and not by share.
"""

CREATE_V1 = (
    """
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_type text NOT NULL,
        payload jsonb NOT NULL,
        message_id uuid NOT NULL DEFAULT gen_random_uuid(),
        traceparent text,
        created_at timestamptz NOT NULL DEFAULT now(),
        due_at timestamptz NOT NULL DEFAULT now(),
        attempts integer NOT NULL DEFAULT 0,
        last_error text
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_cost_delay = 0)
    """,
    """
    CREATE TABLE processed_inbox (
        event_key text COLLATE "C" PRIMARY KEY,
        processed_at timestamptz NOT NULL DEFAULT now()
    ) WITH (autovacuum_vacuum_scale_factor = 0.02)
    """,
    "CREATE INDEX processed_inbox_processed_at ON processed_inbox (processed_at)",
    """
    CREATE TABLE retry_queue (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_key text COLLATE "C" NOT NULL UNIQUE,
        event_type text NOT NULL,
        body bytea NOT NULL,
        message_id text,
        headers jsonb NOT NULL DEFAULT '{}',
        attempts integer NOT NULL,
        last_error text NOT NULL,
        first_failed_at timestamptz NOT NULL DEFAULT now(),
        due_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX retry_queue_due_at ON retry_queue (due_at)",
    """
    CREATE TABLE dead_letter_queue (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        source text NOT NULL CHECK (source IN ('consumer', 'outbox')),
        event_key text COLLATE "C" NOT NULL UNIQUE,
        original_event_type text NOT NULL,
        payload jsonb,
        body bytea NOT NULL,
        message_id text,
        headers jsonb NOT NULL DEFAULT '{}',
        failure_reason text NOT NULL,
        attempts integer NOT NULL,
        times_seen integer NOT NULL DEFAULT 1,
        moved_to_dlq_at timestamptz NOT NULL DEFAULT now(),
        last_seen_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)

CREATE_V2 = (
    """
    CREATE TABLE publications (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_type text NOT NULL,
        relay text NOT NULL,
        published_at timestamptz NOT NULL,
        confirmed_at timestamptz NOT NULL,
        subjects text[] NOT NULL
    )
    """,
    "CREATE INDEX publications_published_at ON publications (published_at)",
    'ALTER TABLE retry_queue ADD COLUMN subject text COLLATE "C"',
    "CREATE INDEX retry_queue_subject ON retry_queue (subject)",
    'ALTER TABLE dead_letter_queue ADD COLUMN subject text COLLATE "C"',
    "CREATE INDEX dead_letter_queue_subject ON dead_letter_queue (subject)",
)
"""A row of `publications` is one turn of a relay: the subjects of the events of one type."""


def name_subjects(subject_field: str) -> str:
    """For the dead letters that are there already: the subject as the payload tells it."""
    subject = f"payload ->> '{subject_field}'"
    return f"UPDATE dead_letter_queue SET subject = {subject} WHERE length({subject}) <= 255"


DROP_V2 = (
    "ALTER TABLE dead_letter_queue DROP COLUMN subject",
    "ALTER TABLE retry_queue DROP COLUMN subject",
    "DROP TABLE publications",
)

DROP_V1 = (
    "DROP TABLE dead_letter_queue",
    "DROP TABLE retry_queue",
    "DROP TABLE processed_inbox",
    "DROP TABLE outbox",
)

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

# What a reason has in common with others: without what is quoted and without whatever holds a digit. Parsed
# when it is created, so that it finds its parts whatever the search path is. Reasons may be of any length.
_REASON = r"""
    CREATE FUNCTION dead_letter_reason(reason text) RETURNS text IMMUTABLE STRICT PARALLEL SAFE
    RETURN regexp_replace(regexp_replace(regexp_replace(
        left(reason, 1000) COLLATE "C",
        '(^|[^A-Za-z0-9])(''[^'']*''|"[^"]*")', '\1*', 'g'),
        '[A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]*', '*', 'g'),
        '\*([.,:/ +-]*\*)+', '*', 'g')
    """

CREATE_V3 = (
    _REASON,
    """
    CREATE FUNCTION dead_letter_group(event_type text, reason text) RETURNS text
    IMMUTABLE STRICT PARALLEL SAFE
    RETURN lpad(to_hex(hashtextextended(
        (event_type || chr(10) || dead_letter_reason(reason)) COLLATE "C", 0)), 16, '0')
    """,
    # This forgets what statistics there are.
    "ALTER TABLE dead_letter_queue ALTER COLUMN source TYPE text, ALTER COLUMN original_event_type TYPE text",
    # By the clock and not by the transaction's beginning: ids and times then grow together, so that a span of
    # time is a span of ids.
    """
    ALTER TABLE dead_letter_queue
        ADD COLUMN first_failed_at timestamptz,
        ADD COLUMN group_id text COLLATE "C" NOT NULL
            GENERATED ALWAYS AS (dead_letter_group(original_event_type, failure_reason)) STORED,
        ALTER COLUMN moved_to_dlq_at SET DEFAULT clock_timestamp()
    """,
    # Without statistics each filter is taken for a rare one, and its own index is used. With them the planner
    # would look for what is common among all letters in turn: through all of them when it is not there.
    "ALTER TABLE dead_letter_queue"
    " ALTER COLUMN source SET STATISTICS 0, ALTER COLUMN original_event_type SET STATISTICS 0,"
    " ALTER COLUMN group_id SET STATISTICS 0, ALTER COLUMN subject SET STATISTICS 0",
    "CREATE INDEX dead_letter_queue_group ON dead_letter_queue (group_id, id)",
    "CREATE INDEX dead_letter_queue_event_type ON dead_letter_queue (original_event_type, id)",
    "CREATE INDEX dead_letter_queue_source ON dead_letter_queue (source, id)",
    "CREATE INDEX dead_letter_queue_source_type ON dead_letter_queue (source, original_event_type, id)",
    "DROP INDEX dead_letter_queue_subject",
    "CREATE INDEX dead_letter_queue_subject ON dead_letter_queue (subject, id)",
    "CREATE INDEX dead_letter_queue_moved_at ON dead_letter_queue (moved_to_dlq_at, id)",
    # How many letters a group has is the sum of its rows. Adding a row waits for nobody, as counting up one
    # row would; now and then one row is made of many.
    'CREATE TABLE dead_letter_groups (group_id text COLLATE "C" NOT NULL, letters bigint NOT NULL)',
    """
    CREATE FUNCTION count_dead_letters() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO dead_letter_groups SELECT group_id, count(*) FROM added GROUP BY group_id;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO dead_letter_groups SELECT group_id, -count(*) FROM removed GROUP BY group_id;
        ELSIF TG_OP = 'UPDATE' THEN
            INSERT INTO dead_letter_groups
            SELECT group_id, sum(letters)
            FROM (
                SELECT group_id, 1 AS letters FROM added UNION ALL SELECT group_id, -1 FROM removed
            ) AS changed
            GROUP BY group_id HAVING sum(letters) <> 0;
        ELSE
            DELETE FROM dead_letter_groups;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER count_added AFTER INSERT ON dead_letter_queue
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters()
    """,
    """
    CREATE TRIGGER count_changed AFTER UPDATE ON dead_letter_queue
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters()
    """,
    """
    CREATE TRIGGER count_removed AFTER DELETE ON dead_letter_queue
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters()
    """,
    """
    CREATE TRIGGER count_nothing AFTER TRUNCATE ON dead_letter_queue
    FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters()
    """,
    "INSERT INTO dead_letter_groups SELECT group_id, count(*) FROM dead_letter_queue GROUP BY group_id",
    """
    CREATE TABLE audit_log (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        operator text NOT NULL,
        action text NOT NULL,
        target text NOT NULL,
        reason text NOT NULL,
        details jsonb NOT NULL DEFAULT '{}'
    )
    """,
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TABLE consuming (
        id boolean PRIMARY KEY DEFAULT true CHECK (id),
        paused boolean NOT NULL DEFAULT false,
        operator text,
        reason text,
        since timestamptz
    )
    """,
    "INSERT INTO consuming DEFAULT VALUES",
    # A runner takes the replay that is due and moves `due_at` on: its lease, after which another goes on.
    # What it then writes is guarded by `turn`.
    """
    CREATE TABLE replays (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        state text NOT NULL DEFAULT 'running'
            CHECK (state IN ('running', 'paused', 'stopped', 'cancelled', 'finished')),
        operator text NOT NULL,
        reason text NOT NULL,
        per_second float8 NOT NULL,
        failure_share_max float8 NOT NULL,
        forecast jsonb NOT NULL,
        total integer NOT NULL,
        handled integer NOT NULL DEFAULT 0,
        skipped integer NOT NULL DEFAULT 0,
        failed integer NOT NULL DEFAULT 0,
        in_flight integer NOT NULL DEFAULT 0,
        step integer NOT NULL DEFAULT 1,
        step_size integer NOT NULL DEFAULT 1,
        step_taken integer NOT NULL DEFAULT 0,
        step_ended integer NOT NULL DEFAULT 0,
        step_failed integer NOT NULL DEFAULT 0,
        stopped_because text,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        progress_at timestamptz NOT NULL DEFAULT now(),
        due_at timestamptz DEFAULT now(),
        turn bigint NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX replays_due ON replays (due_at) WHERE due_at IS NOT NULL",
    """
    CREATE TABLE replay_items (
        replay_id bigint NOT NULL REFERENCES replays ON DELETE CASCADE,
        dead_letter_id bigint NOT NULL,
        state text NOT NULL DEFAULT 'waiting'
            CHECK (state IN ('waiting', 'in_flight', 'handled', 'skipped', 'failed', 'released')),
        step integer,
        event_keys text[],
        retry_id bigint,
        outbox_id bigint,
        done_before boolean NOT NULL DEFAULT false,
        handed_at timestamptz,
        PRIMARY KEY (replay_id, dead_letter_id)
    )
    """,
    # A letter is in one active replay at most.
    """
    CREATE UNIQUE INDEX replay_items_active ON replay_items (dead_letter_id)
    WHERE state IN ('waiting', 'in_flight')
    """,
    "CREATE INDEX replay_items_next ON replay_items (replay_id, dead_letter_id) WHERE state = 'waiting'",
    "CREATE INDEX replay_items_in_flight ON replay_items (replay_id) WHERE state = 'in_flight'",
)

DROP_V3 = (
    "DROP TABLE replay_items",
    "DROP TABLE replays",
    "DROP TABLE consuming",
    "DROP TABLE audit_log",
    "DROP FUNCTION refuse_change()",
    "DROP TRIGGER count_nothing ON dead_letter_queue",
    "DROP TRIGGER count_removed ON dead_letter_queue",
    "DROP TRIGGER count_changed ON dead_letter_queue",
    "DROP TRIGGER count_added ON dead_letter_queue",
    "DROP FUNCTION count_dead_letters()",
    "DROP TABLE dead_letter_groups",
    """
    ALTER TABLE dead_letter_queue
        DROP COLUMN group_id, DROP COLUMN first_failed_at,
        ALTER COLUMN moved_to_dlq_at SET DEFAULT now(),
        ALTER COLUMN source SET STATISTICS -1, ALTER COLUMN original_event_type SET STATISTICS -1,
        ALTER COLUMN subject SET STATISTICS -1
    """,
    "DROP INDEX dead_letter_queue_event_type",
    "DROP INDEX dead_letter_queue_source",
    "DROP INDEX dead_letter_queue_source_type",
    "DROP INDEX dead_letter_queue_subject",
    "CREATE INDEX dead_letter_queue_subject ON dead_letter_queue (subject)",
    "DROP INDEX dead_letter_queue_moved_at",
    "DROP FUNCTION dead_letter_group(text, text)",
    "DROP FUNCTION dead_letter_reason(text)",
)

# Of an API key only its hash is kept. `customers` NULL: it is restricted to none.
CREATE_V4 = (
    """
    CREATE TABLE api_keys (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
        hint text NOT NULL,
        name text NOT NULL,
        roles text[] NOT NULL
            CHECK (cardinality(roles) > 0 AND roles <@ ARRAY['orders:read', 'orders:write', 'admin']),
        customers text[] CHECK (customers IS NULL OR (cardinality(customers) > 0 AND 'admin' <> ALL (roles))),
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        revoked_at timestamptz,
        last_used_at timestamptz,
        replaces bigint REFERENCES api_keys
    )
    """,
)

DROP_V4 = ("DROP TABLE api_keys",)

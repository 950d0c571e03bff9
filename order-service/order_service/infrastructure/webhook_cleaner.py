"""Forgets old deliveries of webhooks."""

from typing import ClassVar

from service_kit.postgres.housekeeping import CLEANED_ROWS, Cleaner

# What ended, and what waits for an endpoint that is disabled. From the oldest on, a bounded batch at a time:
# behind deliveries that are still to be tried it goes on once these have ended, three days later at most.
FORGET = f"""
WITH oldest AS (
    SELECT id, endpoint_id, status, created_at FROM webhook_deliveries ORDER BY id LIMIT {CLEANED_ROWS}
), gone AS (
    DELETE FROM webhook_deliveries WHERE id = ANY (ARRAY(
        SELECT oldest.id FROM oldest JOIN webhook_endpoints AS endpoint ON endpoint.id = endpoint_id
        WHERE oldest.created_at < now() - $1 * interval '1 day'
          AND (status <> 'pending' OR NOT endpoint.enabled)
    )) RETURNING id
)
SELECT FROM gone
"""


class WebhookCleaner(Cleaner):
    """Forgets deliveries that were written more than `retention_days` ago and will not be tried any more."""

    name: ClassVar[str] = "webhook_cleaner"
    statement = FORGET

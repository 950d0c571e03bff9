"""Forgets old entries of the log of orders' changes."""

from typing import ClassVar

from service_kit.postgres.housekeeping import CLEANED_ROWS, Cleaner

# Only what every reader has had a chance to read, from the oldest on, a bounded batch at a time.
FORGET = f"""
WITH old AS (
    SELECT position FROM (
        SELECT position, at FROM order_log
        WHERE position > (SELECT forgotten FROM order_log_head)
          AND position <= (SELECT position FROM order_log_head)
        ORDER BY position LIMIT {CLEANED_ROWS}
    ) AS oldest WHERE at < now() - $1 * interval '1 day'
), gone AS (
    DELETE FROM order_log WHERE position = ANY (ARRAY(SELECT position FROM old)) RETURNING position
), noted AS (
    UPDATE order_log_head SET forgotten = greatest(forgotten, (SELECT max(position) FROM gone))
    WHERE EXISTS (SELECT FROM gone)
)
SELECT FROM gone
"""


class OrderLogCleaner(Cleaner):
    """Forgets changes older than `retention_days`; who resumes a stream before them is told so."""

    name: ClassVar[str] = "order_log_cleaner"
    statement = FORGET

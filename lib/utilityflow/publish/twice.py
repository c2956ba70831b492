"""``gold.usage_counted_twice``: registers and months of which the warehouse's usage counts at least one day twice.

Customer and period are part of a fact's identity, so a day that came as a daily read and within a billed period, within two
billed periods, or under two customers has several facts, and all of them count (docs/feeds.md, "Days that are told twice").
"""

from __future__ import annotations

import duckdb

MART, VIEW = "gold.agg_usage_monthly", "usage_counted_twice"
# The days of all customers of a register in a month are more than those from the first to the last, or begin before the end of
# what earlier months cover: a billed period counts whole in the month of its reading, so two that overlap are most often in two
# months. A fact that begins before that end reaches over it into its own month, so it has the last day before it a second time.
_REGISTER = "meter_id, commodity, register, direction, unit"
_QUERY = f"""
        WITH by_month AS (
            SELECT billing_period, {_REGISTER}, count(*) AS customers, sum(days_with_reads)::BIGINT AS days_with_reads,
                min(first_date) AS first_date, max(last_date) AS last_date
            FROM {{schema}}.agg_usage_monthly GROUP BY ALL),
        reached AS (
            SELECT *, max(last_date) OVER (PARTITION BY {_REGISTER} ORDER BY billing_period
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached_before
            FROM by_month),
        spans AS (
            SELECT billing_period, {_REGISTER}, customers, days_with_reads, last_date - first_date AS days_covered,
                greatest(coalesce(reached_before - first_date, 0), 0) AS days_covered_before
            FROM reached)
        SELECT * FROM spans WHERE days_with_reads > days_covered - days_covered_before"""


def put(db: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Make the view in a schema that holds the mart and has no such view yet.

    Its columns: ``billing_period`` and the register; ``customers`` (use that names none counts as one); ``days_with_reads`` of
    all of them; ``days_covered``, from the first day to the last; ``days_covered_before``, those of them that lie before the end
    of what earlier months cover. Counted twice are ``days_with_reads - (days_covered - days_covered_before)`` days: fewer than
    there are where days without reads within the month hide as many, more where they lie in an earlier month.
    """
    db.execute(f'CREATE VIEW {schema}."{VIEW}" AS {_QUERY.format(schema=schema)}')

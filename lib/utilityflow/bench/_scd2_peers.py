"""How others keep a slowly changing dimension on Delta: mack itself, and the statements that the others run.

Each peer works on a table in its own shape, made from the same rows, with deletion vectors on and statistics on few columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from utilityflow.errors import UtilityFlowError


@dataclass(frozen=True)
class Shape:
    """Names that all peers share: the key, the compared attributes and all columns that an update brings."""

    key: str
    compared: Sequence[str]
    carried: Sequence[str]

    @property
    def columns(self) -> list[str]:
        """Key and attributes."""
        return [self.key, *self.carried]


@dataclass(frozen=True)
class Peer:
    """A way of others.

    :param source: where it is described or comes from.
    :param table: SQL that makes the peer's rows from a view with the shape's columns, ``starts``, ``ends``, ``is_open``.
    :param run: takes (session, path of the table, updates, shape); updates have the shape's columns and ``starts``.
    """

    name: str
    source: str
    table: Callable[[str, Shape], str]
    run: Callable[[SparkSession, str, DataFrame, Shape], None]


def _statement(merge: Callable[[str, str, Shape], str]) -> Callable[[SparkSession, str, DataFrame, Shape], None]:
    """A peer that is one SQL statement, made of (path, view of updates, shape)."""

    def run(spark: SparkSession, path: str, updates: DataFrame, shape: Shape) -> None:
        updates.createOrReplaceTempView("bench_updates")
        spark.sql(merge(path, "bench_updates", shape)).collect()

    return run


def _plain_table(view: str, s: Shape) -> str:
    ends = "CASE WHEN is_open THEN CAST(null AS DATE) ELSE ends END AS end_date"
    return f"SELECT {', '.join(s.columns)}, is_open AS is_current, starts AS effective_date, {ends} FROM {view}"


def _differ(one: str, other: str, names: Sequence[str]) -> str:
    return "(" + " OR ".join(f"{one}.{n} <> {other}.{n}" for n in names) + ")"


def _recipe(path: str, updates: str, s: Shape) -> str:
    values = ", ".join(f"s.{n}" for n in s.columns)
    return f"""
        MERGE INTO delta.`{path}` AS t USING (
            SELECT null AS merge_key, u.* FROM {updates} u JOIN delta.`{path}` t ON u.{s.key} = t.{s.key}
            WHERE t.is_current = true AND {_differ("u", "t", s.compared)}
            UNION ALL SELECT u.{s.key} AS merge_key, u.* FROM {updates} u
        ) AS s ON t.{s.key} = s.merge_key
        WHEN MATCHED AND t.is_current = true AND {_differ("t", "s", s.compared)}
            THEN UPDATE SET is_current = false, end_date = s.starts
        WHEN NOT MATCHED THEN INSERT ({", ".join(s.columns)}, is_current, effective_date, end_date)
            VALUES ({values}, true, s.starts, null)"""


def _mack(spark: SparkSession, path: str, updates: DataFrame, s: Shape) -> None:
    """The package itself."""
    try:
        from delta import DeltaTable
        from mack import type_2_scd_generic_upsert
    except ImportError as error:
        raise UtilityFlowError("UF-1007", "the peer 'mack' is not installed", hint="pip install 'utilityflow[dev]'") from error
    table, named = DeltaTable.forPath(spark, path), updates.withColumnRenamed("starts", "effective_date")
    type_2_scd_generic_upsert(table, named, s.key, list(s.carried), "is_current", "effective_date", "end_date")


def _scd_id(prefix: str, s: Shape) -> str:
    return f"md5(coalesce(cast({prefix}{s.key} AS string), '') || '|' || coalesce(cast({prefix}starts AS string), ''))"


def _dbt_table(view: str, s: Shape) -> str:
    return f"""SELECT {", ".join(s.columns)}, {_scd_id("", s)} AS dbt_scd_id, starts AS dbt_updated_at, starts AS dbt_valid_from,
        CASE WHEN is_open THEN CAST(null AS DATE) ELSE ends END AS dbt_valid_to FROM {view}"""


def _dbt(path: str, updates: str, s: Shape) -> str:
    """Strategy ``check``, ``hard_deletes: ignore``: a staging query of inserts and updates, one MERGE on the row's id."""
    changed = " OR ".join(f"NOT (d.{n} <=> u.{n})" for n in s.compared)
    said = ", ".join(f"u.{n}" for n in s.columns)
    return f"""
        MERGE INTO delta.`{path}` AS t USING (
            WITH open AS (SELECT * FROM delta.`{path}` WHERE dbt_valid_to IS NULL)
            SELECT 'insert' AS dbt_change_type, {said}, {_scd_id("u.", s)} AS dbt_scd_id, u.starts AS dbt_updated_at,
                u.starts AS dbt_valid_from, CAST(null AS DATE) AS dbt_valid_to
            FROM {updates} u LEFT JOIN open d ON d.{s.key} = u.{s.key} WHERE d.{s.key} IS NULL OR ({changed})
            UNION ALL
            SELECT 'update', {said}, d.dbt_scd_id, u.starts, u.starts, u.starts
            FROM {updates} u JOIN open d ON d.{s.key} = u.{s.key} WHERE {changed}
        ) AS s ON s.dbt_scd_id = t.dbt_scd_id
        WHEN MATCHED AND t.dbt_valid_to IS NULL AND s.dbt_change_type IN ('update', 'delete')
            THEN UPDATE SET dbt_valid_to = s.dbt_valid_to
        WHEN NOT MATCHED AND s.dbt_change_type = 'insert' THEN INSERT *"""


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("recipe", "delta-io/delta, documentation, 'SCD type 2 using merge'", _plain_table, _statement(_recipe)),
        Peer("mack", "MrPowers/mack 0.5.0, type_2_scd_generic_upsert", _plain_table, _mack),
        Peer("dbt", "dbt-labs/dbt-adapters, dbt-spark snapshot, strategy check", _dbt_table, _statement(_dbt)),
    )
}


def make_table(spark: SparkSession, peer: Peer, rows: DataFrame, path: str, shape: Shape) -> None:
    """The peer's table from our versions: columns of the shape, ``starts``, ``ends``, ``is_open``."""
    rows.createOrReplaceTempView("bench_rows")
    names = [shape.key, *(("dbt_scd_id", "dbt_valid_to") if peer.name == "dbt" else ("is_current",))]
    made = spark.sql(peer.table("bench_rows", shape))
    columns = ", ".join(f"{name} {kind}" for name, kind in made.dtypes)
    statistics = ",".join(n for n in names if dict(made.dtypes)[n] != "boolean")
    spark.sql(f"""CREATE TABLE delta.`{path}` ({columns}) USING delta TBLPROPERTIES (
        'delta.enableDeletionVectors' = 'true', 'delta.dataSkippingStatsColumns' = '{statistics}')""")
    made.write.format("delta").mode("append").save(path)

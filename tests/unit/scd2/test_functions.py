"""The engine's pure functions on small frames: values, keys, time zones, lookups. Numbers are cases of scd2.md section 7."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow import scd2
from utilityflow.errors import UtilityFlowError

pytestmark = pytest.mark.engine

SK_FIRST, SK_SECOND, SK_OTHER = -7913690181479330361, -2734106605556945589, 1160994033557563915
SK_MICROS = -1939920946776866155

PLAIN = scd2.Dimension(
    name="dim_test",
    columns=(("sk", "bigint"), ("id", "string"), ("name", "string"), ("effective_date", "date"), ("expiry_date", "date"),
             ("is_current", "boolean"), ("is_inferred", "boolean")),
    key=("id",), surrogate_key="sk", type2=("name",),
)  # fmt: skip
NUMBERS = replace(
    PLAIN,
    columns=(*PLAIN.columns, ("ratio", "double"), ("amount", "decimal(10,2)"), ("count", "bigint")),
    type2=("name", "ratio", "amount", "count"),
)
PAIRS = replace(PLAIN, columns=(*PLAIN.columns, ("part", "string")), key=("id", "part"))
MICROS = replace(
    PLAIN,
    columns=tuple((n, "timestamp" if n in ("effective_date", "expiry_date") else t) for n, t in PLAIN.columns),
    grain="microsecond",
)


def told(spark: SparkSession, dimension: scd2.Dimension, *rows: str, columns: str = "id, name, effective_at") -> DataFrame:
    """Events from SQL values; a text in the last column of the time becomes a UTC instant."""
    frame = spark.sql(f"SELECT * FROM VALUES {', '.join(rows)} AS t({columns})")
    frame = frame.withColumn("effective_at", F.to_timestamp("effective_at"))
    for name in dimension.attributes:
        if name not in frame.columns:
            frame = frame.withColumn(name, F.lit(None).cast(dimension.types[name]))
    return frame


def built(frame: DataFrame, dimension: scd2.Dimension = PLAIN, zone: str = "UTC") -> list[Any]:
    rows = scd2.versions(frame, dimension, zone=zone, as_of=date(2026, 6, 1))
    return rows.orderBy(*dimension.key, dimension.valid_from).collect()


def test_case_31_numbers_that_are_equal_make_no_version(spark: SparkSession) -> None:
    columns = "id, ratio, amount, count, effective_at"
    rows = [
        "('a', 0.0D, 1.0, 1, '2026-01-01')",
        "('a', -0.0D, 1.00, 1, '2026-01-02')",
        "('a', double('NaN'), 1.0, 1, '2026-01-03')",
        "('a', double('NaN'), 1.00, 1, '2026-01-04')",
    ]
    events = told(spark, NUMBERS, *rows, columns=columns).withColumn("count", F.col("count").cast("int"))
    assert [str(r["effective_date"]) for r in built(events, NUMBERS)] == ["2026-01-01", "2026-01-03"]
    tied = told(spark, NUMBERS, rows[0], rows[1].replace("01-02", "01-01"), columns=columns)
    from utilityflow.scd2.timeline import timeline

    counted = timeline(tied, NUMBERS, zone="UTC", as_of=date(2026, 1, 1)).collect()
    assert [row["_conflicts"] for row in counted] == [0]  # -0.0 and 0.0 hash alike, so the tie is no conflict


def test_case_33_and_36_composite_keys(spark: SparkSession) -> None:
    rows = ["('doc-7', '12', 'A', '2026-01-01')", "('doc-71', '2', 'A', '2026-01-01')"]
    found = built(told(spark, PAIRS, *rows, columns="id, part, name, effective_at"), PAIRS)
    assert len({(r["id"], r["part"]) for r in found}) == len({r["sk"] for r in found}) == 2
    nulls = spark.sql("SELECT * FROM VALUES (null, 'a'), ('a', null), (null, null), ('-', 'a') AS t(id, part)")
    keyed = nulls.select(scd2.surrogate_key(PAIRS, None).alias("sk")).collect()
    assert len({r["sk"] for r in keyed}) == 4


def test_case_34_keys_are_compared_byte_by_byte(spark: SparkSession) -> None:
    rows = [f"('{key}', 'A', '2026-01-01')" for key in ("C001", "c001", "C001 ")]
    assert len({r["sk"] for r in built(told(spark, PLAIN, *rows))}) == 3


def test_case_35_unicode(spark: SparkSession) -> None:
    composed, apart = (unicodedata.normalize(form, "Zoë Ångström") for form in ("NFC", "NFD"))
    texts = [composed, apart, "⚡🏠", "⚡🏠", "x" * 10_000, "x" * 10_000]
    rows = [("k", name, f"2026-01-0{n + 1}") for n, name in enumerate(texts)]
    events = spark.createDataFrame(rows, "id string, name string, day string")
    events = events.withColumn("effective_at", F.to_timestamp("day"))
    found = built(events)
    assert [r["name"] for r in found] == [composed, apart, "⚡🏠", "x" * 10_000]
    assert [r["sk"] for r in built(events.repartition(3))] == [r["sk"] for r in found]


def test_surrogate_keys_never_change(spark: SparkSession) -> None:
    """Published facts hold these numbers: a change of them is a change of every fact table."""
    found = built(told(spark, PLAIN, "('C-1', 'A', '2026-01-01')", "('C-1', 'B', '2026-02-01')", "('Zoë', null, '2026-01-01')"))
    assert [r["sk"] for r in found] == [SK_FIRST, SK_SECOND, SK_OTHER]
    micros = built(told(spark, MICROS, "('C-1', 'A', '2026-01-01')", "('C-1', 'B', '2026-02-01')"), MICROS)
    assert [r["sk"] for r in micros] == [SK_FIRST, SK_MICROS]


def test_case_40_columns_in_another_order_or_case(spark: SparkSession) -> None:
    events = told(spark, NUMBERS, "('a', 1.5D, 2.0, 3, '2026-01-01')", columns="id, ratio, amount, count, effective_at")
    turned = events.select(*(F.col(n).alias(n.upper()) for n in reversed(events.columns)))
    assert built(turned, NUMBERS) == built(events, NUMBERS)


def test_case_42_days_are_cut_by_the_instant_in_the_utilitys_zone(spark: SparkSession) -> None:
    rows = [
        "('fold', 'A', '2026-11-01T01:30:00-04:00')",  # the hour that comes twice in New York: first
        "('fold', 'B', '2026-11-01T01:10:00-05:00')",  # and second, later though its clock shows less
        "('eve', 'A', '2026-03-01T23:30:00-05:00')",
        "('eve', 'B', '2026-03-02T04:59:59Z')",
        "('far', 'A', '2026-03-01T10:00:00+14:00')",
    ]
    def shown() -> list[Any]:
        found = scd2.versions(told(spark, PLAIN, *rows), PLAIN, zone="America/New_York", as_of=date(2026, 6, 1))
        return found.select("sk", "id", "name", F.col("effective_date").cast("string")).orderBy("id").collect()

    usual = shown()
    assert [tuple(r)[1:] for r in usual] == [("eve", "B", "2026-03-01"), ("far", "A", "2026-02-28"), ("fold", "B", "2026-11-01")]
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        assert shown() == usual  # to_timestamp takes the offsets, and nothing else may look at the session's zone
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_a_clock_that_goes_back_over_midnight_does_not_split_a_day(spark: SparkSession) -> None:
    """In St. John's, 2006, the clock went from 00:01 back to 23:01 of the day before."""
    rows = ["('k', 'A', '2006-10-29T02:30:30Z')", "('k', 'B', '2006-10-29T03:10:00Z')", "('k', 'C', '2006-10-29T05:00:00Z')"]
    days = [(str(r["effective_date"]), r["name"]) for r in built(told(spark, PLAIN, *rows), zone="America/St_Johns")]
    assert days == [("2006-10-28", "B"), ("2006-10-29", "C")]


def test_case_44_dates_at_the_ends_of_the_calendar(spark: SparkSession) -> None:
    rows = [f"('k', 'A', '{day} 12:00:00')" for day in ("0001-01-01", "1900-01-01", "1900-01-02", "9999-12-30", "9999-12-31")]
    judged = scd2.refusals(told(spark, PLAIN, *rows), PLAIN, zone="UTC")
    good = judged.where("_refused is null").drop("_refused")
    assert good.count() == 2
    assert [(str(r["effective_date"]), str(r["expiry_date"])) for r in built(good)] == [("1900-01-02", "9999-12-31")]
    last = [f"('{n}', 'A', '9999-12-30T{hour}:00-05:00')" for n, hour in enumerate(("18:59", "19:00"))]
    judged = scd2.refusals(told(spark, MICROS, *last), MICROS, zone="America/New_York").orderBy("id")
    assert [r["_refused"] for r in judged.collect()] == [None, "time_out_of_range"]  # else it would start at the open end


def test_the_unknown_member(spark: SparkSession) -> None:
    (row,) = scd2.unknown_member(spark, PLAIN).collect()
    assert (row["sk"], row["id"], row["is_current"], row["is_inferred"]) == (-1, "?", True, False)
    assert (str(row["effective_date"]), str(row["expiry_date"])) == ("1900-01-01", "9999-12-31")


def test_a_missing_column_is_named_with_the_nearest(spark: SparkSession) -> None:
    events = spark.sql("SELECT 'a' id, 'b' nmae, current_timestamp() effective_at")
    with pytest.raises(UtilityFlowError, match=r"UF-1012.*no column 'name'.*did you mean 'nmae'"):
        scd2.versions(events, PLAIN, zone="UTC", as_of=date(2026, 1, 1))


# -- facts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dim(spark: SparkSession) -> DataFrame:
    """k: A [1,10), a gap, B [20,30), C [30,oo); plus the unknown member."""
    events = spark.sql(
        """SELECT id, name, to_timestamp(day) effective_at, operation FROM VALUES
        ('k', 'A', '2026-01-01', 'upsert'), ('k', null, '2026-01-10', 'delete'), ('k', 'B', '2026-01-20', 'upsert'),
        ('k', 'C', '2026-01-30', 'upsert') AS t(id, name, day, operation)"""
    )
    rows = scd2.versions(events, PLAIN, zone="UTC", as_of=date(2026, 6, 1))
    return rows.unionByName(scd2.unknown_member(spark, PLAIN))


def test_period_reads_fall_back_to_the_first_day_of_the_period(spark: SparkSession, dim: DataFrame) -> None:
    reserved = scd2.versions(told(spark, PLAIN, "('?', 'Q', '2026-01-01')"), PLAIN, zone="UTC", as_of=date(2026, 6, 1))
    dim = dim.unionByName(reserved)  # somebody who is called as the unknown member is: no fact may come out twice
    names = {r["sk"]: r["name"] or r["id"] for r in dim.collect()}
    facts = spark.sql(
        """SELECT n, owner, date(day) day, date(first_day) first_day, 7L AS sk FROM VALUES
        (1, 'k', '2026-01-25', '2026-01-05'), (2, 'k', '2026-01-15', '2026-01-05'), (3, 'k', '2026-01-15', '2026-01-12'),
        (4, 'k', '2025-12-31', '2025-12-01'), (5, null, '2026-01-05', '2026-01-01'), (6, 'z', '2026-01-05', '2026-01-01'),
        (7, 'k', '2026-01-15', '2025-12-20'), (8, 'k', '2026-02-15', '2026-01-15'), (9, 'k', null, null),
        (10, '?', '2026-01-05', '2026-01-05')
        AS t(n, owner, day, first_day)"""
    )
    found = scd2.version_of(facts, dim, PLAIN, day="day", first_day="first_day", key=["owner"]).orderBy("n").collect()
    assert [(names.get(r["sk"]), r["before_first_version"]) for r in found] == [
        ("B", False), ("A", False), ("?", False), ("A", True), ("?", False), ("?", False), ("?", False), ("C", False),
        ("?", False), ("Q", False),
    ]  # fmt: skip


def test_the_facts_that_an_interval_concerns(spark: SparkSession) -> None:
    intervals = spark.sql(
        """SELECT id, date(a) affected_from, date(b) affected_to FROM VALUES
        ('k', '2026-01-10', '2026-01-20'), ('k', '2026-02-01', '2026-02-02'), ('e', '1900-01-01', '2026-01-01') AS t(id, a, b)"""
    )
    facts = spark.sql(
        """SELECT n, id, date(day) day, date(first_day) first_day FROM VALUES
        (1, 'k', '2026-01-09', '2026-01-09'), (2, 'k', '2026-01-10', '2026-01-10'), (3, 'k', '2026-01-20', '2026-01-20'),
        (4, 'k', '2026-01-25', '2026-01-19'), (5, 'e', '1850-01-01', '1850-01-01'), (6, 'other', '2026-01-15', '2026-01-15'),
        (7, 'k', '2026-02-01', '2026-01-15') AS t(n, id, day, first_day)"""
    )
    hit = scd2.concerned(facts, intervals, PLAIN, day="day", first_day="first_day")
    assert sorted(r["n"] for r in hit.collect()) == [2, 4, 5, 7]


def test_the_difference_of_equal_rows_is_empty(spark: SparkSession, dim: DataFrame) -> None:
    assert scd2.difference(dim, dim, PLAIN).collect() == []
    gone = scd2.difference(dim, dim.where("name = 'A'"), PLAIN).collect()
    assert sorted((r["_action"], r["name"]) for r in gone if r["sk"] != -1) == [("D", "B"), ("D", "C")]


"""Two service agreements of one service point and commodity that share a day are found, and nothing else is."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.gold.agreements import NAME, in_force, overlaps
from utilityflow.operate.checks.agreements import agreements_do_not_overlap
from utilityflow.operate.checks.base import Evidence
from utilityflow.scd2 import Dimension, unknown_member, versions
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACT = load_contracts()[NAME]
D = Dimension.from_contract(CONTRACT)
AS_OF = dt.date(2025, 12, 31)
TOLD = ("agreement_id", "service_point_id", "effective_from", "effective_to", "at", "commodity", "rate_schedule", "status")
# what an agreement's events say, its first day, its end, and since when the source tells of it
ANN = ("G1", "SP1", "2024-01-01", None, "2024-01-01")
ANN_LEAVES = ("G1", "SP1", "2024-01-01", "2025-03-16", "2025-03-16")
BEN = ("G2", "SP1", "2025-03-16", None, "2025-03-16")


def held(spark: SparkSession, *told: tuple[Any, ...]) -> DataFrame:
    """Rows of the dimension that these events give, that of the unknown member among them."""
    rest = (None, "electric", "RS-1", "active")
    rows = [(*one, *rest[len(one) - 4 :]) for one in told]
    events = local_frame(spark, rows, ", ".join(f"{n} string" for n in TOLD)).selectExpr(
        "agreement_id", "service_point_id", "commodity", "rate_schedule", "status", "date(effective_from) AS effective_from",
        "date(effective_to) AS effective_to", "timestamp(at) AS effective_at", "'upsert' AS operation",
        *[f"string(NULL) AS {n}" for n in ("account_id", "customer_id", "start_reason", "end_reason")],
    )  # fmt: skip
    return versions(events, D, zone="UTC", as_of=AS_OF).unionByName(unknown_member(spark, D))


def found(spark: SparkSession, *told: tuple[Any, ...]) -> set[tuple[str, str, str]]:
    """(agreement, from, until when another holds) of the overlaps."""
    rows = overlaps(held(spark, *told), D).select("agreement_id", "_from", "_before").collect()
    assert len(rows) == len(set(rows))
    return {(r[0], str(r[1]), str(r[2])) for r in rows}


def test_a_move_on_one_day_is_no_overlap_and_an_end_that_is_not_told_of_is_one(spark: SparkSession) -> None:
    assert found(spark, ANN, ANN_LEAVES, BEN) == set()
    assert found(spark, ANN, BEN) == {("G2", "2025-03-16", "9999-12-31")}
    a_day_late = ("G1", "SP1", "2024-01-01", "2025-03-17", "2025-03-17")
    assert found(spark, ANN, a_day_late, BEN) == {("G2", "2025-03-16", "2025-03-17")}


def test_all_that_begin_under_a_long_one_are_found(spark: SparkSession) -> None:
    inside = [("G6", "SP1", "2024-02-01", "2024-03-01", "2024-02-01"), ("G7", "SP1", "2024-05-01", "2024-06-01", "2024-05-01")]
    assert found(spark, ANN, *inside) == {("G6", "2024-02-01", "9999-12-31"), ("G7", "2024-05-01", "9999-12-31")}


def test_others_share_no_place_or_no_day(spark: SparkSession) -> None:
    others = [
        ("GAS", "SP1", "2024-06-01", None, "2024-06-01", "gas"),
        ("NEXT", "SP2", "2024-06-01", None, "2024-06-01"),
        ("LAMP", None, "2024-06-01", None, "2024-06-01"),
        ("LAMP2", None, "2024-06-01", None, "2024-06-01"),
        ("NEVER", "SP1", "2024-06-01", None, "2024-06-01", "electric", "RS-1", "cancelled"),
        ("EMPTY", "SP1", "2024-06-01", "2024-06-01", "2024-06-01"),
    ]
    assert found(spark, ANN, *others) == set()
    dearer = ("G1", "SP1", "2024-01-01", None, "2025-01-01", "electric", "RS-2")
    assert found(spark, ANN, dearer) == set(), "two versions of one agreement"
    elsewhere = ("G1", "SP9", "2024-01-01", None, "2025-03-16")
    assert found(spark, ANN, elsewhere, BEN) == set(), "it went to another service point"


def test_an_agreement_holds_on_its_own_days_whenever_it_was_told_of(spark: SparkSession) -> None:
    late = ("L", "SP5", "2025-05-01", "2025-09-01", "2025-06-01")
    dearer = ("L", "SP5", "2025-05-01", "2025-09-01", "2025-07-01", "electric", "RS-2")
    early = ("E", "SP6", "2025-05-01", None, "2025-04-01")
    undated = ("U", "SP7", None, None, "2025-04-01")
    spans = in_force(held(spark, late, dearer, early, undated), D).select("agreement_id", "rate_schedule", "_from", "_to")
    assert {tuple(map(str, r)) for r in spans.collect()} == {
        ("L", "RS-1", "2025-05-01", "2025-07-01"), ("L", "RS-2", "2025-07-01", "2025-09-01"),
        ("E", "RS-1", "2025-05-01", "9999-12-31"), ("U", "RS-1", "2025-04-01", "9999-12-31"),
    }  # fmt: skip
    assert found(spark, late, ("X", "SP5", "2025-04-15", "2025-05-15", "2025-04-15")) == {("L", "2025-05-01", "2025-05-15")}


def test_verify_names_them_by_their_keys(spark: SparkSession) -> None:
    def evidence(rows: DataFrame | None) -> Evidence:
        table = SimpleNamespace(contract=CONTRACT, version=lambda: -1 if rows is None else 1, read=lambda: rows)
        return Evidence(SimpleNamespace(house=SimpleNamespace(table=lambda name: table)))  # type: ignore[arg-type]

    assert agreements_do_not_overlap(evidence(None)).count == 0, "a home without agreements"
    assert agreements_do_not_overlap(evidence(held(spark, ANN, ANN_LEAVES, BEN))).count == 0
    both = held(spark, ANN, BEN)
    answer = agreements_do_not_overlap(evidence(both))
    key = both.where("agreement_id = 'G2'").collect()[0][D.surrogate_key]
    assert (answer.count, answer.offenders) == (
        1, (f"{NAME} {key}: holds from 2025-03-16, another agreement of its service point until 9999-12-31",)
    )  # fmt: skip
    assert not {"G1", "G2", "SP1"} & set(str(answer.offenders).split()), "no personal data"

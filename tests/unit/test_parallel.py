"""What runs at once: steps begin when what they need has ended, and settings and properties of one are not another's."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from utilityflow.lakehouse import Lakehouse
from utilityflow.parallel import copied, in_parallel, when_ready

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
NEEDS = {"a": (), "b": (), "c": ("a",), "d": ("b", "c"), "e": ()}
ZONE = "spark.sql.session.timeZone"


def test_each_begins_when_what_it_needs_has_ended(spark: SparkSession) -> None:
    ended: list[str] = []
    begun: dict[str, set[str]] = {}
    a_waits, both = threading.Event(), threading.Barrier(2, timeout=60)

    def work(name: str) -> None:
        begun[name] = set(ended)
        if name in "ab":
            both.wait()  # they run at once, or this breaks
        if name == "a":
            assert a_waits.wait(60)  # b and e end before a: e does not wait for the ones listed before it
        ended.append(name)
        if {"b", "e"} <= set(ended):
            a_waits.set()

    when_ready(spark, work, NEEDS, workers=2)
    assert sorted(ended) == sorted(NEEDS)
    assert all(set(NEEDS[name]) <= begun[name] for name in NEEDS)
    assert begun["e"] <= {"b"}


def test_after_an_error_nothing_begins_and_the_first_in_order_is_told(spark: SparkSession) -> None:
    begun, both = [], threading.Barrier(2, timeout=60)

    def work(name: str) -> None:
        begun.append(name)
        both.wait()
        raise ValueError(name)

    with pytest.raises(ValueError, match="^a$"):
        when_ready(spark, work, NEEDS, workers=2)
    assert sorted(begun) == ["a", "b"]


def test_what_is_set_in_one_session_is_not_seen_in_another(spark: SparkSession) -> None:
    house = Lakehouse(spark, "unused", SimpleNamespace())  # type: ignore[arg-type]
    own = house.apart()
    before = spark.conf.get(ZONE)
    own.spark.conf.set(ZONE, "Asia/Tokyo")
    assert (spark.conf.get(ZONE), house.spark, own.lock) == (before, spark, house.lock)
    assert own.spark.sql("SELECT current_timezone()").first() == ("Asia/Tokyo",)
    assert spark.sql("SELECT current_timezone()").first() == (before,)


def test_a_thread_writes_expressions_down_by_the_session_of_its_work(spark: SparkSession) -> None:
    """Spark 3.5 asks the thread's session whether a cast is an ANSI one; without any it takes its default, which is not."""
    strict, lenient = copied(spark), copied(spark)
    assert strict is not None and lenient is not None
    lenient.conf.set("spark.sql.ansi.enabled", "false")

    def number(session: SparkSession) -> list[object]:
        from pyspark.sql import functions as F

        rows = in_parallel(session, lambda text: session.range(1).select(F.lit(text).cast("int")).first(), ["1", "x"])
        return [row[0] for row in rows if row is not None]

    assert number(lenient) == [1, None]
    with pytest.raises(Exception, match="CAST_INVALID_INPUT"):
        number(strict)

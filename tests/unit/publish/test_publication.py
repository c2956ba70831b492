"""Publishing: only changed partitions move, nothing is seen before it agrees, and the target recovers by itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from utilityflow.control import publication as record
from utilityflow.control.home import Home
from utilityflow.control.publication import PartitionHash, Publication, TableState
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish import publication as module
from utilityflow.publish.duckdb import behind, beside, number, warehouse
from utilityflow.publish.publication import catch_up, finish, prepare, publish

Run = Callable[..., Any]


def test_the_record_comes_back(empty_house: Lakehouse) -> None:
    assert record.last(empty_house) is None
    empty_house.table(record.TABLE).ensure()
    assert record.last(empty_house) is None
    parts = {"p=1": PartitionHash(3, -(2**70), 2**63, {"c": Decimal("-1.50")}), "p=2": PartitionHash(1, 1, 2)}
    state = TableState(7, 4, "ab" * 32, parts, "commit")
    first = Publication(1, "run1", dt.date(2024, 1, 31), "Europe/Paris", {"gold.dim_date": state})
    second = dataclasses.replace(first, number=2, run_id="run2")
    record.write(empty_house, first)
    assert record.write(empty_house, second).happened
    assert record.last(empty_house) == second
    read = record.last(empty_house)
    assert read is not None
    assert read.tables["gold.dim_date"].partitions["p=1"].sums == {"c": Decimal("-1.50")}
    with pytest.raises(UtilityFlowError) as refused:
        record.write(empty_house, second)
    assert refused.value.code == "UF-3007"
    # maintenance on the record: Spark reads it then, only the commit ids are not known any more
    empty_house.spark.sql(f"OPTIMIZE delta.`{empty_house.table(record.TABLE).path}`")
    unknown = {"gold.dim_date": dataclasses.replace(state, commit="")}
    assert record.last(empty_house) == dataclasses.replace(second, tables=unknown)


@pytest.mark.engine
def test_first_publication_then_only_what_changed(house: Lakehouse, home: Home, run: Run, made: Any) -> None:
    first = run(house)
    assert (first.publication.number, first.way) == (1, module.ANEW)
    assert first.loaded == {"gold.dim_customer": 3, "gold.dim_date": 4, "gold.dim_meter": 1, "gold.fact_usage": 4}
    file = warehouse(home.path)
    assert made.query(file, "SELECT * EXCLUDE (run_id) FROM gold.publication") == [(1, dt.date(2024, 4, 1), "UTC")]
    assert made.query(file, "SELECT table_name, version, \"rows\" FROM gold.publication_tables ORDER BY 1") == [
        ("gold.dim_customer", 1, 3), ("gold.dim_date", 1, 4), ("gold.dim_meter", 1, 1), ("gold.fact_usage", 1, 4)
    ]  # fmt: skip
    assert made.query(file, "SELECT customer_id, is_inferred FROM gold.current_customers ORDER BY 1") == [
        ("C1", False), ("C2", True)
    ]  # fmt: skip
    columns = "usage_key, usage_kwh, quality_flags, _file_sha256[1:2], _row_number"
    second_row = made.query(file, f"SELECT {columns} FROM gold.fact_usage ORDER BY 1")[1]
    assert second_row == (2, Decimal("2.50"), ["a", "b"], "ff", 2)
    assert file.stat().st_mode & 0o777 == 0o600

    stamp = file.stat().st_mtime_ns
    assert run(house) is None
    assert (file.stat().st_mtime_ns, number(home.path)) == (stamp, 1)

    fact = house.table("gold.fact_usage")
    fact.delete("usage_key = 4")
    fact.append(made.frame(house, fact.name, [made.usage(5, "2024-02", 12, "8.00")]))
    second = run(house)
    assert second.way == module.ON_COPY
    assert second.loaded == {"gold.dim_customer": 0, "gold.dim_date": 0, "gold.dim_meter": 0, "gold.fact_usage": 2}
    assert made.query(file, "SELECT usage_key, usage_kwh FROM gold.fact_usage ORDER BY 1") == [
        (1, Decimal("1.25")), (2, Decimal("2.50")), (3, Decimal("-3.75")), (5, Decimal("8.00"))
    ]  # fmt: skip
    assert record.last(house) == second.publication
    left = second.publication.tables["gold.fact_usage"].partitions
    assert set(left) == {"billing_period=2024-01", "billing_period=2024-02"}
    house.spark.sql(f"OPTIMIZE delta.`{fact.path}`")
    assert run(house) is None


@pytest.mark.engine
def test_rows_that_moved_are_all_that_moves(
    house: Lakehouse, home: Home, run: Run, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large tables: after each change the warehouse holds what the table holds, and no more than that was loaded."""
    monkeypatch.setattr(module, "MANY_ROWS", 0)
    run(house)
    fact, spark = house.table("gold.fact_usage"), house.spark
    columns = ", ".join(n for n in fact.contract.column_names if n != "quality_flags")

    def published(loaded: int) -> None:
        done = run(house)
        assert done.loaded["gold.fact_usage"] == loaded
        there = made.query(warehouse(home.path), f"SELECT {columns} FROM gold.fact_usage ORDER BY usage_key")
        assert there == [tuple(r) for r in fact.read().selectExpr(*columns.split(", ")).orderBy("usage_key").collect()]
        whole = module.partition_hashes(fact.read(), fact.contract)
        assert done.publication.tables[fact.name].partitions == whole

    fact.delete("usage_key = 4")  # the last row of its partition
    published(0)
    fact.append(made.frame(house, fact.name, [made.usage(5, "2024-02", 12, "8"), made.usage(6, "2024-03", 12, "9")]))
    published(2)
    spark.sql(f"UPDATE delta.`{fact.path}` SET usage_kwh = 77, quantity = 77 WHERE usage_key IN (1, 6)")
    fact.delete("usage_key = 1")
    fact.append(made.frame(house, fact.name, [made.usage(1, "2024-01", 11, "3"), made.usage(7, "2024-01", 11, "4")]))
    published(3)
    spark.sql(f"OPTIMIZE delta.`{fact.path}`")
    fact.delete("usage_key = 7")
    published(0)
    # a table that was made before it had a change feed is read by partitions
    off = "SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'false')"
    spark.sql(f"ALTER TABLE delta.`{fact.path}` {off}")
    fact.append(made.frame(house, fact.name, [made.usage(8, "2024-02", 11, "1")]))
    published(6)
    fact.append(made.frame(house, fact.name, [made.usage(9, "2024-02", 11, "1")]))
    published(4)


def test_days_that_count_twice_are_shown_where_their_mart_is(house: Lakehouse, home: Home, run: Run, made: Any) -> None:
    """An estimate names the customer who left on the last of January, the actual the one who came."""
    mart, view = "gold.agg_usage_monthly", "usage_counted_twice"
    views = "SELECT view_name FROM duckdb_views() WHERE database_name = 'held' AND schema_name = 'gold'"
    run(house)
    assert (view,) not in made.query(warehouse(home.path), views)
    common = {"meter_key": -1, "date_key": 20240105, "billing_period": "2024-01", "meter_id": "M",
              "last_date": dt.date(2024, 2, 1)}  # fmt: skip
    rows = [
        {"usage_month_key": 1, "customer_key": 11, "customer_id": "C1", "days_with_reads": 31, "first_date": dt.date(2024, 1, 1)},
        {"usage_month_key": 2, "customer_key": 12, "customer_id": "C2", "days_with_reads": 1, "first_date": dt.date(2024, 1, 31)},
    ]
    house.table(mart).ensure()
    house.table(mart).append(made.frame(house, mart, [row | common for row in rows]))
    given: dict[str, Any] = {"as_of": dt.date(2024, 4, 1), "zone": "UTC"}
    for loaded in (2, 0):  # the second time the file before it has the view
        done = publish(house, home.path, [*made.names, mart], run_id=f"r{loaded}", **given)
        assert done is not None and done.loaded[mart] == loaded
        shown = made.query(warehouse(home.path), f"SELECT * FROM gold.{view}")
        assert shown == [("2024-01", "M", "x", "x", "x", "x", 2, 32, 31, 0)]
        house.table("gold.dim_customer").append(made.frame(house, "gold.dim_customer", [made.customer(13, "C3")]))


def test_a_reader_of_the_old_file_goes_on(house: Lakehouse, home: Home, run: Run, made: Any) -> None:
    run(house)
    with duckdb.connect(":memory:") as reader:
        reader.execute(f"ATTACH '{warehouse(home.path)}' AS held (READ_ONLY)")
        count = "SELECT count(*) FROM held.gold.dim_customer"
        assert reader.execute(count).fetchall() == [(3,)]
        house.table("gold.dim_customer").append(made.frame(house, "gold.dim_customer", [made.customer(13, "C3")]))
        run(house)
        assert reader.execute(count).fetchall() == [(3,)]
        assert made.query(warehouse(home.path), "SELECT count(*) FROM gold.dim_customer") == [(4,)]


def test_a_target_that_is_behind_missing_or_damaged_is_brought_up(
    house: Lakehouse, home: Home, run: Run, made: Any
) -> None:
    state = run(house).publication
    file = warehouse(home.path)
    assert not catch_up(house, home.path, state)
    for damage in (lambda: file.unlink(), lambda: file.write_bytes(b"no database"), lambda: _truncate(file)):
        damage()
        assert behind(home.path, state)
        assert run(house) is None
        assert not behind(home.path, state)
        assert made.query(file, "SELECT count(*) FROM gold.fact_usage") == [(4,)]
    # a verified file beside is taken, not built again
    shutil.move(file, beside(home.path))
    stamp = beside(home.path).stat().st_mtime_ns
    assert catch_up(house, home.path, state)
    assert file.stat().st_mtime_ns == stamp


def _truncate(file: Any) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_someone_who_writes_the_warehouse_cannot_spoil_the_next(
    house: Lakehouse, home: Home, run: Run, made: Any
) -> None:
    """A lock held by a writer is no obstacle; his changes to kept partitions are found and everything is built anew."""
    run(house)
    told: list[str] = []
    with duckdb.connect(str(warehouse(home.path))) as writer:
        writer.execute("UPDATE gold.fact_usage SET usage_kwh = 99 WHERE usage_key = 1; CHECKPOINT")
        assert run(house) is None
        house.table("gold.fact_usage").append(made.frame(house, "gold.fact_usage", [made.usage(6, "2024-03", 11, "1")]))
        done = run(house, progress=told.append)
    assert (done.loaded["gold.fact_usage"], done.way) == (5, module.GIVEN_UP)
    assert any("the sum of usage_kwh of billing_period=2024-01 is" in line for line in told)
    wanted = "SELECT usage_kwh FROM gold.fact_usage WHERE usage_key = 1"
    assert made.query(warehouse(home.path), wanted) == [(Decimal("1.25"),)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("fact", 7, "2024-03", 99)], "1 rows have a customer_key that is not in gold.dim_customer, 0 may"),
        ([("fact", 4, "2024-03", 11)], "gold.fact_usage: 1 of the loaded rows have a primary key (usage_key) that another"),
        ([("fact", 2, "2024-01", 11)], "gold.fact_usage: 1 of the loaded rows have a primary key (usage_key) that another"),
        ([("customer", 11)], "gold.dim_customer: 1 of the loaded rows have a primary key (customer_key) that"),
        ([("lost", 12)], "gold.fact_usage: 1 rows have a customer_key that is not in gold.dim_customer, 0 may"),
    ],
)
@pytest.mark.parametrize("by_rows", [False, True])
def test_what_does_not_agree_is_not_published(
    house: Lakehouse, home: Home, run: Run, made: Any, rows: list[tuple[Any, ...]], words: str, by_rows: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "MANY_ROWS", 0 if by_rows else 10**9)
    run(house)
    before = warehouse(home.path).read_bytes()
    for kind, key, *more in rows:
        if kind == "fact":
            data = made.frame(house, "gold.fact_usage", [made.usage(key, more[0], more[1], "1")])
            house.table("gold.fact_usage").append(data)
        elif kind == "customer":
            house.table("gold.dim_customer").append(made.frame(house, "gold.dim_customer", [made.customer(key, "C9")]))
        else:
            house.table("gold.dim_customer").delete(f"customer_key = {key}")
    told: list[str] = []
    with pytest.raises(UtilityFlowError) as refused:
        run(house, progress=told.append)
    assert refused.value.code == "UF-4002"
    assert words in refused.value.message
    assert any("the copy did not agree" in line for line in told)
    assert warehouse(home.path).read_bytes() == before
    assert not beside(home.path).exists()
    assert not (home.tmp / "publish").exists()
    assert record.last(house).number == 1  # type: ignore[union-attr]


def test_counts_and_sums_that_differ_from_sparks(
    house: Lakehouse, home: Home, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is staged is not what was counted: the counting is made to err, by a row and by a hundredth."""
    honest = module.partition_hashes
    for change, words in (
        ({"rows": 3}, "number of rows of billing_period=2024-01 is 2 in the warehouse and 3 in the lakehouse"),
        ({"sums": {"usage_kwh": Decimal("3.76")}}, "sum of usage_kwh of billing_period=2024-01 is 3.75 in the ware"),
    ):

        def wrong(*given: Any, change: Any = change) -> dict[str, PartitionHash]:
            right = honest(*given)
            return {n: dataclasses.replace(p, **change) if n.endswith("2024-01") else p for n, p in right.items()}

        monkeypatch.setattr(module, "partition_hashes", wrong)
        with pytest.raises(UtilityFlowError) as refused:
            run(house)
        assert refused.value.code == "UF-4002"
        assert words in refused.value.message
        assert not warehouse(home.path).exists()


def test_a_table_made_anew_is_not_taken_for_the_published_one(
    house: Lakehouse, home: Home, run: Run, made: Any
) -> None:
    """Same version number, other rows; and the published version is gone, so that only a new publication helps."""
    run(house)
    fact = house.table("gold.fact_usage")
    shutil.rmtree(fact.path)
    fact.ensure()
    fact.append(made.frame(house, fact.name, [made.usage(8, "2024-01", 11, "5.00")]))
    assert fact.version() == 1
    warehouse(home.path).unlink()
    done = run(house)
    assert (done.publication.number, done.loaded["gold.fact_usage"]) == (2, 1)
    assert made.query(warehouse(home.path), "SELECT usage_key FROM gold.fact_usage") == [(8,)]


def test_prepared_is_not_yet_seen(house: Lakehouse, home: Home, made: Any) -> None:
    given = {"as_of": dt.date(2024, 4, 1), "zone": "UTC", "run_id": "r"}
    prepared = prepare(house, home.path, made.names, **given)  # type: ignore[arg-type]
    assert prepared is not None
    assert (record.last(house), number(home.path), beside(home.path).is_file()) == (None, None, True)
    assert finish(prepared).publication.number == number(home.path) == 1
    with pytest.raises(UtilityFlowError) as refused:
        prepare(house, home.path, [*made.names, record.TABLE, "gold.nothing"], **given)  # type: ignore[arg-type]
    assert refused.value.code == "UF-3001"


@pytest.mark.parametrize("moved", [False, True])
def test_a_held_table_may_have_gained_a_column(
    spark: Any, house: Lakehouse, home: Home, run: Run, made: Any, moved: bool
) -> None:
    """Its step failed: it stays as it is published, and others are published; but not once a row of it has moved."""
    given: dict[str, Any] = {"as_of": dt.date(2024, 4, 1), "zone": "UTC"}
    assert run(house).publication.number == 1
    spark.sql(f"ALTER TABLE delta.`{house.table('gold.dim_meter').path}` ADD COLUMNS (later STRING)")
    house.table("gold.dim_customer").append(made.frame(house, "gold.dim_customer", [made.customer(13, "C3")]))
    if moved:
        rows = [{"meter_key": 5, "meter_id": "M", "expiry_date": dt.date(9999, 12, 31), "is_current": True}]
        house.table("gold.dim_meter").append(made.frame(house, "gold.dim_meter", rows))

    def second() -> Any:
        return prepare(house, home.path, made.names, run_id="r2", held={"gold.dim_meter"}, **given)

    if moved:
        with pytest.raises(UtilityFlowError, match="gold.dim_meter is not as it was published last"):
            second()
        return
    assert finish(second()).publication.number == 2
    file = warehouse(home.path)
    assert made.query(file, "SELECT count(*) FROM gold.dim_customer") == [(4,)]
    assert made.query(file, "SELECT count(*) FROM gold.dim_meter") == [(1,)]

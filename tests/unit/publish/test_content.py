"""The content hash: free of order, blind to lineage columns, sensitive to all else, and the same in both lanes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from utilityflow.contracts import Contract, parse_contract
from utilityflow.control.publication import PartitionHash
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.commits import changed_partitions, moves, whole_files
from utilityflow.publish.content import (
    content_hash,
    merged,
    partition_hashes,
    partition_name,
    partition_where,
    with_changes,
)
from utilityflow.publish.publication import followed

TYPES = ["BIGINT", "INT", "SMALLINT", "DOUBLE", "DATE", "TIMESTAMP", "BIT", "STRING", "VARCHAR(9)", "ARRAY<VARCHAR>",
         "DECIMAL(10,2)", "DECIMAL(38,6)"]  # fmt: skip


def contract(types: list[str], partition: str = "") -> Contract:
    names = [f"c{i}" for i in range(len(types))]
    columns = "".join(
        f"\n      - {{name: {n}, logicalType: x, physicalType: '{t}', description: d, required: false}}"
        for n, t in [*zip(names, types, strict=True), ("_row", "BIGINT")]
    )
    custom = f"\n    customProperties: [{{property: partitionBy, value: [{partition}]}}]" if partition else ""
    text = (
        "apiVersion: v3.1.0\nkind: DataContract\nid: x\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n"
        f"    description: d\n    dataGranularityDescription: g{custom}\n    properties:{columns}\n"
    )
    return parse_contract(text, "t.yaml", "gold")


def hashes(spark: Any, described: Contract, *rows: tuple[Any, ...]) -> dict[str, PartitionHash]:
    data = [row if len(row) == len(described.columns) else (*row, 1) for row in rows]
    return partition_hashes(spark.createDataFrame(data, described.struct()), described)


FULL = (-5, 7, -3, 1.5, dt.date(1899, 12, 30), dt.datetime(2024, 3, 31, 1, 2, 3, 456789, dt.timezone.utc), True,
        "Zürich 😀", "", ["a", None, ""], Decimal("-1.25"), Decimal("99999999999999999999.000001"))  # fmt: skip


@pytest.mark.engine
def test_one_value_for_both_lanes(spark: Any) -> None:
    """Fixed figures: they may never change, or published hashes and new ones could not be compared."""
    described = contract(TYPES)
    part = hashes(spark, described, FULL, (None,) * 12)[""]
    assert part.rows == 2
    assert (part.sum1, part.sum2) == (EXPECTED1, EXPECTED2)
    assert content_hash({"": part}) == EXPECTED


@pytest.mark.engine
def test_one_value_however_the_session_plans(spark: Any) -> None:
    """Runs over few rows interpret them, large ones compile classes: both must give the figures of above."""
    from utilityflow.session import SMALL

    described = contract(TYPES)
    before = {key: spark.conf.get(key, None) for key in SMALL}
    usual = {"spark.sql.adaptive.enabled": "true", "spark.sql.shuffle.partitions": "4",
             "spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}  # fmt: skip
    assert usual.keys() == SMALL.keys()
    try:
        for plans in (SMALL, usual):
            for key, value in plans.items():
                spark.conf.set(key, value)
            assert content_hash({"": hashes(spark, described, FULL, (None,) * 12)[""]}) == EXPECTED
    finally:
        for key, value in before.items():
            spark.conf.set(key, value) if value is not None else spark.conf.unset(key)


EXPECTED1 = 9856649964003542603
EXPECTED2 = 9492060625911224600
EXPECTED = "2b07358c0807b8e06fde768216ae21a65edb59c652518fd146a890c5b5931ec7"


@pytest.mark.engine
def test_sums_for_the_check_of_targets(spark: Any) -> None:
    sums = hashes(spark, contract(TYPES), FULL, FULL, (None,) * 12)[""].sums
    micros = 1711846923456789  # 2024-03-31 01:02:03.456789 UTC
    assert sums == {
        "c0": -10, "c1": 14, "c2": -6, "c3": 3, "c4": -2 * 25569, "c5": 2 * micros, "c6": 2,
        "c10": Decimal("-2.50"), "c11": Decimal("199999999999999999998.000002"), "_row": 3,
    }  # fmt: skip


@pytest.mark.engine
def test_order_and_files_do_not_matter_but_every_value_does(spark: Any) -> None:
    described = contract(["VARCHAR(9)", "VARCHAR(9)", "ARRAY<VARCHAR>", "ARRAY<VARCHAR>"])
    pairs = [
        (("a", None, [], []), (None, "a", [], [])),  # a null is not skipped
        (("ab", "c", [], []), ("a", "bc", [], [])),  # nor do texts run together
        (("", None, [], []), (None, "", [], [])),
        (("a", "b", None, []), ("a", "b", [], None)),
        (("a", "b", ["x"], []), ("a", "b", [], ["x"])),
        (("a", "b", ["x", None], []), ("a", "b", [None, "x"], [])),
        (("a", "b", ["xy"], []), ("a", "b", ["x", "y"], [])),
        (("a", "b", [None], []), ("a", "b", [""], [])),
        (("a", "b", [], []), ("b", "a", [], [])),
    ]
    # each row a partition of its own, by the column that is not hashed: one job shows the hash of every row
    alone = contract(["VARCHAR(9)", "VARCHAR(9)", "ARRAY<VARCHAR>", "ARRAY<VARCHAR>"], partition="_row")
    parts = hashes(spark, alone, *[(*row, number) for number, row in enumerate(r for pair in pairs for r in pair)])
    for number, pair in enumerate(pairs):
        one, other = parts[f"_row={2 * number}"], parts[f"_row={2 * number + 1}"]
        assert one.sum1 != other.sum1, pair
        assert one.sum2 != other.sum2, pair
        assert one.sum1 != one.sum2

    rows = [row for pair in pairs for row in pair]
    whole = hashes(spark, described, *rows)[""]
    assert whole == hashes(spark, described, *reversed(rows))[""]
    assert whole.sum1 == sum(part.sum1 for part in parts.values())
    assert whole.sum2 == sum(part.sum2 for part in parts.values())


@pytest.mark.engine
def test_zero_has_one_sign_lineage_none(spark: Any) -> None:
    described = contract(["DOUBLE", "INT"])
    assert hashes(spark, described, (0.0, 1, 5)) == hashes(spark, described, (-0.0, 1, 6))
    # an integer column may be widened without a change of the content
    assert hashes(spark, contract(["DOUBLE", "BIGINT"]), (0.0, 1)) == hashes(spark, described, (0.0, 1))


def test_no_rows(spark: Any) -> None:
    assert hashes(spark, contract(["INT"]))[""] == PartitionHash(0, 0, 0)
    assert hashes(spark, contract(["INT"], partition="c0")) == {}


def test_partition_names_and_conditions() -> None:
    described = contract(["DATE", "VARCHAR(9)"], partition="c0, c1")
    name = partition_name(described.partition_by, ["2024-01-01", "a/b='c'"])
    assert name == "c0=2024-01-01/c1=a%2Fb%3D%27c%27"
    where = """("c0" = CAST('2024-01-01' AS date) AND "c1" = 'a/b=''c''')"""
    assert partition_where(described, [name], "duckdb") == where
    assert partition_where(described, ["c0=/c1="], "spark") == "(`c0` IS NULL AND `c1` IS NULL)"
    assert partition_where(described, [], "spark") == "false"


def test_merged_drops_what_is_gone() -> None:
    a, b, c = (PartitionHash(i, i, i) for i in (1, 2, 3))
    assert merged({"p=1": a, "p=2": b}, {"p=2", "p=3"}, {"p=3": c}) == {"p=1": a, "p=3": c}


@pytest.mark.engine
def test_changed_partitions_follow_the_log(house: Lakehouse) -> None:
    """Partial hashes merged into the old ones are the hashes of the whole; OPTIMIZE is no change; gaps mean all."""
    table = house.table("gold.fact_usage")
    start = table.version()
    before = partition_hashes(table.read(start), table.contract)
    assert set(before) == {"billing_period=2024-01", "billing_period=2024-02", "billing_period=2024-03"}
    assert changed_partitions(table, start) == set()

    table.delete("billing_period = '2024-03'")
    again = table.read().where("usage_key = 1")
    table.append(again.selectExpr(*["bigint(9) AS usage_key" if c == "usage_key" else c for c in again.columns]))
    changed = changed_partitions(table, start)
    assert changed == {"billing_period=2024-01", "billing_period=2024-03"}
    now = partition_hashes(table.read(), table.contract, changed)
    assert merged(before, changed, now) == partition_hashes(table.read(), table.contract)

    arranged = table.version()
    house.spark.sql(f"OPTIMIZE delta.`{table.path}`")
    assert table.version() > arranged
    assert changed_partitions(table, arranged) == set()
    assert changed_partitions(table, start, until=start + 1) == {"billing_period=2024-03"}
    assert changed_partitions(table, start + 5) is None  # versions went back: a table made anew
    assert changed_partitions(table, -1) is None

    house.spark.sql(f"ALTER TABLE delta.`{table.path}` SET TBLPROPERTIES ('utilityflow.contractVersion' = '2')")
    assert changed_partitions(table, arranged) is None  # columns may have changed


@pytest.mark.engine
def test_rows_that_moved_follow_the_log(house: Lakehouse, made: Any) -> None:
    """New files stand for themselves until a later commit touches them; the change feed brings the old hashes up to date."""
    table = house.table("gold.fact_usage")
    start = table.version()
    before = partition_hashes(table.read(start), table.contract)
    assert {file.values for file in whole_files(table, start)} == {
        (("billing_period", "2024-01"),), (("billing_period", "2024-02"),), (("billing_period", "2024-03"),)
    }  # fmt: skip
    table.append(made.frame(house, table.name, [made.usage(5, "2024-03", 11, "7"), made.usage(6, "2024-04", 11, "8")]))
    added = moves(table, start, start + 1)
    assert added is not None
    assert (len(added.files), added.versions) == (2, ())
    assert all(file.path.is_file() for file in added.files)

    table.delete("usage_key IN (1, 2, 3)")
    table.append(made.frame(house, table.name, [made.usage(3, "2024-02", 12, "9.50")]))
    later = moves(table, start, table.version())
    assert later is not None
    assert (len(later.files), later.versions) == (3, (start + 2,))
    assert whole_files(table, table.version()) == ()  # rows of a first file are deleted
    table.delete("usage_key = 5")  # a row of a new file: its commit has to be followed by rows too
    last = moves(table, start, table.version())
    assert last is not None
    assert (len(last.files), last.versions) == (1, (start + 1, start + 2, start + 4))

    for until in range(start + 1, table.version() + 1):
        after = with_changes(before, table.changes(start, until), table.contract)
        whole = partition_hashes(table.read(until), table.contract)
        moved = moves(table, start, until)
        assert moved is not None
        for found in (after, followed(table, before, moved)):
            assert found == whole
            assert {n: p.sums for n, p in found.items()} == {n: p.sums for n, p in whole.items()}
    assert moves(table, -1, 2) is None
    assert moves(table, table.version() + 1, 2) is None

"""Every table that exists is what its contract promises; the comparison itself is seen to fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from utilityflow.contracts import Contract, load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.sqltypes import spark_type

from .conftest import Live, table_names

# What readers and writers of Delta 3.2 know (DESIGN.md section 7); identity columns, VARIANT, timestamp_ntz and row
# tracking are not among them.
FEATURES = {"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "deletionVectors",
            "columnMapping", "v2Checkpoint", "clustering", "domainMetadata", "inCommitTimestamp"}  # fmt: skip
LOG_TYPES = {"bigint": "long", "int": "integer", "smallint": "short"}
DUCKDB_TYPES = {"INT": "INTEGER", "BIT": "BOOLEAN", "STRING": "VARCHAR", "ARRAY<VARCHAR>": "VARCHAR[]",
                "TIMESTAMP": "TIMESTAMP WITH TIME ZONE"}  # fmt: skip


def log_type(physical: str) -> Any:
    """A contract's type as a Delta log spells it."""
    kind = spark_type(physical)
    if kind == "array<string>":
        return {"type": "array", "elementType": "string", "containsNull": True}
    return LOG_TYPES.get(kind, kind)


def differences(contract: Contract, live: Live) -> list[str]:
    """Each way in which a table is not what its contract says; empty when it is."""
    found = []
    names = [c["name"] for c in live.columns]
    if names != list(contract.column_names):
        found.append(f"columns: {names}")
    columns = {c["name"]: c for c in live.columns}
    for column in contract.columns:
        there = columns.get(column.name)
        if there is None:
            continue
        if there["type"] != log_type(column.physical_type):
            found.append(f"{column.name}: type {there['type']}")
        if there["nullable"] == column.required:
            found.append(f"{column.name}: nullable {there['nullable']}")
        if there["metadata"].get("comment") != column.description:
            found.append(f"{column.name}: comment {there['metadata'].get('comment')}")
    if live.partitions != list(contract.property("partitionBy") or []):
        found.append(f"partitions: {live.partitions}")
    if "delta.clustering" in live.domains:
        found.append("clustering: no contract asks for it")
    expected = {
        "delta.dataSkippingStatsColumns": ",".join(contract.property("statistics") or []),
        "delta.enableDeletionVectors": "true" if contract.property("deletionVectors") else "false",
        "delta.enableChangeDataFeed": "true" if contract.property("changeFeed") else "false",
        "utilityflow.contractVersion": contract.version,
    }
    found += [f"{k}: {live.properties.get(k)}" for k, v in expected.items() if live.properties.get(k) != v]
    features = set(live.protocol.get("writerFeatures", [])) | set(live.protocol.get("readerFeatures", []))
    found += [f"feature {name}" for name in sorted(features - FEATURES)]
    if live.protocol["minReaderVersion"] > 3 or live.protocol["minWriterVersion"] > 7:
        found.append(f"protocol: {live.protocol}")
    if bool(contract.property("deletionVectors")) != ("deletionVectors" in features):
        found.append("deletion vectors: the protocol and the contract differ")
    return found


@pytest.mark.engine
def test_every_table_that_exists_is_what_its_contract_says(house: Lakehouse) -> None:
    names = table_names()
    assert len(names) > len(load_contracts()), "tables of families are missing"
    wrong = {name: differences(house.table(name).contract, Live.read(house.table(name).path)) for name in names}
    assert {name: found for name, found in wrong.items() if found} == {}


def _column(live: Live, name: str) -> dict[str, Any]:
    return next(c for c in live.columns if c["name"] == name)


BREAKS: dict[str, tuple[Callable[[Live], object], str]] = {
    "a column is gone": (lambda t: t.columns.pop(), "columns"),
    "another order": (lambda t: t.columns.reverse(), "columns"),
    "another type": (lambda t: _column(t, "quantity").update(type="decimal(18,5)"), "quantity: type"),
    "null allowed": (lambda t: _column(t, "usage_key").update(nullable=True), "usage_key: nullable"),
    "null refused": (lambda t: _column(t, "peak_demand").update(nullable=False), "peak_demand: nullable"),
    "another comment": (lambda t: _column(t, "unit").update(metadata={"comment": "x"}), "unit: comment"),
    "another partition": (lambda t: t.partitions.clear(), "partitions"),
    "clustered": (lambda t: t.domains.update({"delta.clustering": "{}"}), "clustering"),
    "other statistics": (lambda t: t.properties.update({"delta.dataSkippingStatsColumns": "unit"}), "delta.dataSkipping"),
    "no deletion vectors": (lambda t: t.properties.pop("delta.enableDeletionVectors"), "delta.enableDeletionVectors"),
    "no change feed": (lambda t: t.properties.pop("delta.enableChangeDataFeed"), "delta.enableChangeDataFeed"),
    "another version": (lambda t: t.properties.update({"utilityflow.contractVersion": "9"}), "utilityflow.contractVersion"),
    "row tracking": (lambda t: t.protocol["writerFeatures"].append("rowTracking"), "feature rowTracking"),
    "identity columns": (lambda t: t.protocol["writerFeatures"].append("identityColumns"), "feature identityColumns"),
    "a reader of tomorrow": (lambda t: t.protocol.update(minReaderVersion=4), "protocol"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_the_comparison_fails_where_the_table_differs(house: Lakehouse, case: str) -> None:
    table = house.table("gold.fact_usage")
    live = Live.read(table.path)
    assert differences(table.contract, live) == []
    change, word = BREAKS[case]
    change(live)
    assert [f for f in differences(table.contract, live) if f.startswith(word)]


@pytest.mark.engine
def test_the_engine_sees_the_contracts_struct(house: Lakehouse) -> None:
    for name in table_names():
        table = house.table(name)
        assert table.read().schema == table.contract.struct(), name


@pytest.mark.engine
def test_what_may_not_be_null_is_refused_by_the_table(house: Lakehouse) -> None:
    table = house.table("gold.dim_meter")
    version = table.version()
    row = "named_struct('meter_key', 1L, 'meter_id', cast(null as string), 'effective_date', date'2025-01-01', "
    row += "'expiry_date', date'9999-12-31', 'is_current', true, 'is_inferred', false)"
    with pytest.raises(Exception, match="meter_id"):
        table.append(house.spark.sql(f"SELECT inline(array({row}))"))
    assert table.version() == version


@pytest.mark.engine
def test_a_create_that_was_cut_off_is_made_again(house: Lakehouse, tmp_path: Path) -> None:
    """Delta takes a folder that is not empty for a table and would leave it without schema and properties."""
    table = Lakehouse(house.spark, str(tmp_path), house.contracts).table("ops.run")
    log = tmp_path / "ops" / "run" / "_delta_log"
    log.mkdir(parents=True)
    (log / ".00000000000000000000.json.tmp").write_text("{")
    assert table.ensure() == ["create ops.run"]
    assert differences(table.contract, Live.read(table.path)) == []
    orphan = tmp_path / "ops" / "metric" / "part-0.parquet"
    orphan.parent.mkdir()
    orphan.write_text("someone's")
    with pytest.raises(UtilityFlowError, match=r"UF-3003: ops.metric: .* holds files but no Delta log"):
        Lakehouse(house.spark, str(tmp_path), house.contracts).table("ops.metric").ensure()
    assert orphan.read_text() == "someone's"


# -- the warehouse -----------------------------------------------------------------------------------------------------


def duckdb_type(physical: str) -> str:
    """A contract's type as DuckDB reports it."""
    if physical.startswith("VARCHAR("):
        return "VARCHAR"
    return DUCKDB_TYPES.get(physical, re.sub(r"\s", "", physical))


@pytest.mark.parametrize("contract", load_contracts().values(), ids=lambda c: c.name)
def test_duckdb_tables_have_the_contracts_types_and_refuse_null_where_it_does(contract: Contract) -> None:
    with duckdb.connect() as db:
        db.execute('CREATE SCHEMA "gold"')
        db.execute(contract.duckdb_ddl("gold"))
        told = db.execute(
            "SELECT column_name, data_type, is_nullable FROM duckdb_columns() WHERE schema_name = 'gold' "
            "ORDER BY column_index"
        ).fetchall()
        assert told == [(c.name, duckdb_type(c.physical_type), not c.required) for c in contract.columns]
        required = [c.name for c in contract.columns if c.required]
        assert required, "a table without a single required column promises nothing"
        with pytest.raises(duckdb.ConstraintException, match=required[0]):
            db.execute(f'INSERT INTO "gold"."{contract.table}" DEFAULT VALUES')


def test_the_two_tables_that_the_mission_fixes() -> None:
    """Column by column (DESIGN.md section 5); more columns are allowed, fewer are not."""
    customer = dict(
        customer_key="BIGINT", customer_id="VARCHAR(20)", customer_name="VARCHAR(100)", address="VARCHAR(200)",
        city="VARCHAR(50)", state="VARCHAR(20)", zip_code="VARCHAR(10)", customer_type="VARCHAR(20)",
        account_status="VARCHAR(20)", effective_date="DATE", expiry_date="DATE", is_current="BIT",
    )  # fmt: skip
    usage = dict(
        usage_key="BIGINT", customer_key="BIGINT", date_key="INT", meter_id="VARCHAR(20)", usage_kwh="DECIMAL(10,2)",
        peak_demand="DECIMAL(8,2)", rate_schedule="VARCHAR(10)", billing_period="VARCHAR(7)",
        # and those that DESIGN.md section 10 adds
        commodity="VARCHAR(10)", register="VARCHAR(40)", quantity="DECIMAL(18,6)", unit="VARCHAR(10)",
        period_start="DATE", period_end="DATE", read_quality="VARCHAR(12)", quality_flags="ARRAY<VARCHAR>",
        customer_id="VARCHAR(20)", _file_sha256="VARCHAR(64)", _row_number="BIGINT",
    )  # fmt: skip
    catalog = load_contracts()
    for name, promised in (("gold.dim_customer", customer), ("gold.fact_usage", usage)):
        told = {c.name: c.physical_type for c in catalog[name].columns}
        assert {n: told.get(n) for n in promised} == promised
    assert catalog["gold.dim_customer"].column("customer_id").required

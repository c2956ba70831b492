"""A small lakehouse with real Delta tables of the shipped contracts, and a reader of the warehouse."""

from __future__ import annotations

import datetime as dt
import shutil
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from utilityflow.contracts import load_contracts
from utilityflow.control.home import Home
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.publication import Outcome, publish

NAMES = ["gold.dim_customer", "gold.dim_date", "gold.dim_meter", "gold.fact_usage"]
OPEN = dt.date(9999, 12, 31)
BEGIN = dt.date(1900, 1, 1)


def frame(house: Lakehouse, name: str, rows: list[dict[str, Any]]) -> Any:
    """Rows by the contract; columns that are not given are null, required ones get a value of their type."""
    contract = house.contracts[name]
    fill = {"string": "x", "bigint": 1, "int": 1, "boolean": False, "date": BEGIN, "array<string>": []}

    def value(row: dict[str, Any], column: Any) -> Any:
        return row.get(column.name, fill.get(column.type, Decimal(0)) if column.required else None)

    data = [tuple(value(row, column) for column in contract.columns) for row in rows]
    return house.spark.createDataFrame(data, contract.struct()).coalesce(1)


def customer(key: int, number: str, **more: Any) -> dict[str, Any]:
    return {"customer_key": key, "customer_id": number, "customer_name": f"Name of {number}", "effective_date": BEGIN,
            "expiry_date": OPEN, "is_current": True, **more}  # fmt: skip


def usage(key: int, period: str, customer_key: int, kwh: str, **more: Any) -> dict[str, Any]:
    day = dt.date.fromisoformat(f"{period}-05")
    return {"usage_key": key, "customer_key": customer_key, "date_key": int(day.strftime("%Y%m%d")), "meter_key": -1,
            "usage_kwh": Decimal(kwh), "quantity": Decimal(kwh), "billing_period": period, "period_start": day,
            "period_end": day, "_file_sha256": "f" * 64, "_row_number": key, **more}  # fmt: skip


def days(*periods: str) -> list[dict[str, Any]]:
    dates = [dt.date.fromisoformat(f"{p}-05") for p in periods]
    return [{"date_key": -1}, *[{"date_key": int(d.strftime("%Y%m%d")), "date": d} for d in dates]]


def fill(house: Lakehouse) -> None:
    """Two customers and the unknown one, three months of usage."""
    rows = {
        "gold.dim_customer": [customer(-1, "?"), customer(11, "C1"), customer(12, "C2", is_inferred=True)],
        "gold.dim_date": days("2024-01", "2024-02", "2024-03"),
        "gold.dim_meter": [{"meter_key": -1, "meter_id": "?", "expiry_date": OPEN, "is_current": True}],
        "gold.fact_usage": [
            usage(1, "2024-01", 11, "1.25"),
            usage(2, "2024-01", 12, "2.50", quality_flags=["a", "b"]),
            usage(3, "2024-02", 11, "-3.75"),
            usage(4, "2024-03", -1, "0.10", usage_kwh=None),
        ],
    }
    for name, data in rows.items():
        house.table(name).ensure()
        house.table(name).append(frame(house, name, data))


def query(file: Path, statement: str) -> list[tuple[Any, ...]]:
    """Read a DuckDB file as a fresh reader does (attached, so that no older connection of the process is shared)."""
    with duckdb.connect(":memory:") as db:
        db.execute(f"ATTACH '{file}' AS held (READ_ONLY); USE held")
        return db.execute(statement).fetchall()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, "UTC")


@pytest.fixture
def empty_house(spark: Any, home: Home) -> Lakehouse:
    return Lakehouse(spark, str(home.lakehouse), load_contracts(), run_id="r1")


@pytest.fixture(scope="session")
def filled(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "lakehouse"
    fill(Lakehouse(spark, str(root), load_contracts(), run_id="r1"))
    return root


@pytest.fixture
def house(empty_house: Lakehouse, filled: Path) -> Lakehouse:
    """A copy of the filled lakehouse: tables lie by path, so they may be copied."""
    shutil.copytree(filled, empty_house.root)
    return empty_house


@pytest.fixture
def run(home: Home) -> Callable[..., Outcome | None]:
    """Publish all four tables as a run of its own."""

    def go(house: Lakehouse, as_of: str = "2024-04-01", **more: Any) -> Outcome | None:
        day = dt.date.fromisoformat(as_of)
        return publish(house, home.path, NAMES, as_of=day, zone="UTC", run_id=uuid.uuid4().hex, **more)

    return go


@pytest.fixture
def made() -> SimpleNamespace:
    """The helpers of this file, for tests that cannot import it."""
    return SimpleNamespace(frame=frame, customer=customer, usage=usage, query=query, names=NAMES)

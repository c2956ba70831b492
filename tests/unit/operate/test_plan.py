"""``plan`` says what a run would do, and touches nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import Catalog, load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.gold import marts, scorecard, service_reliability
from utilityflow.gold.customer360 import definition_of
from utilityflow.graph import Step
from utilityflow.operate import scene
from utilityflow.operate.plan import _steps, plan, text
from utilityflow.settings import load_settings

if TYPE_CHECKING:
    from .conftest import Place

Tree = Callable[[Path], dict[str, tuple[int, int]]]
DAY = dt.date(2025, 2, 1)


def files(result: dict[str, Any]) -> dict[str, str]:
    return {f["file"]: f["status"] for f in result["files"]}


def running(result: dict[str, Any]) -> list[str]:
    return [s["step"] for s in result["steps"] if s["will_run"]]


def test_without_a_lakehouse_it_needs_no_java_and_makes_nothing(empty: Place, tree: Tree) -> None:
    before = tree(empty.folder)
    environment = {"PATH": "/nowhere", "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        [sys.executable, "-m", "utilityflow.cli", "plan", "--json", *empty.words],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert files(result) == {"cis/a.csv": "new", "reads/r1.csv": "new", "reads/r2.csv": "new"}
    assert result["rows"] == 6 + 5 + 1
    assert not result["estimated"]
    assert "create gold.dim_customer" in result["tables"]
    assert all(s["will_run"] for s in result["steps"])
    assert tree(empty.folder) == before


def test_nothing_new(place: Place, tree: Tree) -> None:
    before = tree(place.folder)
    result = plan(place.settings, DAY)
    assert tree(place.folder) == before
    assert set(files(result).values()) == {"known"}
    assert (running(result), result["tables"], result["rows"]) == ([], [], 0)
    assert running(plan(place.settings, dt.date(2025, 2, 2))) == [
        "gold.dim_customer",
        "gold.dim_meter",
        "gold.fact_usage",
        "publish.duckdb",
    ]


def test_each_kind_of_file(copy: Place, tree: Tree) -> None:
    r1 = (copy.folder / "landing" / "reads" / "r1.csv").read_text()
    copy.land({
        "reads/r3.csv": "cust,meter,kwh,day,q\nC0001,M-0001,9.0,2025-01-10,actual\n",
        "reads/again.csv": r1,
        "reads/bad.csv": "cust,meter,day,q\nC0001,M-0001,2025-01-10,actual\n",
        "cis/wide.csv": "id,name,city,class,changed_at,seq,op,colour\nC0001,Ada,X,residential,2025-03-01 00:00:00,9,U,red\n",
    })  # fmt: skip
    (copy.folder / "landing" / "reads" / "half.csv").write_text("cust,meter\n")
    feed = copy.folder / "feeds" / "reads.yaml"
    before = tree(copy.folder)
    result = plan(copy.settings, DAY)
    assert tree(copy.folder) == before
    told = {f["file"]: f for f in result["files"]}
    assert told["reads/r3.csv"]["status"] == "superseding"
    assert told["reads/again.csv"]["status"] == "duplicate"
    assert told["reads/bad.csv"]["status"] == "rejected"
    assert "UF-2002" in told["reads/bad.csv"]["reason"]
    assert told["cis/wide.csv"]["status"] == "new"
    assert any("colour" in note for note in told["cis/wide.csv"]["notes"])
    assert running(result) == [
        "bronze.cis", "bronze.reads", "silver.customers", "silver.meter_reads", "gold.dim_customer", "gold.dim_meter",
        "gold.fact_usage", "publish.duckdb",
    ]  # fmt: skip
    assert "colour" in text(result)
    feed.write_text(feed.read_text() + "settle_seconds: 3600\n")
    copy.land({"reads/late.csv": "cust,meter,kwh,day,q\n"})
    assert files(plan(copy.settings, DAY))["reads/late.csv"] == "unstable"


def test_only_selected_steps(copy: Place) -> None:
    copy.land({"reads/r9.csv": "cust,meter,kwh,day,q\nC0001,M-0001,9.0,2025-01-30,actual\n"})
    result = plan(copy.settings, DAY, ["bronze"])
    assert running(result) == ["bronze.reads"]
    with pytest.raises(UtilityFlowError, match="silver.customers"):
        plan(copy.settings, DAY, ["silver.custmers"])
    with pytest.raises(UtilityFlowError) as caught:
        plan(copy.settings, dt.date(2025, 1, 1))
    assert caught.value.code == "UF-1005"


def test_a_contract_that_gained_a_column(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = load_contracts()
    dim = catalog["gold.dim_customer"]
    column = replace(dim.column("region"), name="quarter")
    wider = replace(dim, columns=(*dim.columns, column))
    changed = Catalog({n: c for n, c in catalog.items()} | {dim.name: wider}, catalog.families)
    monkeypatch.setattr(scene, "load_contracts", lambda: changed)
    result = plan(place.settings, DAY)
    assert result["tables"] == ["add column gold.dim_customer.quarter"]
    assert running(result) == ["publish.duckdb"]


VERSIONS = {"gold.dim_customer": 3, "gold.agg_usage_monthly": 2, "silver.meter_reads": 4}
VIEW = ("gold.dim_customer", "gold.agg_usage_monthly")
METERS = ("silver.meter_reads",)
BILLED_TO = ("gold.dim_account", "gold.dim_service_point", "gold.dim_rate_schedule")
GIVEN = load_settings(environ={})
MADE_BY = definition_of(load_contracts(), GIVEN.reliability)
REFLECTED: dict[str, dict[str, Any]] = {
    "gold.customer_360": {**{n: VERSIONS[n] for n in VIEW}, "as_of": DAY.isoformat(), "parameters": MADE_BY},
    "gold.dim_meter": {"silver.meter_reads": 4, "as_of": DAY.isoformat()},
    "gold.fact_billing": {"silver.bills": 1, "gold.dim_customer": 3},
    "gold.payment_application": {"contract": load_contracts()["gold.payment_application"].version},
    "gold.fact_outage": {
        "momentary_minutes": GIVEN.reliability.momentary_minutes, "contract": load_contracts()["gold.fact_outage"].version
    },
    "gold.kpi_service_reliability": {
        "definition": service_reliability.definition(GIVEN.reliability),
        "contract": load_contracts()["gold.kpi_service_reliability"].version,
    },
    "gold.kpi_regulatory_scorecard": {"targets": scorecard.held_to(GIVEN.reliability), "as_of": DAY.isoformat()},
    "gold.agg_usage_monthly": {
        "gold.fact_usage": 1, "contract": load_contracts()["gold.agg_usage_monthly"].version,
        "parameters": marts.definition(load_contracts()["gold.agg_usage_monthly"].property("parameters")),
    },
    "gold.kpi_operational_efficiency": {
        "parameters": marts.definition(load_contracts()["gold.kpi_operational_efficiency"].property("parameters"))
    },
}


@pytest.mark.parametrize(
    ("table", "inputs", "changed", "why"),
    [
        ("gold.customer_360", VIEW, {}, None),
        ("gold.customer_360", (*VIEW, "gold.fact_payment"), {}, "new inputs: gold.fact_payment"),
        ("gold.customer_360", VIEW, {"parameters": "{}"}, "other parameters in a contract, or in the settings"),
        ("gold.customer_360", VIEW, {"gold.dim_customer": 2}, "newer versions of gold.dim_customer"),
        ("gold.customer_360", VIEW, None, "nothing says what it is made of"),
        ("gold.dim_meter", METERS, {}, None),
        ("gold.dim_meter", ("silver.meters", *METERS), {}, "new inputs: silver.meters"),
        # it has gained their keys
        ("gold.fact_billing", (), {}, "new inputs: gold.dim_account, gold.dim_service_point, gold.dim_rate_schedule"),
        ("gold.fact_billing", (), {"gold.dim_service_point": 1, "gold.dim_rate_schedule": 1}, "new inputs: gold.dim_account"),
        ("gold.fact_billing", ("gold.dim_date",), dict.fromkeys(BILLED_TO, 1), None),
        ("gold.fact_billing", (), {"contract": "0.9.0"}, "another version of its contract"),
        ("gold.payment_application", (), {}, None),
        ("gold.payment_application", (), {"contract": "0.9.0"}, "another version of its contract"),
        ("gold.fact_outage", ("gold.dim_date",), {}, None),  # the calendar need only be there
        ("gold.fact_outage", (), {"momentary_minutes": 1}, "other settings of reliability"),
        ("gold.fact_outage", (), {"contract": "0.9.0"}, "another version of its contract"),
        ("gold.kpi_service_reliability", (), {}, None),
        ("gold.kpi_service_reliability", (), {"contract": "0.9.0"}, "another version of its contract"),
        ("gold.kpi_service_reliability", (), {"definition": "{}"}, "other settings of reliability"),
        ("gold.kpi_regulatory_scorecard", (), {}, None),
        ("gold.kpi_regulatory_scorecard", (), {"targets": "[]"}, "other targets in the settings"),
        ("gold.kpi_regulatory_scorecard", ("gold.dim_account",), {}, "new inputs: gold.dim_account"),
        ("gold.kpi_regulatory_scorecard", (), {"as_of": "2025-01-01"}, f"the as-of date moves from 2025-01-01 to {DAY}"),
        ("gold.agg_usage_monthly", (), {}, None),
        ("gold.agg_usage_monthly", (), {"parameters": "{}"}, "other parameters in a contract"),
        ("gold.agg_usage_monthly", (), {"contract": "1.0.0"}, "another version of its contract"),
        ("gold.agg_usage_monthly", (), {"contract": None}, "another version of its contract"),
        ("gold.agg_usage_monthly", (), None, "nothing says what it is made of"),
        ("gold.kpi_operational_efficiency", (), {}, None),
        ("gold.kpi_operational_efficiency", (), {"parameters": "{}"}, "other parameters in a contract"),
    ],
)
def test_what_a_table_reflects_is_compared_with_what_it_would(
    table: str, inputs: tuple[str, ...], changed: dict[str, Any] | None, why: str | None
) -> None:
    """Inputs that came, parameters and settings, beside versions; ``changed`` is what its note says otherwise; None: nothing.

    A value of None: the note lacks it.
    """
    house = SimpleNamespace(contracts=load_contracts(), table=lambda name: SimpleNamespace(version=lambda: VERSIONS.get(name, 1)))
    run: Any = SimpleNamespace(house=house, settings=GIVEN, as_of=DAY)
    noted = None if changed is None else {n: v for n, v in (REFLECTED[table] | changed).items() if v is not None}
    scene: Any = SimpleNamespace(consumed={} if noted is None else {table: noted})
    told, _ = _steps(run, scene, [Step(table, inputs, table, lambda _: None)], [table], [], migrates=False)
    assert (told["will_run"], told["why"]) == (why is not None, why or "its inputs have not changed")

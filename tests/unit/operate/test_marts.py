"""What looks at tables made of others reads what these were made of, and takes one that was rolled back to nothing as empty."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.gold import (
    compliance,
    customer360,
    efficiency,
    monthly,
    outages,
    satisfaction,
    scorecard,
    service_reliability,
)
from utilityflow.gold.changes import CUSTOMERS, final_states, identified, whole, with_keys
from utilityflow.gold.events import EVENT_FACTS, EventFact, event_facts
from utilityflow.gold.service_reliability import KPI, THRESHOLD
from utilityflow.gold.suspects import COLUMN as SUSPECTED
from utilityflow.operate.checks.base import Evidence
from utilityflow.operate.checks.facts import events_equal_their_rebuild, filings_equal_their_rebuild, lookups_are_right
from utilityflow.operate.checks.marts import marts_equal_their_rebuild, thresholds_follow
from utilityflow.operate.explain_customers import _events, customer
from utilityflow.scd2 import Dimension
from utilityflow.session import local_frame
from utilityflow.settings import ReliabilitySettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()
BILL = """bill_id string, cancels_bill_id string, kind string, account_id string, customer_id string, date_key int,
    _file_sha256 string, _row_number bigint"""
PAYMENT = """payment_key bigint, payment_id string, kind string, related_payment_id string, customer_id string, account_id string,
    bill_id string, status string, date_key int, amount decimal(18,4), currency string, _file_sha256 string, _row_number bigint"""
DAY = dt.date(2025, 3, 31)


def scene_of(tables: dict[str, list[DataFrame]], consumed: dict[str, Any]) -> Any:
    """A scene with tables by name, each as a list of its states from version 1 on; others are not there."""

    def table(name: str) -> Any:
        states = tables.get(name, [])
        return SimpleNamespace(name=name, contract=CONTRACTS[name], version=lambda: len(states),
                               read=lambda version=None: states[(version or 0) - 1])  # fmt: skip

    def small(name: str, *columns: str) -> list[Any]:
        return tables[name][-1].select(*columns).collect() if name in tables else []

    return SimpleNamespace(house=SimpleNamespace(table=table), contracts=CONTRACTS, consumed=consumed, rows=small,
                           home=SimpleNamespace(zone="UTC"))  # fmt: skip


def rows(spark: SparkSession, table: str, *given: dict[str, Any]) -> DataFrame:
    contract = CONTRACTS[table]
    common = {"quality_flags": [], "_record_hash": 0, "_feed": "f", "_file_sha256": "a" * 64, "_batch_id": 1, "_row_number": 1}
    filled = [tuple((common | row).get(name) for name in contract.column_names) for row in given]
    return local_frame(spark, filled, ", ".join(f"{c.name} {c.type}" for c in contract.columns))


def test_filings_are_compared_with_what_their_fact_was_made_of(spark: SparkSession) -> None:
    """A filing and an audit event came after; the fact is right until the next run. A wrong one is still found."""
    one = {"filing_id": "F1", "regulation": "R", "due_date": DAY, "status": "due"}
    at = dt.datetime(2025, 1, 5, tzinfo=dt.timezone.utc)
    event = {"event_id": "A1", "occurred_at": at, "occurred_date": DAY, "action": "review", "object_kind": "filing",
             "object_id": "F1", "filing_id": "F1", "outcome": "finding", "severity": "high"}  # fmt: skip
    filings = [rows(spark, compliance.FILINGS, one), rows(spark, compliance.FILINGS, one, one | {"filing_id": "F2"})]
    audits = [rows(spark, compliance.AUDITS), rows(spark, compliance.AUDITS, event)]
    fact = compliance.compliance_facts(filings[0], audits[0], CONTRACTS[compliance.NAME])
    tables = {compliance.FILINGS: filings, compliance.AUDITS: audits, compliance.NAME: [fact]}

    def found(fact: DataFrame, **told: int) -> int:
        consumed = {compliance.NAME: {f"silver.{n}": version for n, version in told.items()}}
        return filings_equal_their_rebuild(Evidence(scene_of(tables | {compliance.NAME: [fact]}, consumed))).count

    assert found(fact, compliance_filings=1, audit_events=1) == 0
    assert found(fact, compliance_filings=2, audit_events=1) == 1, "F2 would be missing, had it been told of"
    assert found(fact, compliance_filings=1, audit_events=2) == 1, "F1 would have a finding"
    assert found(fact.withColumn("submissions", F.lit(7)), compliance_filings=1, audit_events=1) == 1
    assert found(fact.limit(0)) == 0, "rolled back to where it had not been made"


@pytest.mark.parametrize("name", [monthly.NAME, customer360.NAME])
def test_a_mart_that_was_rolled_back_to_nothing_is_no_error(spark: SparkSession, name: str) -> None:
    empty = local_frame(spark, [], CONTRACTS[name].struct())
    assert marts_equal_their_rebuild(Evidence(scene_of({name: [empty]}, {name: {}}))).count == 0


def test_a_customer_of_a_mart_of_which_nothing_is_told(spark: SparkSession) -> None:
    contract = CONTRACTS[customer360.NAME]
    held = rows(spark, contract.name, {contract.primary_key[0]: 1, "customer_id": "A", "customer_key": 2})
    with pytest.raises(UtilityFlowError) as caught:
        customer(scene_of({contract.name: [held]}, {contract.name: {}}), contract, "1")
    assert (caught.value.code, caught.value.hint) == ("UF-4006", "'utilityflow run' brings the mart up")


def test_a_payment_is_found_through_its_bill_as_the_mart_finds_it(spark: SparkSession) -> None:
    days = {"B1": 20250201, "B2": 20250401}
    bills = local_frame(spark, [(b, None, "bill", "A1", "A", day, "b", 1) for b, day in days.items()], BILL)
    payments = local_frame(spark, [
        (1, "P1", "payment", None, None, None, "B1", "posted", 20250301, 10, "USD", "p", 1),
        (2, "P2", "payment", None, "B", None, None, "posted", 20250301, 20, "USD", "p", 2),
        (3, "P3", "payment", None, None, None, "B1", "posted", 20250401, 30, "USD", "p", 3),  # after the day
        (4, "P4", "payment", None, None, None, "B1", "pending", 20250301, 40, "USD", "p", 4),
    ], PAYMENT)  # fmt: skip
    frames = {customer360.BILLS: bills, customer360.PAYMENTS: payments}
    found = _events(frames, DAY)
    assert {(r["customer_id"], r["_row_number"]) for r in found[customer360.PAYMENTS].collect()} == {("A", 1), ("B", 2)}
    assert [(r["customer_id"], r["bill_id"]) for r in found[customer360.BILLS].collect()] == [("A", "B1")]
    last = customer360.last_payments(payments, bills, None, DAY).where("customer_id = 'A'").collect()
    assert [r["last_payment_amount"] for r in last] == [10], "what the mart says is among the records"
    assert _events({customer360.PAYMENTS: payments}, DAY)[customer360.PAYMENTS] is payments


def found_in(tables: dict[str, list[DataFrame]], name: str, held: DataFrame, told: dict[str, Any]) -> int:
    """What marts.rebuild finds where ``held`` is the live table."""
    return marts_equal_their_rebuild(Evidence(scene_of(tables | {name: [held]}, {name: told}))).count


def test_a_changed_cell_of_the_indices_is_found(spark: SparkSession) -> None:
    """Two service points, a sustained interruption in January, a momentary one in March; as of the tenth of March."""
    point = {"transformer_id": "T", "circuit_id": "C1", "feeder_id": "F", "substation_id": "S", "district": "North",
             "status": "active", "effective_date": dt.date(2020, 1, 1), "expiry_date": dt.date(9999, 12, 31)}  # fmt: skip
    hit = {"step_id": "1", "element_kind": "circuit", "element_id": "C1", "circuit_id": "C1", "district": "North",
           "service_points": 2, "customers_interrupted": 2, "is_open": False, "planned": False,
           "loss_of_supply": False}  # fmt: skip
    first, second = (dt.datetime(2025, month, 5, 10, tzinfo=dt.timezone.utc) for month in (1, 3))
    steps = [
        hit | {"outage_id": "O1", "date_key": 20250105, "started_at": first, "restored_at": first + dt.timedelta(hours=1),
               "minutes": 60.0, "customer_minutes": 120.0, "is_momentary": False},
        hit | {"outage_id": "O2", "date_key": 20250305, "started_at": second, "restored_at": second + dt.timedelta(minutes=2),
               "minutes": 2.0, "customer_minutes": 4.0, "is_momentary": True},
    ]  # fmt: skip
    network = rows(spark, outages.POINTS, *(point | {"service_point_key": n, "service_point_id": f"S{n}"} for n in (1, 2)))
    tables = {outages.NAME: [rows(spark, outages.NAME, *steps)], outages.POINTS: [network], THRESHOLD: [rows(spark, THRESHOLD)]}
    given = ReliabilitySettings(cemi_interruptions=1)  # other settings now; those told of count
    told: dict[str, Any] = {n: 1 for n in tables}
    told |= {"as_of": "2025-03-10", "definition": service_reliability.definition(given)}
    january = service_reliability.Months(dt.date(2025, 1, 1), dt.date(2025, 3, 1), dt.date(2025, 3, 10))
    frames = {n: states[0] for n, states in tables.items()}
    made = service_reliability.indices_of(frames, january, given, "UTC", CONTRACTS[KPI], lambda frame, _: frame)
    plain = [f"CAST({c.name} AS double)" if c.type.startswith("decimal") else c.name for c in CONTRACTS[KPI].columns]
    made = rows(spark, KPI, *(dict(zip(made.columns, r, strict=True)) for r in made.selectExpr(*plain).collect()))
    assert {(r["period"], r["saidi"], r["cemi_customers"]) for r in made.where("exclusions = 'none'").collect()} == {
        ("2025-01", 60, 2), ("2025-02", 0, 2), ("2025-03", 0, 2)}  # fmt: skip
    assert found_in(tables, KPI, made, told) == 0
    changed = F.when((F.col("period") == "2025-02") & (F.col("exclusions") == "planned"), 1).otherwise(F.col("celid_customers"))
    assert found_in(tables, KPI, made.withColumn("celid_customers", changed.cast("bigint")), told) == 2, "the row and its rebuild"
    assert found_in(tables, KPI, made.where("period <> '2025-03'"), told) == 3, "a month that is missing"
    assert {r["exclusions"] for r in made.collect()} == {"none", "loss_of_supply", "planned"}, "no threshold, no major event days"


def test_a_changed_cell_of_the_scorecard_is_found(spark: SparkSession) -> None:
    month = {"billing_period": "2025-02", "date_key": 20250201}
    filings = {"compliance_key": 1, "date_key": 20250210, "status": "due", "is_filed": False}
    closed = {"request_key": 1, "date_key": 20250203, "due_date_key": 20250209, "status": "closed", "is_open": False,
              "closed_late": False}  # fmt: skip
    left = {"status": "open", "is_open": True, "closed_late": None}
    tables = {
        satisfaction.NAME: [rows(spark, satisfaction.NAME, month | {"complaints": 3})],
        CUSTOMERS: [rows(spark, CUSTOMERS, customer_version(1, "A"))],
        scorecard.REQUESTS: [rows(spark, scorecard.REQUESTS, closed, closed | {"request_key": 2, **left})],
        efficiency.NAME: [rows(spark, efficiency.NAME, month | {"bills_in_time": 3, "issued_bills": 4})],
        compliance.NAME: [rows(spark, compliance.NAME, filings)],
    }
    told: dict[str, Any] = dict.fromkeys(tables, 1)
    targets = scorecard.held_to(ReliabilitySettings(targets={"bills_in_time": 0.9}))
    told |= {"targets": targets, "as_of": "2025-02-11"}
    frames = {n: states[0] for n, states in tables.items()}
    whole_card = scorecard.whole_scorecard(frames, {"bills_in_time": 0.9}, "none", dt.date(2025, 2, 11))
    made = scorecard.keyed(whole_card, CONTRACTS[scorecard.NAME])
    assert found_in(tables, scorecard.NAME, made, told) == 0
    changed = made.withColumn("met", F.when(F.col("metric_code") == "bills_in_time", F.lit(True)))
    assert found_in(tables, scorecard.NAME, changed, told) == 4, "both spans, and what they should be"
    assert found_in(tables, scorecard.NAME, made, told | {"as_of": "2025-02-10"}) == 2, "on its last day it is not late yet"
    early = told | {"as_of": "2025-02-09"}
    assert found_in(tables, scorecard.NAME, made, early) == 6, "nor the request on its own: both spans, and what they would be"


def customer_version(key: int, name: str) -> dict[str, Any]:
    return {"customer_key": key, "customer_id": name, "effective_date": dt.date(2024, 1, 1), "expiry_date": dt.date(9999, 12, 31),
            "is_current": True, "is_inferred": False}  # fmt: skip


def test_a_changed_cell_of_efficiency_is_found(spark: SparkSession) -> None:
    line = {"bill_id": "B1", "kind": "bill", "date_key": 20250203, "period_end": dt.date(2025, 2, 1)}
    tables = {efficiency.BILLS: [rows(spark, efficiency.BILLS, line)]}
    contract = CONTRACTS[efficiency.NAME]
    made = efficiency.efficiency({efficiency.BILLS: tables[efficiency.BILLS][0]}, contract.property("parameters"), None)
    made = made.select(*contract.column_names)
    told = {efficiency.BILLS: 1, "parameters": ""}
    assert found_in(tables, efficiency.NAME, made, told) == 0
    assert found_in(tables, efficiency.NAME, made.withColumn("bills_in_time", F.lit(0).cast("bigint")), told) == 2


def threshold(**more: Any) -> dict[str, Any]:
    return {"year": 2025, "threshold_saidi": 66.353739, "alpha": -0.555, "beta": 1.9, "factor": 2.5,
            "first_date": dt.date(2020, 1, 3), "last_date": dt.date(2024, 12, 30), "days": 400,
            "frozen_as_of": dt.date(2025, 1, 2)} | more  # fmt: skip


def test_thresholds_follow_from_their_own_rows(spark: SparkSession) -> None:
    """Vector V14: exp(-0.555 + 2.5 x 1.90) is 66.3537."""

    def found(**more: Any) -> tuple[str, ...]:
        return thresholds_follow(Evidence(scene_of({THRESHOLD: [rows(spark, THRESHOLD, threshold(**more))]}, {}))).offenders

    assert found() == ()
    assert "is not exp(alpha + factor x beta)" in found(threshold_saidi=66.355)[0]
    assert "is not exp(alpha + factor x beta)" in found(beta=1.901)[0]
    assert "do not fit the year" in found(last_date=dt.date(2025, 1, 1))[0]
    assert "do not fit the year" in found(frozen_as_of=dt.date(2024, 12, 31))[0]
    assert "1 days do not fit its history" in found(days=1)[0]


# with the member that is named
DIMENSIONS = {CUSTOMERS: "A", "gold.dim_account": "K", "gold.dim_service_point": "S", "gold.dim_rate_schedule": "R"}


def dimension_of(spark: SparkSession, name: str) -> tuple[DataFrame, Dimension]:
    """A dimension with one version of its member, of which the key is 1."""
    d = Dimension.from_contract(CONTRACTS[name])
    version = customer_version(1, "A") | {d.surrogate_key: 1, d.key[0]: DIMENSIONS[name]}
    return rows(spark, name, version), d


EVENTS: list[tuple[EventFact, dict[str, Any], str, str]] = [
    (EVENT_FACTS[0], {"bill_id": "B1", "line_number": 1, "kind": "bill", "charge": "energy", "amount": 12.5, "currency": "USD",
               "bill_date": DAY, "period_start": dt.date(2025, 2, 1), "period_end": dt.date(2025, 3, 1),
               "service_point_id": "S", "rate_schedule": "R"},
     "billed_days", "29"),
    (EVENT_FACTS[1], {"payment_id": "P1", "kind": "payment", "status": "posted", "amount": 12.5, "currency": "USD",
               "received_date": DAY, "due_date": dt.date(2025, 3, 30)}, "days_late", "2"),
    (EVENT_FACTS[2], {"request_id": "R1", "request_type": "Outage", "status": "closed", "opened_date": DAY, "closed_date": DAY},
     "resolution_hours", "CAST(24 AS decimal(12,2))"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "record", "measure", "other"), EVENTS, ids=[spec.what for spec, *_ in EVENTS])
def test_a_changed_measure_of_an_event_is_found(spark: SparkSession, spec: EventFact, record: dict[str, Any], measure: str,
                                                other: str) -> None:  # fmt: skip
    """Of an event that was told of twice; the fact is of the later state."""
    source, contract = CONTRACTS[spec.grain.source], CONTRACTS[spec.grain.name]
    told = [record | {"customer_id": "A", "account_id": "K", "_batch_id": n, "_row_number": n} for n in (1, 2)]
    records, members = rows(spark, source.name, *told), {name: dimension_of(spark, name) for name in spec.dimensions}
    final = final_states(identified(records, source), "_identity")
    facts = whole(event_facts(final, spec, source), contract)
    fact = with_keys(facts, members, contract.column_names)
    everything = dict.fromkeys(spec.reflected, 1)

    def found(held: DataFrame, consumed: dict[str, Any] = everything) -> int:
        tables = {source.name: [records], spec.grain.name: [held]} | {name: [frame] for name, (frame, _) in members.items()}
        return events_equal_their_rebuild(Evidence(scene_of(tables, {spec.grain.name: consumed}))).count

    (row,) = fact.collect()
    keys = [dimension.surrogate_key for _, dimension in members.values()]
    assert ({row[key] for key in keys}, row["_row_number"]) == ({1}, 2)
    assert found(fact) == 0
    assert found(fact.withColumn(measure, F.expr(other))) == 1
    assert found(fact.limit(0)) == 1, "it is missing"
    assert [found(fact.withColumn(key, F.lit(2).cast("bigint"))) for key in keys] == [1] * len(keys)
    null = fact.withColumns({key: F.lit(None).cast("bigint") for key in keys if key != "customer_key"})
    assert found(null, {source.name: 1, CUSTOMERS: 1}) == 0, "before the first run with keys that the table has gained"
    assert "account_key" in keys and found(null) == 1, "after it"
    assert {s.grain.name for s, *_ in EVENTS} == {s.grain.name for s in EVENT_FACTS}
    if spec.suspects:
        told_of = everything | {"contract": contract.version}
        marks = [found(fact.withColumn(SUSPECTED, F.lit(mark).cast("boolean")), told_of) for mark in (False, True, None)]
        assert marks == [0, 1, 1], "it is the only one of its kind"


def test_a_key_of_another_version_is_found(spark: SparkSession) -> None:
    """In each of the dimensions that a bill line looks up; a null one too. The flag of an early fact is the customer's alone."""
    keys = ("customer_key", "account_key", "service_point_key", "rate_schedule_key")
    line = {"billing_key": 7, "date_key": 20250331, "customer_id": "A", "account_id": "K", "service_point_id": "S",
            "rate_schedule": "R"} | dict.fromkeys(keys, 1)  # fmt: skip
    dims = {name: [dimension_of(spark, name)[0]] for name in DIMENSIONS}

    def found(**other: Any) -> tuple[str, ...]:
        tables = dims | {"gold.fact_billing": [rows(spark, "gold.fact_billing", line | other)]}
        return lookups_are_right(Evidence(scene_of(tables, {}))).offenders

    assert found() == ()
    for key in keys:
        assert found(**{key: 2}) == (f"gold.fact_billing 7: {key} 2, the version of its day is 1",)
    assert found(service_point_key=None) == ("gold.fact_billing 7: service_point_key None, the version of its day is 1",)
    assert found(rate_schedule=None) == ("gold.fact_billing 7: rate_schedule_key 1, the version of its day is -1",)
    assert found(rate_schedule=None, rate_schedule_key=-1) == ()
    assert found(account_id=None) == ("gold.fact_billing 7: account_key 1, the version of its day is -1",)
    assert found(account_id=None, account_key=-1) == ()
    assert len(found(quality_flags=["before_first_version"])) == 1

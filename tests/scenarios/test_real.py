"""The example feeds on input that nobody here made, from landed files to the warehouse, with figures counted from the files.

Sources of the figures: the domain reference, vectors V7, V8, V10, V12 and V16. The second reader, DuckDB, answers; of silver,
which the warehouse does not hold, Spark.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.gold import application, receivables
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.verify import verify
from utilityflow.scd2 import Dimension
from utilityflow.settings import Settings

COASTAL_MONTHS = [
    428_756, 360_594, 363_565, 334_139, 336_299, 330_430, 370_957, 404_845, 368_853, 356_860, 353_504, 416_503
]  # fmt: skip
pytestmark = [pytest.mark.real, pytest.mark.slow]
Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def loaded(
    spark: Any, repository: Path, real_data: Path, tmp_path: Path
) -> Callable[..., contextlib.AbstractContextManager[Ask]]:
    """Runs one example's feeds on its folder in a new home; gives what asks the warehouse."""

    @contextlib.contextmanager
    def run(name: str, zone: str) -> Iterator[Ask]:
        feeds = repository / "conf" / "feeds" / "examples" / name
        settings = Settings(
            home=str(tmp_path / "home"), landing=str(real_data / name), feeds=str(feeds), time_zone=zone
        )
        answer = pipeline.run(settings, as_of=dt.date(2026, 11, 1))
        assert answer["status"] == "succeeded", answer["error"]
        for one in answer["files"]:
            parts = ("rows_loaded", "rows_quarantined", "rows_superseded", "rows_duplicate")
            assert one["rows_read"] == sum(one[p] for p in parts), one["file"]
        with duckdb.connect(str(tmp_path / "home" / "warehouse" / "utilityflow.duckdb"), read_only=True) as base:
            yield lambda query: base.execute(query).fetchall()

    return run


def test_steg(loaded: Any) -> None:
    with loaded("steg", "Africa/Tunis") as ask:
        assert ask("SELECT count(*) FROM gold.current_customers WHERE NOT is_inferred") == [(58_069,)]
        assert ask("SELECT commodity, count(*), sum(quantity)::BIGINT FROM gold.fact_usage GROUP BY 1 ORDER BY 1") == [
            ("electric", 148_349, 114_243_467),
            ("gas", 65_108, 14_090_062),
        ]
        flags = ask("SELECT flag, count(*) FROM (SELECT unnest(quality_flags) AS flag FROM gold.fact_usage) GROUP BY 1")
        told = dict(flags)
        assert (told["read_below_previous"], told["before_first_version"]) == (109, 626)
        assert told["quantity_differs_from_reads"] == 841  # 541 of electricity, 300 of gas: V10's shares, rollovers aside


def test_green_button(loaded: Any) -> None:
    """V7: to the watt-hour, on local days of 23 and 25 hours, the same in both block forms, gas in its own unit."""
    with loaded("greenbutton", "America/Los_Angeles") as ask:
        totals = (
            "SELECT customer_id, count(*), sum(quantity) FROM gold.fact_usage WHERE unit = 'kWh' GROUP BY 1 ORDER BY 1"
        )
        # the nine days are those of another zone: ten here, the first and the last incomplete
        assert [(c, n, int(q * 1000)) for c, n, q in ask(totals)] == [
            ("2", 10, 199_563), ("3", 365, 4_425_305), ("5", 365, 4_425_305), ("6", 365, 5_219_781)
        ]  # fmt: skip
        for home in "35":
            of_home = f"FROM gold.fact_usage WHERE customer_id = '{home}'"
            months = ask(f"SELECT billing_period, sum(quantity) {of_home} GROUP BY 1 ORDER BY 1")
            assert [int(q * 1000) for _, q in months] == COASTAL_MONTHS
        days = "SELECT quantity, quality_flags FROM gold.fact_usage WHERE customer_id = '5' AND date_key IN (20110313, 20111106)"
        assert ask(f"{days} ORDER BY date_key") == [(Decimal("12.182"), []), (Decimal("12.159"), [])]
        peak = "SELECT max(peak_demand), max(peak_demand) FILTER (date_key = 20111227) FROM gold.fact_usage"
        assert ask(f"{peak} WHERE customer_id = '5'") == [(Decimal("0.94"), Decimal("0.94"))]
        same = "SELECT usage_kwh, peak_demand, date_key, quality_flags FROM gold.fact_usage WHERE customer_id = '{}'"
        assert ask(f"SELECT count(*) FROM ({same.format(3)} EXCEPT ALL {same.format(5)})") == [(0,)]
        gas = "SELECT quantity::INT, unit FROM gold.fact_usage WHERE commodity = 'gas' ORDER BY period_end"
        assert sorted(ask(gas)) == [(q, "therm") for q in (14, 21, 27, 37, 41)]


def test_nem12(loaded: Any) -> None:
    """V8: energy by NMI, direction and unit; the invalid files leave what is good in them, and nothing counts twice."""
    with loaded("nem12", "Australia/Brisbane") as ask:
        assert ask("SELECT count(*), count(*) FILTER (list_contains(quality_flags, 'no_customer')) FROM gold.fact_usage") == [
            (306, 306)
        ]
        sums = ask("SELECT unit, direction, sum(quantity) FROM gold.fact_usage GROUP BY 1, 2 ORDER BY 1, 2")
        assert sums == [
            ("kVArh", "delivered", Decimal("49399.128")), ("kVArh", "received", Decimal("426.24")),
            ("kWh", "delivered", Decimal("222058.338")), ("kWh", "received", Decimal("1015.796")),
        ]  # fmt: skip
        of = "SELECT count(*), sum(quantity) FROM gold.fact_usage WHERE"
        assert ask(f"{of} meter_id LIKE 'nmi%'") == [(198, Decimal(214_621))]
        assert ask(f"{of} meter_id = 'NMI1234567'") == [(62, Decimal("859.91"))]
        # the day of both files is one fact; of the invalid file the broken day is missing, the next one is there
        assert ask(f"{of} meter_id = 'VABD000163' AND register = 'E1'") == [(2, Decimal("106.656"))]
        assert ask(f"{of} meter_id = 'VABD000163' AND register = 'Q1'") == [(2, Decimal("213.312"))]
        one = "SELECT quantity, read_quality, period_start FROM gold.fact_usage WHERE meter_id = '{}'"
        assert ask(one.format("CCCC123456")) == [(Decimal("896.99"), "mixed", dt.date(2004, 4, 17))]
        assert ask(one.format("VABC005890")) == [(Decimal("1312.1"), "actual", dt.date(2003, 10, 5))]


def test_london_households(loaded: Any) -> None:
    with loaded("lcl", "Europe/London") as ask:
        groups = ask("SELECT tariff_group, count(*) FROM gold.current_customers GROUP BY 1 ORDER BY 1")
        assert sum(n for _, n in groups) == 5_566 and [g for g, _ in groups] == ["Std", "ToU"]


# -- bills, payments and service requests: three feeds in one run ------------------------------------------------------------

SERVED = ("accounts_receivable/invoices.yaml", "accounts_receivable/receivables.yaml", "nyc311/requests.yaml")


@pytest.fixture(scope="module")
def served(
    spark: Any, repository: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Settings, Callable[[str], tuple[Any, ...]]]:
    """The run's answer, its settings, and what asks for one row of silver.payments and silver.service_requests."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "feeds").mkdir()
    for file in SERVED:
        shutil.copy(repository / "conf" / "feeds" / "examples" / file, folder / "feeds")
    settings = Settings(home=str(folder / "home"), landing=str(real_data), feeds=str(folder / "feeds"),
                        time_zone="America/New_York")  # fmt: skip
    answer = pipeline.run(settings, as_of=dt.date(2026, 11, 1))
    house = Lakehouse(spark, str(folder / "home" / "lakehouse"), load_contracts())
    for entity in ("payments", "service_requests"):
        house.table(f"silver.{entity}").read().createOrReplaceTempView(f"real_{entity}")
    return answer, settings, lambda query: tuple(spark.sql(query).first())


def test_every_record_of_both_files_is_loaded(served: Any) -> None:
    answer, settings, _ = served
    assert answer["status"] == "succeeded", answer["error"]
    parts = ("rows_read", "rows_loaded", "rows_quarantined", "rows_superseded", "rows_duplicate")
    assert {one["file"]: (one["status"], *(one[p] for p in parts)) for one in answer["files"]} == {
        "accounts_receivable/ar.csv": ("loaded", 2_466, 2_466, 0, 0, 0),
        "nyc311/311.csv": ("loaded", 1_000, 1_000, 0, 0, 0),
    }
    assert [c for c in verify(settings)["checks"] if c["status"] != "ok"] == []
    again = pipeline.run(settings, as_of=dt.date(2026, 11, 1))
    assert again["status"] == "nothing_to_do", again["error"] or again["steps"]


def test_real_bills_and_money_age(served: Any, spark: Any) -> None:
    """V12, through gold: what was open and past due on a day, by account."""
    house = Lakehouse(spark, str(served[1].home_path / "lakehouse"), load_contracts())
    bills, payments, customers = (house.table(n).read() for n in receivables.INPUTS)
    assert (bills.count(), payments.count()) == (2_466, 2_466)
    dimension = Dimension.from_contract(house.contracts["gold.dim_customer"])
    rows = receivables.receivables(bills, payments, customers, dimension, dt.date(2013, 6, 30))
    late = "due_1_30 + due_31_60 + due_61_90 + due_over_90"
    total = rows.selectExpr("sum(open_bills)", "sum(open_amount)", f"sum({late})", "sum(unapplied)").first()
    assert tuple(total) == (84, Decimal("5119.85"), Decimal("835.56"), 0)
    now = house.table(receivables.NAME).read().selectExpr("count(*)", "sum(billed)", "sum(received)", "sum(open_bills)").first()
    assert tuple(now) == (100, Decimal("147703.18"), Decimal("147703.18"), 0)


def test_real_bills_keep_what_paid_them(served: Any, spark: Any) -> None:
    """V12, through gold: each invoice is settled by its own payment on its own day; what was open and past due on a day."""
    house = Lakehouse(spark, str(served[1].home_path / "lakehouse"), load_contracts())
    rows = house.table(application.NAME).read()
    late = "greatest(datediff(last_payment_date, due_date), 0)"
    assert tuple(rows.selectExpr(
        "count(*)", "count(DISTINCT account_id)", "sum(amount)", "sum(paid_directly)", "sum(paid_from_pool)", "sum(open_amount)",
        "round(avg(datediff(last_payment_date, bill_date)), 4)", f"round(100.0 * count_if({late} > 0) / count(*), 4)",
    ).first()) == (2_466, 100, Decimal("147703.18"), Decimal("147703.18"), 0, 0, 26.4448, Decimal("35.5637"))  # fmt: skip
    aged = [(f"{late} = 0", 1_589, "93742.40"), (f"{late} BETWEEN 1 AND 30", 869, "53399.26"),
            (f"{late} BETWEEN 31 AND 60", 8, "561.52"), (f"{late} > 0", 877, "53960.78")]  # fmt: skip
    for test, count, amount in aged:
        assert tuple(rows.where(test).selectExpr("count(*)", "sum(amount)").first()) == (count, Decimal(amount)), test
    facts = (house.table(n).read() for n in application.INPUTS)
    then = application.application(*facts, house.contracts[application.NAME], dt.date(2013, 6, 30))
    past = "due_date < date'2013-06-30' AND open_amount > 0"
    found = then.selectExpr("count_if(open_amount > 0)", "sum(open_amount)", f"count_if({past})", f"sum(IF({past}, amount, 0))")
    assert tuple(found.first()) == (84, Decimal("5119.85"), 12, Decimal("835.56"))


def test_receivables(served: Any) -> None:
    """V12, from silver: amounts to the cent, days to settle and days late."""
    ask = served[2]
    late = "greatest(datediff(received_date, due_date), 0)"
    assert ask("""SELECT count(*), count(DISTINCT customer_id), sum(amount), count_if(disputed),
        count_if(size(quality_flags) > 0), min(kind), max(kind), min(status), max(currency),
        min(datediff(due_date, bill_date)), max(datediff(due_date, bill_date)),
        round(avg(datediff(received_date, bill_date)), 4) FROM real_payments""") == (
        2_466, 100, Decimal("147703.1800"), 561, 0, "payment", "payment", "posted", "XXX", 30, 30, 26.4448
    )  # fmt: skip
    aged = [(f"{late} = 0", 1_589, "93742.40"), (f"{late} BETWEEN 1 AND 30", 869, "53399.26"),
            (f"{late} BETWEEN 31 AND 60", 8, "561.52"), (f"{late} > 0", 877, "53960.78")]  # fmt: skip
    day = "date'2013-06-30'"
    opened = f"bill_date <= {day} AND received_date > {day}"
    aged += [(opened, 84, "5119.85"), (f"{opened} AND due_date < {day}", 12, "835.56")]
    for test, rows, amount in aged:
        assert ask(f"SELECT count(*), sum(amount) FROM real_payments WHERE {test}") == (rows, Decimal(amount)), test


def test_service_requests(served: Any) -> None:
    """V16, from silver: records that hold line ends, instants in UTC, days in the city's zone, flags as counted."""
    ask = served[2]
    assert ask("""SELECT count(*), count(DISTINCT request_id), count(closed_at), count_if(status = 'closed'),
        count_if(status = 'open'), count_if(status = 'in_progress'), count_if(status = 'assigned'),
        count_if(closed_at = opened_at), count_if(closed_at < opened_at), count(due_at),
        count(latitude), max(_row_number) FROM real_service_requests""") == (
        1_000, 1_000, 292, 293, 424, 277, 6, 6, 0, 16, 977, 1_000
    )  # fmt: skip
    instants = ask("SELECT string(min(opened_at)), string(max(opened_at)) FROM real_service_requests")
    assert instants == ("2024-04-16 02:51:53", "2024-04-16 07:03:15")
    # in UTC all came in on one day
    assert ask("SELECT min(opened_date), max(opened_date) FROM real_service_requests") == (
        dt.date(2024, 4, 15), dt.date(2024, 4, 16)
    )  # fmt: skip
    hours = "(unix_micros(closed_at) - unix_micros(opened_at)) / 3.6e9"
    assert ask(f"SELECT round(median({hours}), 4) FROM real_service_requests") == (0.5636,)
    flagged = "count_if(array_contains(quality_flags, '{}'))"
    codes = ("no_customer", "closed_without_date", "updated_before_opened", "closed_before_opened", "closed_but_open",
             "due_before_opened", "bad_location", "unknown_priority")  # fmt: skip
    assert ask(f"SELECT {', '.join(map(flagged.format, codes))} FROM real_service_requests") == (
        1_000, 1, 370, 0, 0, 0, 0, 0
    )  # fmt: skip
    assert ask("SELECT min(latitude), max(longitude) FROM real_service_requests") == (
        Decimal("40.538203"), Decimal("-73.707952")
    )  # fmt: skip

"""The keys of facts of events: which version of service point, rate schedule and account each has, and what makes it another."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.gold.events import BILLING, EVENT_FACTS
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.verify import verify
from utilityflow.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # several runs each: minutes
HISTORY = "event: {effective_at: to_timestamp(at), operation: case op when 'D' then 'delete' else 'upsert' end}\n"
FEEDS = {
    "crm": f"system: customer_management\nentity: customers\ncolumns: {{customer_id: id, customer_type: class}}\n{HISTORY}",
    "points": "system: customer_management\nentity: service_points\n"
              "columns: {service_point_id: id, circuit_id: circuit}\n" + HISTORY,
    "rates": "system: billing\nentity: rate_schedules\n"
             'columns: {rate_schedule: id, energy_charge: "cast(price as decimal(18,6))"}\n' + HISTORY,
    "bills": """system: billing
entity: bills
columns: {bill_id: id, line_number: "1", kind: "'bill'", customer_id: cust, service_point_id: point, rate_schedule: rate,
          charge: "'energy'", amount: "cast(amt as decimal(18,4))", currency: "'USD'", bill_date: to_date(day)}
""",
    "accounts": "system: customer_management\nentity: accounts\ncolumns: {account_id: id, status: state}\n" + HISTORY,
    "lines": """system: billing
entity: bills
columns: {bill_id: id, account_id: acct, customer_id: "'C'", amount: "cast(amt as decimal(18,4))", currency: "'USD'",
          bill_date: to_date(day)}
""",
    "cash": """system: payment_processing
entity: payments
columns: {payment_id: id, account_id: acct, customer_id: "'C'", amount: "cast(amt as decimal(18,4))", currency: "'USD'",
          method: "'card'", received_date: to_date(day)}
""",
    "desk": """system: service_requests
entity: service_requests
columns: {request_id: id, account_id: acct, customer_id: "'C'", request_type: "'Billing'", status: "'open'",
          opened_date: to_date(day)}
""",
}  # fmt: skip
BILLS = "id,cust,point,rate,amt,day\n"
FIRST = {
    "crm/1.csv": "id,class,at,op\nC,RES,2020-01-01 00:00:00,\n",
    "points/1.csv": "id,circuit,at,op\nS1,K1,2024-01-01 00:00:00,\nS1,K2,2025-01-01 00:00:00,\n"
                    "S2,K1,2024-01-01 00:00:00,\nS2,,2025-02-01 00:00:00,D\n",
    "rates/1.csv": "id,price,at,op\nR1,0.10,2024-01-01 00:00:00,\nR1,0.20,2025-01-01 00:00:00,\n",
    "bills/1.csv": BILLS + "".join(f"{line}\n" for line in (
        "OLD,C,S1,R1,1,2024-06-15", "NEW,C,S1,R1,2,2025-02-15", "EARLY,C,S1,R1,3,2023-12-01", "NONE,C,,,4,2025-02-15",
        "STRANGE,C,S9,R9,5,2025-02-15", "MARK,C,?,?,6,2025-02-15", "GAP,C,S2,R1,7,2025-02-15", "JANUARY,C,S1,R1,8,2025-01-20",
        "SPRING,C,S1,R1,10,2024-03-15",
    )),
}  # fmt: skip
# late: a price of June; a circuit, a price and a class of customer of February, which meet in one bill; R9 is told of
SECOND = {
    "crm/2.csv": "id,class,at,op\nC,COM,2025-02-10 00:00:00,\n",
    "points/2.csv": "id,circuit,at,op\nS1,K3,2025-02-01 00:00:00,\n",
    "rates/2.csv": "id,price,at,op\nR1,0.15,2024-06-01 00:00:00,\nR1,0.25,2025-02-05 00:00:00,\nR9,0.90,2024-01-01 00:00:00,\n",
    "bills/2.csv": BILLS + "LAST,C,S1,R1,9,2025-02-25\n",
}
SHOWN = """SELECT bill_id, p.service_point_id, p.circuit_id, p.is_inferred, r.rate_schedule, r.energy_charge::DOUBLE,
    r.is_inferred, c.customer_type, f.quality_flags
    FROM gold.fact_billing f JOIN gold.dim_service_point p USING (service_point_key)
    JOIN gold.dim_rate_schedule r USING (rate_schedule_key) JOIN gold.dim_customer c USING (customer_key)"""
UNKNOWN = ("?", None, False)
ACCOUNTS = {
    "accounts/1.csv": "id,state,at,op\nA1,active,2024-01-01 00:00:00,\nA1,final,2025-01-01 00:00:00,\n"
                      "A2,active,2024-01-01 00:00:00,\nA2,,2025-02-01 00:00:00,D\n",
    "lines/1.csv": "id,acct,amt,day\nOLD,A1,1,2024-06-15\nNEW,A1,2,2025-02-15\nEARLY,A1,3,2023-12-01\nNONE,,4,2025-02-15\n"
                   "MARK,?,5,2025-02-15\nSTRANGE,A9,6,2025-02-15\nGAP,A2,7,2025-02-15\n",
    "cash/1.csv": "id,acct,amt,day\nP1,A1,1,2024-06-15\nP2,A1,2,2025-02-15\nP3,,3,2025-02-15\nP4,A8,4,2025-02-15\n",
    "desk/1.csv": "id,acct,day\nR1,A1,2025-02-15\nR2,,2025-02-15\n",
}  # fmt: skip
WITH_ACCOUNT = {"fact_billing": "bill_id", "fact_payment": "payment_id", "fact_service_request": "request_id"}
ASKED = " UNION ALL ".join(
    f"SELECT {name}, a.account_id, a.status, a.is_inferred FROM gold.{fact} f JOIN gold.dim_account a USING (account_key)"
    for fact, name in WITH_ACCOUNT.items()
)


class Home:
    """A home whose files come run by run."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(**{n: str(folder / n) for n in ("home", "landing", "feeds")}, time_zone="UTC")
        self.house = Lakehouse(spark, str(folder / "home" / "lakehouse"), load_contracts())

    def run(self, files: dict[str, str]) -> dict[str, Any]:
        """Land files, whose feeds are there from now on, and run; step -> its result, and ``status``."""
        for name, text in files.items():
            path, feed = self.folder / "landing" / name, name.partition("/")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            (self.folder / "feeds").mkdir(exist_ok=True)
            told = f"feed: {feed}\nformat: csv\npath: {feed}/*.csv\n{FEEDS[feed]}"
            (self.folder / "feeds" / f"{feed}.yaml").write_text(told, encoding="utf-8")
        answer = pipeline.run(self.settings, as_of=dt.date(2025, 3, 1))
        assert answer["error"] is None, answer["error"]
        assert not any(f["rows_quarantined"] for f in answer["files"]), answer["files"]
        return {s["step"]: s for s in answer["steps"]} | {"status": answer["status"]}

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """What the warehouse says."""
        with duckdb.connect(str(self.folder / "home" / "warehouse" / "utilityflow.duckdb"), read_only=True) as db:
            return db.execute(query).fetchall()

    def bills(self) -> dict[str, tuple[Any, ...]]:
        """Bill -> what its keys lead to."""
        found = self.asked(SHOWN)
        assert len(found) == self.asked("SELECT count(*) FROM gold.fact_billing")[0][0], "each key leads to one row"
        return {bill: tuple(rest) for bill, *rest in found}

    def keys(self, bill: str) -> tuple[Any, ...]:
        """The two keys of a bill."""
        return self.asked(f"SELECT service_point_key, rate_schedule_key FROM gold.fact_billing WHERE bill_id = '{bill}'")[0]

    def accounts(self) -> dict[str, tuple[Any, ...]]:
        """Bill, payment or request -> the account that its key leads to."""
        found = self.asked(ASKED)
        assert len(found) == sum(rows for rows, _ in self.counted().values()), "each key leads to one row"
        return {name: tuple(rest) for name, *rest in found}

    def counted(self) -> dict[str, tuple[Any, ...]]:
        """Fact with accounts -> how many rows it has, and how many of them a key."""
        return {fact: self.asked(f"SELECT count(*), count(account_key) FROM gold.{fact}")[0] for fact in WITH_ACCOUNT}

    def version(self, rate: str, since: str) -> int:
        """The key of the version of a rate schedule that begins on a day."""
        wanted = f"WHERE rate_schedule = '{rate}' AND effective_date = '{since}'"
        ((key,),) = self.asked(f"SELECT rate_schedule_key FROM gold.dim_rate_schedule {wanted}")
        return int(key)


def sound(home: Home) -> None:
    """All invariants hold."""
    broken = [c for c in verify(home.settings)["checks"] if c["status"] != "ok"]
    assert not broken, broken


def test_a_bill_has_the_versions_of_its_day(spark: SparkSession, tmp_path: Path) -> None:
    home = Home(spark, tmp_path)
    home.run(FIRST)
    assert home.bills() == {
        "OLD": ("S1", "K1", False, "R1", 0.10, False, "RES", []),
        "NEW": ("S1", "K2", False, "R1", 0.20, False, "RES", []),
        "JANUARY": ("S1", "K2", False, "R1", 0.20, False, "RES", []),
        "SPRING": ("S1", "K1", False, "R1", 0.10, False, "RES", []),
        "EARLY": ("S1", "K1", False, "R1", 0.10, False, "RES", []),  # the flag would be the customer's
        "NONE": (*UNKNOWN, *UNKNOWN, "RES", []),
        "MARK": (*UNKNOWN, *UNKNOWN, "RES", []),
        "STRANGE": ("S9", None, True, "R9", None, True, "RES", []),
        "GAP": (*UNKNOWN, "R1", 0.20, False, "RES", []),
    }
    assert home.keys("NONE") == home.keys("MARK") == (-1, -1)
    strange = home.keys("STRANGE")
    sound(home)

    steps = home.run(SECOND)
    after = {
        "OLD": ("S1", "K1", False, "R1", 0.15, False, "RES", []),
        "NEW": ("S1", "K3", False, "R1", 0.25, False, "COM", []),
        "JANUARY": ("S1", "K2", False, "R1", 0.20, False, "RES", []),
        "SPRING": ("S1", "K1", False, "R1", 0.10, False, "RES", []),
        "EARLY": ("S1", "K1", False, "R1", 0.10, False, "RES", []),
        "NONE": (*UNKNOWN, *UNKNOWN, "COM", []),
        "MARK": (*UNKNOWN, *UNKNOWN, "COM", []),
        "STRANGE": ("S9", None, True, "R9", 0.90, False, "COM", []),
        "GAP": (*UNKNOWN, "R1", 0.25, False, "COM", []),
        "LAST": ("S1", "K3", False, "R1", 0.25, False, "COM", []),
    }
    assert home.bills() == after
    assert home.keys("STRANGE") == strange, "the real rate schedule has taken over the inferred member's key"
    assert steps["gold.fact_billing"]["rows_written"] == 7, "each one that moved, and once: of NEW three histories did"
    sound(home)

    spring = home.keys("SPRING")
    steps = home.run({"rates/3.csv": "id,price,at,op\nR1,0.05,2020-01-01 00:00:00,\nR7,0.70,2025-01-01 00:00:00,\n"})
    assert home.bills() == after | {"EARLY": ("S1", "K1", False, "R1", 0.05, False, "RES", [])}
    assert steps["gold.fact_billing"]["rows_written"] == 1, "the version of SPRING is no longer the first, so it has another key"
    assert home.keys("SPRING")[0] == spring[0] and home.keys("SPRING")[1] == home.version("R1", "2024-01-01") != spring[1]
    assert home.keys("EARLY")[1] == home.version("R1", "2020-01-01") == spring[1], "the first version keeps the first's key"
    assert steps["gold.dim_service_point"]["status"] == "skipped"

    version = home.house.table("gold.fact_billing").version()
    steps = home.run({"rates/4.csv": "id,price,at,op\nR8,0.80,2025-01-01 00:00:00,\n"})
    assert (steps["gold.dim_rate_schedule"]["rows_written"], steps["gold.fact_billing"]["status"]) == (1, "skipped")
    assert home.house.table("gold.fact_billing").version() == version
    assert home.run({})["status"] == "nothing_to_do"


def test_bills_that_stand_get_the_keys_that_their_table_has_gained(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a home that was made before there were such keys; with bills alone, all members are inferred."""
    home = Home(spark, tmp_path)
    before = tuple(f for f in EVENT_FACTS if f is not BILLING)
    old = type(BILLING)(BILLING.what, BILLING.grain, BILLING.day, BILLING.words, BILLING.days, BILLING.measures)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "EVENT_FACTS", (old, *before))
        home.run({"bills/1.csv": FIRST["bills/1.csv"]})
    counted = "SELECT count(*), count(service_point_key), count(rate_schedule_key), count(account_key) FROM gold.fact_billing"
    assert home.asked(counted) == [(9, 0, 0, 0)]

    steps = home.run({})
    assert steps["gold.fact_billing"]["rows_written"] == 9
    found = {bill: (row[0], row[2], row[3], row[5]) for bill, row in home.bills().items()}
    named = {"STRANGE": ("S9", True, "R9", True), "GAP": ("S2", True, "R1", True)}
    nobody = dict.fromkeys(("NONE", "MARK"), ("?", False, "?", False))
    assert found == dict.fromkeys(("OLD", "NEW", "EARLY", "JANUARY", "SPRING"), ("S1", True, "R1", True)) | named | nobody
    assert home.asked("SELECT DISTINCT account_key FROM gold.fact_billing") == [(-1,)], "these bills name no account"
    assert home.asked("SELECT account_key, account_id FROM gold.dim_account") == [(-1, "?")]
    sound(home)
    assert home.run({})["status"] == "nothing_to_do"


def test_bills_payments_and_requests_have_the_account_of_their_day(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a home that was made before there was such a key; then an account is closed, another told of, a third named no more."""
    home = Home(spark, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "EVENT_FACTS", tuple(replace(fact, keys=()) for fact in EVENT_FACTS))
        home.run(ACCOUNTS)
    assert home.counted() == {"fact_billing": (7, 0), "fact_payment": (4, 0), "fact_service_request": (2, 0)}

    steps = home.run({})
    assert steps["gold.dim_account"]["status"] == "skipped"
    assert [steps[f"gold.{fact}"]["rows_written"] for fact in WITH_ACCOUNT] == [7, 4, 2]
    first = {
        "OLD": ("A1", "active", False), "NEW": ("A1", "final", False),
        "EARLY": ("A1", "active", False),  # the flag would be the customer's
        "NONE": UNKNOWN, "MARK": UNKNOWN, "GAP": UNKNOWN, "STRANGE": ("A9", None, True),
        "P1": ("A1", "active", False), "P2": ("A1", "final", False), "P3": UNKNOWN, "P4": ("A8", None, True),
        "R1": ("A1", "final", False), "R2": UNKNOWN,
    }  # fmt: skip
    assert home.accounts() == first
    strange = "SELECT account_key FROM gold.fact_billing WHERE bill_id = 'STRANGE'"
    key = home.asked(strange)

    steps = home.run({"accounts/2.csv": "id,state,at,op\nA1,closed,2025-02-10 00:00:00,\nA9,active,2024-01-01 00:00:00,\n"})
    closed = dict.fromkeys(("NEW", "P2", "R1"), ("A1", "closed", False))
    second = first | closed | {"STRANGE": ("A9", "active", False)}
    assert home.accounts() == second
    assert home.asked(strange) == key, "the real account has taken over the inferred member's key"
    assert [steps[f"gold.{fact}"]["rows_written"] for fact in WITH_ACCOUNT] == [1, 1, 1], "those of days after it was closed"

    home.run({"cash/1.csv": "".join(line for line in ACCOUNTS["cash/1.csv"].splitlines(keepends=True) if "A8" not in line)})
    assert home.accounts() == {name: account for name, account in second.items() if name != "P4"}
    assert home.asked("SELECT DISTINCT account_id FROM gold.dim_account ORDER BY 1") == [("?",), ("A1",), ("A2",), ("A9",)]
    sound(home)
    assert home.run({})["status"] == "nothing_to_do"

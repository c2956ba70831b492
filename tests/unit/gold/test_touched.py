"""Of bills and money only what is touched is applied anew, and the table is what applying all of them gives.

Many small worlds lie side by side in one pair of fact tables, so each step of the random histories tries dozens of them: in a
world rows leave out accounts and customers, and name each other's bills, transactions and customers, as badly as sources do.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.contracts import load_contracts
from utilityflow.control.run import Run
from utilityflow.gold import touched
from utilityflow.gold.application import INPUTS, NAME, application, renewed, run_application
from utilityflow.gold.marts import unequal
from utilityflow.gold.receivables import BILLS, PAYMENTS
from utilityflow.gold.replacing import replace
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from utilityflow.control.run import StepResult

pytestmark = [pytest.mark.engine, pytest.mark.long]
CONTRACTS = load_contracts()
FIRST = dt.date(2025, 1, 1)
Row = dict[str, Any]
COMMON = {"customer_key": 1, "due_date_key": -1, "line_number": 1, "charge": "energy", "currency": "USD", "quality_flags": [],
          "payment_method_key": -1, "posted_date_key": -1, "_file_sha256": "a" * 64, "_row_number": 1}  # fmt: skip


def day(number: int) -> int:
    """The number yyyymmdd of a day of 2025, from 1."""
    return int(f"{FIRST + dt.timedelta(days=number - 1):%Y%m%d}")


def date(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number - 1)


class Town:
    """The facts of many worlds, as they are and as they stand in the tables; ``runs`` bring payment_application up to them."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.house = Lakehouse(spark, str(folder / "lakehouse"), CONTRACTS, environment="test", run_id="run")
        self.rows: dict[str, dict[int, Row]] = {BILLS: {}, PAYMENTS: {}}  # by fact and key
        self.consumed: dict[str, dict[str, Any]] = {}
        self.staged: dict[str, list[DataFrame]] = {}
        for name in (*INPUTS, NAME):
            self.house.table(name).ensure()

    @property
    def table(self) -> Table:
        return self.house.table(NAME)

    def run(self, as_of: dt.date) -> Run:
        """A run over this lakehouse that keeps what it stages, by name."""
        home = SimpleNamespace(tmp=self.folder / "tmp", zone="UTC")
        run = Run(None, home, self.house, None, {}, as_of, f"run{time.monotonic_ns()}", self.consumed)  # type: ignore[arg-type]
        self.staged, stage = {}, run.staged

        def watched(frame: DataFrame, name: str) -> DataFrame:
            made = stage(frame, name)
            self.staged.setdefault(name, []).append(made)
            return made

        run.staged = watched  # type: ignore[method-assign]
        return run

    def store(self) -> None:
        """Bring the two tables to the rows, as steps of facts do: a commit with what differs."""
        run = self.run(FIRST)
        for name, rows in self.rows.items():
            table = self.house.table(name)
            columns = table.contract.column_names
            filled = [tuple((COMMON | row).get(column) for column in columns) for row in rows.values()]
            wanted = local_frame(self.spark, filled, table.contract.struct())
            replace(run, table, table.read(), wanted, {})

    def apply(self, as_of: dt.date) -> StepResult:
        """One step, as a run does it."""
        result = run_application(self.run(as_of))
        self.consumed[NAME] = dict(result.consumed)
        return result

    def whole(self, as_of: dt.date) -> DataFrame:
        """What all bills and all money give."""
        bills, payments = (self.house.table(name).read() for name in INPUTS)
        return application(bills, payments, self.table.contract, as_of)

    def is_whole(self, as_of: dt.date) -> bool:
        return unequal(self.table.read(), self.whole(as_of)).isEmpty()

    def made(self, name: str = "application_parts") -> set[str]:
        """The accounts that the last run looked at."""
        return {r["account_id"] for frame in self.staged.get(name, []) for r in frame.select("account_id").collect()}

    def put(self, fact: str, *rows: Row) -> None:
        for row in rows:
            key = CONTRACTS[fact].primary_key[0]
            self.rows[fact][row[key]] = row


def line(key: int, bill: str, account: str | None, on: int, amount: int, **more: Any) -> Row:
    return {"billing_key": key, "bill_id": bill, "kind": "bill", "account_id": account, "date_key": day(on),
            "amount": float(amount), **more}  # fmt: skip


def paid(key: int, account: str | None, on: int, amount: int, **more: Any) -> Row:
    return {"payment_key": key, "payment_id": f"P{key}", "kind": "payment", "account_id": account, "date_key": day(on),
            "amount": float(amount), "status": "posted", **more}  # fmt: skip


@pytest.fixture
def town(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    """An empty lakehouse; tables of any size are looked at by what is touched, however much that is."""
    monkeypatch.setattr(touched, "FEW", 1)
    monkeypatch.setattr(touched, "SHARE", 2)
    return Town(spark, tmp_path)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_late_payment_touches_its_account_alone(town: Town) -> None:
    """Ten accounts with a bill each month: the money of an old month comes late, names another's bill, moves, is returned."""
    town.put(BILLS, *(line(10 * a + m, f"B{a}-{m}", f"A{a}", 30 * m, 50) for a in range(10) for m in (1, 2, 3)))
    town.put(PAYMENTS, *(paid(a, f"A{a}", 35, 50) for a in range(10)))
    town.store()
    assert (town.apply(date(95)).rows_written, len(town.made())) == (30, 10)

    town.put(PAYMENTS, paid(20, "A3", 40, 30), paid(21, None, 41, 50, bill_id="B4-2"), paid(22, "A5", 41, 50, bill_id="B6-2"))
    town.put(BILLS, line(900, "B9-4", "A9", 97, 50))  # a bill of a later day counts for nobody
    town.rows[BILLS][11] |= {"customer_key": 7}  # another version of a customer moves no money
    town.store()
    assert town.apply(date(95)).rows_written == 3
    assert town.made() == {"A3", "A4", "A5", "A6"}, "whoever is named is looked at"
    assert town.made("receivables_due") == town.made(), "neither are the bills of others stored on the way"
    assert town.is_whole(date(95))

    town.put(PAYMENTS, paid(23, None, 42, -50, kind="reversal", related_payment_id="P21"))
    town.rows[PAYMENTS][22] |= {"account_id": "A7"}
    town.store()
    assert town.apply(date(95)).rows_written == 3
    assert town.made() == {"A4", "A5", "A6", "A7"}, "where money was, and where it went"

    assert (town.apply(date(98)).rows_written, town.made()) == (1, {"A9"}), "its day has come"
    assert (town.apply(date(95)).rows_written, town.made()) == (1, {"A9"}), "and is to come again"
    assert (town.apply(date(94)).status, town.made()) == ("skipped", set())
    assert town.is_whole(date(94))


@pytest.mark.slow
def test_all_is_looked_at_where_that_is_less_work_or_the_only_way(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.put(BILLS, *(line(a, f"B{a}", f"A{a}", 30, 50) for a in range(4)))
    town.put(PAYMENTS, paid(1, "A1", 31, 10))
    town.store()
    town.apply(date(40))
    was = dict(town.consumed[NAME])
    town.put(PAYMENTS, paid(1, "A1", 31, 11))
    town.store()

    def accounts(told: dict[str, Any] = was, **limits: float) -> int | None:
        """How many accounts are touched; None: all are to be looked at."""
        run, now = town.run(date(40)), was | {name: town.house.table(name).version() for name in INPUTS}
        facts = tuple(town.house.table(name).read() for name in INPUTS)
        with monkeypatch.context() as other:
            for name, limit in limits.items():
                other.setattr(touched, name, limit)
            found = touched.touched(run, told, now, town.table.read(), (facts[0], facts[1]))
        return found and found.accounts

    assert accounts() == 1
    assert accounts(SHARE=0.2) is None, "one of four is more than a fifth"
    assert accounts(FEW=5) is None, "a table of four bills"
    assert accounts(ROUNDS=1) is None, "names that go on and on"
    assert accounts({}) is None, "nothing tells of what it was made"
    assert accounts({name: told for name, told in was.items() if name != "as_of"}) is None
    assert accounts(was | {"contract": "0.9.0"}) is None, "another contract may have other columns"
    assert accounts(was | {BILLS: 99}) is None, "a version that there is not"

    payments = town.house.table(PAYMENTS)
    payments.overwrite(payments.read().where("false"))
    town.put(PAYMENTS, paid(1, "A1", 31, 12))
    town.store()
    key = "spark.databricks.delta.retentionDurationCheck.enabled"
    town.spark.conf.set(key, "false")
    town.spark.sql(f"VACUUM delta.`{payments.path}` RETAIN 0 HOURS")
    town.spark.conf.unset(key)
    assert accounts() is None, "what was changed cannot be read any more"
    assert town.apply(date(40)).rows_written == 1 and town.is_whole(date(40))


# -- by chance ---------------------------------------------------------------------------------------------------------


class Chance:
    """Random rows of numbered worlds, by seed."""

    def __init__(self, seed: int, worlds: int) -> None:
        self.any, self.worlds, self.key = random.Random(seed), worlds, 0

    def line(self, w: int) -> Row:
        self.key += 1
        bill, cancels = f"{w}-B{self.any.randrange(5)}", self.any.random() < 0.2
        more = {"kind": "cancellation", "cancels_bill_id": f"{w}-B{self.any.randrange(6)}"} if cancels else {}
        due = {"due_date_key": day(self.any.randrange(20, 130))} if self.any.random() < 0.7 else {}
        return line(self.key, bill, *self.who(w), -20 if cancels else self.any.choice((10, 30, 50, -15)),
                    customer_id=self.customer(w), line_number=self.key, currency=self.currency(), **more, **due)  # fmt: skip

    def paid(self, w: int) -> Row:
        self.key += 1
        return paid(self.key, *self.who(w), self.any.choice((10, 25, 60, -10)), payment_id=f"{w}-P{self.key}",
                    related_payment_id=None, bill_id=f"{w}-B{self.any.randrange(6)}" if self.any.random() < 0.4 else None,
                    customer_id=self.customer(w), currency=self.currency(),
                    status="posted" if self.any.random() < 0.9 else "pending")  # fmt: skip

    def who(self, w: int) -> tuple[str | None, int]:
        """An account, most often none, and a day."""
        return (f"{w}-A{self.any.randrange(3)}" if self.any.random() < 0.45 else None), self.any.randrange(1, 100)

    def customer(self, w: int) -> str | None:
        return f"{w}-C{self.any.randrange(3)}" if self.any.random() < 0.5 else None

    def currency(self) -> str:
        return "USD" if self.any.random() < 0.85 else "CAD"

    def world(self, town: Town, w: int) -> None:
        town.put(BILLS, *(self.line(w) for _ in range(self.any.randrange(2, 8))))
        town.put(PAYMENTS, *(self.paid(w) for _ in range(self.any.randrange(1, 6))))

    def change(self, town: Town, w: int) -> None:
        """A row comes, goes or becomes another; money is given back."""
        what, fact = self.any.random(), self.any.choice((BILLS, PAYMENTS))
        make = self.line if fact == BILLS else self.paid
        mine = [key for key, row in town.rows[fact].items() if of(row) == str(w)]
        if what < 0.3 or not mine:
            town.put(fact, make(w))
        elif what < 0.5:
            del town.rows[fact][self.any.choice(mine)]
        elif what < 0.65:
            other = self.any.choice([r for r in town.rows[PAYMENTS].values() if of(r) == str(w)] or [{"payment_id": f"{w}-P0"}])
            town.put(PAYMENTS, self.paid(w) | {"related_payment_id": other["payment_id"], "kind": "reversal", "amount": -10.0})
        else:
            old = town.rows[fact][self.any.choice(mine)]
            key = CONTRACTS[fact].primary_key[0]
            same = {n: old[n] for n in (key, "payment_id") if n in old}
            names = self.any.sample(["account_id", "customer_id", "bill_id", "amount", "date_key"], 2)
            town.rows[fact][old[key]] = old | {n: v for n, v in make(w).items() if n in names} | same


def of(row: Row) -> str:
    return str(row["payment_id"] if "payment_id" in row else row["bill_id"]).partition("-")[0]


# column -> of which rows it is not followed; by the bill of a line and the transaction of money the rows themselves are found
FORGOTTEN = {"account_id": "true", "customer_id": "true", "bill_id": "payment_id IS NOT NULL", "cancels_bill_id": "true",
             "related_payment_id": "true"}  # fmt: skip


def changed_worlds(town: Town, chance: Chance, share: float) -> set[str]:
    """Change some worlds, and store what they became; returns which."""
    some = {w for w in range(chance.worlds) if chance.any.random() < share}
    for w in some:
        for _ in range(chance.any.randrange(1, 4)):
            chance.change(town, w)
    town.store()
    return {str(w) for w in some}


@pytest.mark.slow
def test_what_is_touched_is_all_that_differs(town: Town) -> None:
    """Whatever happens to bills and money, on whatever day one looks, and whether a run was killed or left out."""
    chance = Chance(1, worlds=80)
    for w in range(chance.worlds):
        chance.world(town, w)
    town.store()
    town.apply(date(60))
    for number, as_of in enumerate([60, 75, 75, 50, 20, 99]):
        some = changed_worlds(town, chance, 0.4)
        if number == 2:  # a run was left out, or killed before its commit
            some |= changed_worlds(town, chance, 0.1)
        before = dict(town.consumed[NAME])
        town.apply(date(as_of))
        assert town.is_whole(date(as_of)), number
        looked_at = {a.partition("-")[0] for a in town.made()}
        assert looked_at and (looked_at <= some or before["as_of"] != date(as_of).isoformat()), "worlds that nothing happened to"
    town.consumed[NAME], version = before, town.table.version()  # killed after its commit, before it was noted
    assert (town.apply(date(as_of)).status, town.table.version()) == ("skipped", version)


@pytest.mark.slow
def test_a_name_that_is_not_followed_is_noticed(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the names matters, and what stood before: forgotten, the table is not what the whole gives."""
    chance = Chance(3, worlds=150)
    for w in range(chance.worlds):
        chance.world(town, w)
    # money that is given back without a word of whose it was goes with the payment
    town.put(BILLS, line(9001, "X-B1", "X-A1", 10, 50), line(9002, "X-B2", "X-A2", 10, 50))
    town.put(PAYMENTS, paid(9001, "X-A1", 20, 40), paid(9002, None, 21, -15, kind="reversal", related_payment_id="P9001"))
    town.store()
    town.apply(date(60))
    was = dict(town.consumed[NAME])
    town.rows[PAYMENTS][9001] |= {"account_id": "X-A2"}
    changed_worlds(town, chance, 0.7)
    now = was | {name: town.house.table(name).version() for name in INPUTS}
    wanted = town.run(date(60)).staged(town.whole(date(60)), "whole")

    def wrong() -> int:
        """How many rows of the table would not be what the whole gives."""
        held, made = renewed(town.run(date(60)), town.table, was, now)
        assert made is not None
        table = town.table.read()
        left = table.join(held.select("application_key"), "application_key", "left_anti").select(*table.columns)
        return unequal(left.unionByName(made), wanted).count()

    assert wrong() == 0
    named, changes = touched._named, Table.changes
    for column, where in FORGOTTEN.items():
        fault = F.expr(f"IF({where}, NULL, {column})")
        with monkeypatch.context() as planted:
            planted.setattr(touched, "_named", lambda facts, c=column, f=fault: named(facts).withColumn(c, f))
            assert wrong() > 0, column
    with monkeypatch.context() as planted:
        came = "_change_type IN ('insert', 'update_postimage')"
        planted.setattr(Table, "changes", lambda *given: changes(*given).where(came))
        assert wrong() > 0, "where money was before"

"""customer_360: each current customer with what he uses, owes, paid and asked for, and how well he was supplied.

Columns, windows and what null means: schemas/gold/customer_360.yaml. Frames are those of gold tables, by name; tables that a
home does not have are left out, and their columns are null.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from utilityflow.control.run import Run, StepResult
from utilityflow.gold import monthly, outages, receivables, satisfaction
from utilityflow.gold.changes import CUSTOMERS
from utilityflow.gold.days import day_of, number
from utilityflow.gold.marts import MONTH, definition, moved
from utilityflow.gold.reliability import active, interrupted, merged, reaching
from utilityflow.gold.replacing import replace
from utilityflow.keys import hash64
from utilityflow.scd2 import UNKNOWN_KEY
from utilityflow.settings import ReliabilitySettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from utilityflow.contracts import Contract

NAME = "gold.customer_360"
ALWAYS = (CUSTOMERS, monthly.NAME)
BALANCE, BILLS, PAYMENTS = receivables.NAME, receivables.BILLS, receivables.PAYMENTS
REQUESTS, TYPES = satisfaction.REQUESTS, satisfaction.TYPES
OPTIONAL = (BALANCE, BILLS, PAYMENTS, REQUESTS, TYPES, outages.NAME, outages.POINTS)
MONTHS = 12
# columns that are 0, not null, for customers of whom a table that is there knows nothing
_ZERO_REQUESTS = ("open_requests", "requests_12_months", "complaints_12_months")
_AMOUNTS = ("open_amount", "past_due_amount", "unapplied_amount")


def inputs_of(made: Collection[str]) -> tuple[str, ...]:
    """The tables that it is made of, of those that steps make: a service point only tells whom an outage hit."""
    there = (n for n in OPTIONAL if n in made and (n != outages.POINTS or outages.NAME in made))
    return *ALWAYS, *there


def run_customer_360(run: Run, inputs: Sequence[str]) -> StepResult:
    """Make the mart anew as of the run's day, and write the rows that differ.

    :param inputs: as ``inputs_of`` gives them.
    """
    house, table = run.house, run.house.table(NAME)
    parameters = definition_of(house.contracts, run.settings.reliability)
    now: dict[str, Any] = {n: house.table(n).version() for n in inputs}
    now |= {"as_of": run.as_of.isoformat(), "parameters": parameters}
    if table.version() > 0 and run.consumed.get(NAME) == now:
        return StepResult(NAME, "skipped", version=table.version(), consumed=now)
    run.say(f"{NAME}: as of {run.as_of}", step=NAME)
    frames = {n: house.table(n).read(now[n]) for n in inputs}
    rows = customer_360(frames, table.contract, run.as_of, run.zone, defined(parameters))
    written = replace(run, table, table.read(), rows, now)
    return StepResult(NAME, "ok" if written else "skipped", written, version=table.version(), consumed=now)


@dataclass(frozen=True)
class Parameters:
    """What the mart is made by: the words that make a request a complaint (those of the mart of requests), and how many minutes
    an interruption may last and be momentary (those of the reliability indices).
    """  # noqa: D205

    complaint_words: Sequence[str]
    momentary_minutes: float


def definition_of(contracts: Mapping[str, Contract], given: ReliabilitySettings) -> str:
    """The parameters of the mart as text: others make it anew."""
    words = list(contracts[satisfaction.NAME].property("parameters")["complaint_words"])
    return definition(asdict(Parameters(words, given.momentary_minutes)))


def defined(text: str) -> Parameters:
    """The parameters that ``definition_of`` tells of; in a note from before that of interruptions was one of them it lacks."""
    return Parameters(**{"momentary_minutes": ReliabilitySettings.momentary_minutes, **json.loads(text)})


def customer_360(frames: Mapping[str, DataFrame], contract: Contract, as_of: dt.date, zone: str, given: Parameters) -> DataFrame:
    """Rows of the mart, in the contract's columns.

    :param frames: rows of ALWAYS and of some of OPTIONAL, by name. :param as_of: the day; dim_customer is of it too.
    :param zone: the utility's, in which the day ends.
    """
    current = frames[CUSTOMERS].where(F.col("is_current") & (F.col("customer_key") != UNKNOWN_KEY))
    parts = [usage_of(frames[monthly.NAME], as_of)]
    if BALANCE in frames:
        parts.append(balances(frames[BALANCE]))
    if PAYMENTS in frames:
        parts.append(last_payments(frames[PAYMENTS], frames.get(BILLS), frames.get(BALANCE), as_of))
    if REQUESTS in frames and TYPES in frames:
        parts.append(requests_of(frames[REQUESTS], frames[TYPES], as_of, given.complaint_words))
    if outages.NAME in frames and outages.POINTS in frames:
        hit = struck(frames[outages.NAME], frames[outages.POINTS], as_of, zone, given.momentary_minutes)
        parts.append(interruptions(hit, served(frames[outages.POINTS], frames.get(BALANCE), as_of)))
    rows = reduce(lambda left, right: left.join(right, "customer_id", "left"), parts, current)
    zeros = [n for n in _ZERO_REQUESTS if n in rows.columns]
    if BALANCE in frames:  # who owes nothing owes 0; of several currencies there is no amount
        zeros += ["open_bills"]
        rows = rows.withColumns({n: F.expr(f"IF(_currencies IS NULL, 0, {n})") for n in _AMOUNTS})
    rows = rows.withColumns({n: F.coalesce(n, F.lit(0)) for n in zeros})
    rows = rows.withColumn("customer_360_key", hash64(contract, ["customer_id"], domain=contract.table))
    there = set(rows.columns)
    known = [(c, F.col(c.name) if c.name in there else F.lit(None)) for c in contract.columns]
    return rows.select(*[value.cast(c.type).alias(c.name) for c, value in known])


def year_before(day: dt.date) -> dt.date:
    """The same day of the year before; of 29 February the 28th."""
    return dt.date(day.year - 1, day.month, 28 if (day.month, day.day) == (2, 29) else day.day)


def _in_window(as_of: dt.date) -> Any:
    """Condition for facts of the last 12 months by ``date_key``."""
    return (F.col("date_key") > number(year_before(as_of))) & (F.col("date_key") <= number(as_of))


# -- parts: one row per customer, keyed by customer_id -----------------------------------------------------------------


def usage_of(months: DataFrame, as_of: dt.date) -> DataFrame:
    """Use of the last full months. :param months: rows of agg_usage_monthly."""
    this = f"{as_of:%Y-%m}"
    last = moved(this, -1)
    own = months.where(F.col(MONTH).between(moved(this, -MONTHS), last) & F.col("customer_id").isNotNull())
    by_month = own.groupBy("customer_id", MONTH).agg(F.sum("usage_kwh").alias("_kwh"), F.max("peak_demand").alias("_peak"))
    return by_month.groupBy("customer_id").agg(
        F.sum("_kwh").alias("usage_kwh_12_months"),
        F.sum(F.when(F.col(MONTH) == last, F.col("_kwh"))).alias("usage_kwh_last_month"),
        F.expr("nullif(count(_kwh), 0) AS months_with_usage"),
        F.max("_peak").alias("peak_demand_12_months"),
    )


def balances(owed: DataFrame) -> DataFrame:
    """What is open, and ``_currencies``: of how many. :param owed: rows of receivables_ageing."""
    by_currency = owed.where("customer_id IS NOT NULL").groupBy("customer_id", "currency").agg(
        F.sum("open_bills").alias("open_bills"), F.sum("open_amount").alias("open_amount"),
        F.expr("sum(open_amount - not_due) AS past_due_amount"), F.sum("unapplied").alias("unapplied_amount"),
        F.min("oldest_due_date").alias("oldest_due_date"),
    )  # fmt: skip
    one = "IF(count(1) = 1, max({0}), NULL) AS {0}"
    return by_currency.groupBy("customer_id").agg(
        F.count(F.lit(1)).alias("_currencies"), F.sum("open_bills").alias("open_bills"),
        *[F.expr(one.format(n)) for n in ("currency", *_AMOUNTS)], F.min("oldest_due_date").alias("oldest_due_date"),
    )  # fmt: skip


def accounts_of(owed: DataFrame) -> DataFrame:
    """``account_id`` and ``_holder``: the customer of each account. :param owed: rows of receivables_ageing."""
    return owed.where("is_account AND customer_id IS NOT NULL").groupBy("account_id").agg(F.max("customer_id").alias("_holder"))


def last_payments(payments: DataFrame, bills: DataFrame | None, owed: DataFrame | None, as_of: dt.date) -> DataFrame:
    """The last payment that is posted and was not returned.

    Where there are bills, a payment finds its account and customer as receivables_ageing finds them, in the bill that it pays
    too; of an account alone the customer is that of receivables_ageing.
    """
    posted = payments.where((F.col("date_key") <= number(as_of)) & (F.col("status") == "posted"))
    returned = posted.where("kind = 'reversal' AND related_payment_id IS NOT NULL").select(
        F.col("related_payment_id").alias("payment_id")
    )
    found = posted if bills is None else receivables.located(*receivables.until(bills, payments, as_of))[1]
    paid = found.where("kind = 'payment'").join(returned, "payment_id", "left_anti")
    last = F.max(F.struct("date_key", "payment_key", "amount", "currency")).alias("_last")
    # first of each account, so that not every payment looks for its customer
    named = paid.groupBy("customer_id", "account_id").agg(last)
    who = _customer(named, owed)
    newest = who.where("_who IS NOT NULL").groupBy(F.col("_who").alias("customer_id")).agg(F.max("_last").alias("_last"))
    return newest.select(
        "customer_id", F.col("_last.date_key").alias("_day"), F.col("_last.amount").alias("last_payment_amount"),
        F.col("_last.currency").alias("last_payment_currency"),
    ).withColumn("last_payment_date", day_of("_day")).drop("_day")  # fmt: skip


def _customer(rows: DataFrame, owed: DataFrame | None) -> DataFrame:
    """With ``_who``: the customer that a row names, else that of its account."""
    if owed is None:
        return rows.withColumn("_who", F.col("customer_id"))
    return rows.join(accounts_of(owed), "account_id", "left").withColumn("_who", F.coalesce("customer_id", "_holder"))


def requests_of(requests: DataFrame, types: DataFrame, as_of: dt.date, words: Sequence[str]) -> DataFrame:
    """Open requests, and those and the complaints of the last 12 months."""
    until = requests.where((F.col("date_key") <= number(as_of)) & F.col("customer_id").isNotNull())
    known = until.join(F.broadcast(types), "request_type_key")
    return known.withColumns({"_recent": _in_window(as_of), "_complaint": F.expr(satisfaction.complaint(words))}).groupBy(
        "customer_id"
    ).agg(
        F.expr("count_if(is_open) AS open_requests"), F.expr("count_if(_recent) AS requests_12_months"),
        F.expr("count_if(_recent AND _complaint) AS complaints_12_months"),
    )  # fmt: skip


def interruptions(hit: DataFrame, points: DataFrame) -> DataFrame:
    """Sustained interruptions of customers who had an active service point in the last 12 months.

    :param hit: as ``struck`` gives it. :param points: as ``served`` gives it.
    """
    own = of_customers(hit.where("is_first"), points)
    each = own.groupBy("customer_id", "outage_id").agg(F.max("minutes").alias("_minutes"))
    sums = each.groupBy("customer_id").agg(F.count(F.lit(1)).alias("_count"), F.sum("_minutes").alias("_sum"))
    return points.select("customer_id").distinct().join(sums, "customer_id", "left").select(
        "customer_id", F.coalesce("_count", F.lit(0)).alias("outages_12_months"),
        F.coalesce("_sum", F.lit(0)).alias("minutes_without_supply_12_months"),
    )  # fmt: skip


def struck(facts: DataFrame, points: DataFrame, as_of: dt.date, zone: str, momentary_minutes: float) -> DataFrame:
    """The sustained interruptions of service points that began in the last 12 months, as ``reliability.merged`` gives them.

    Each is there once, at the step with which supply was lost (``is_first``), and at those during which it did not come back.

    :param facts: rows of fact_outage. :param points: rows of dim_service_point. :param zone: in which the day ends.
    """
    known = reaching(outages.known_by(facts, as_of, zone), first_day(as_of))
    hit = merged(interrupted(known, points), known, momentary_minutes)
    return hit.where((F.col("started_date") >= F.lit(first_day(as_of))) & ~F.col("is_momentary"))


def of_customers(hit: DataFrame, points: DataFrame) -> DataFrame:
    """Interruptions with ``customer_id``: whose the service point was on the day on which it lost its supply.

    :param hit: as ``struck`` gives it. :param points: as ``served`` gives it.
    """
    return points.join(hit, "service_point_id").where("effective_date <= started_date AND started_date < expiry_date")


def served(points: DataFrame, owed: DataFrame | None, as_of: dt.date) -> DataFrame:
    """The active versions of service points in the last 12 months, with the customer whom they belong to."""
    own = active(points).where((F.col("effective_date") <= F.lit(as_of)) & (F.col("expiry_date") > F.lit(first_day(as_of))))
    named = _customer(own, owed).where("_who IS NOT NULL")
    return named.select(F.col("_who").alias("customer_id"), "service_point_id", "effective_date", "expiry_date")


def first_day(as_of: dt.date) -> dt.date:
    """The first day of the last 12 months."""
    return year_before(as_of) + dt.timedelta(days=1)

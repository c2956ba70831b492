"""``explain`` of the tables by customer: agg_usage_monthly, customer_360 and customer_identity."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from utilityflow.errors import UtilityFlowError
from utilityflow.gold import customer360, identity, monthly, outages, receivables
from utilityflow.gold.changes import CUSTOMERS
from utilityflow.gold.marts import MONTH, moved
from utilityflow.gold.usage import READS
from utilityflow.operate.explain import _EVENTS, MOST, _counted, _row, _shown, _states

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from utilityflow.contracts import Contract
    from utilityflow.operate.scene import Scene


def usage(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A month of a register: the reads behind its facts."""
    row = _row(scene, contract, key)
    facts = scene.house.table(monthly.USAGE).read()
    for name in monthly.GRAIN:
        facts = facts.where(F.col(name).eqNullSafe(F.lit(row[name])))
    return {"rows": [_shown(row)], "records": _counted(scene, READS, facts, MOST), "flags": {},
            "why": f"made of {row['facts']:,} usage fact(s) of the month; up to {MOST} are shown"}  # fmt: skip


def customer(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A customer: the record of his version, and some of the records that each of his figures is made of.

    :raises UtilityFlowError: UF-4006 when there is no such row, or nothing says what the mart was made of.
    """
    row = _row(scene, contract, key)
    told = scene.consumed.get(contract.name, {})
    if "as_of" not in told:  # rolled back to where it had not been made
        what = f"nothing says of which day and tables {contract.name} is made"
        raise UtilityFlowError("UF-4006", what, hint="'utilityflow run' brings the mart up")
    as_of = dt.date.fromisoformat(told["as_of"])
    most = MOST // 6
    records = []
    for source, facts in _facts(scene, row, told, as_of):
        if source == outages.OUTAGES:
            records += _states(scene, [r.asDict() for r in facts.limit(most).collect()])
        else:
            records += _counted(scene, source, facts, most)
    why = f"as of {as_of}, made of the version and the facts of this customer; up to {most} of each table are shown"
    return {"rows": [_shown(row)], "records": records, "flags": {}, "why": why}


def whom(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """An identifier: records of its feed that name it, and of the tables that say whom an account means."""
    row = _row(scene, contract, key)
    named = F.col(identity.KINDS[row["identifier_kind"]]) == row["identifier"]
    masters = {identity.ACCOUNTS, identity.AGREEMENTS, identity.BILLS} if row["identifier_kind"] == "account" else set()
    records = []
    for name in identity.SOURCES:
        table = scene.house.table(name)
        if table.version() > 0:
            mine = F.lit(name in masters) | (F.col("_feed") == row["feed"])
            # of a change that was derived from a snapshot no file tells
            records += _counted(scene, name, table.read().where(named & mine & (F.col("_row_number") > 0)), MOST)
    why = f"{row['rule']}: {row['records']:,} record(s) of {row['feed']} name it; beside them what says whom an account means"
    return {"rows": [_shown(row)], "records": records, "flags": {}, "why": f"{why}; up to {MOST} of each table are shown"}


def _facts(scene: Scene, row: dict[str, Any], told: Mapping[str, Any], as_of: dt.date) -> Iterator[tuple[str, DataFrame]]:
    """Silver table, and the gold rows made of its records that count for a customer, at the versions that the mart reflects.

    :param told: what the mart's note says of these, and of its parameters.
    """
    frames = {n: scene.house.table(n).read(v) for n, v in told.items() if "." in n}
    his = F.col("customer_id") == row["customer_id"]
    version = frames[CUSTOMERS].where((F.col("customer_key") == row["customer_key"]) & F.col("_file_sha256").isNotNull())
    yield "silver.customers", version
    this = f"{as_of:%Y-%m}"
    months = F.col(MONTH).between(moved(this, -customer360.MONTHS), moved(this, -1))
    yield READS, scene.house.table(monthly.USAGE).read().where(months & his)
    owed = frames.get(customer360.BALANCE)
    for name, facts in _events(frames, as_of).items():
        mine = facts if owed is None or name == customer360.REQUESTS else _by_account(facts, owed)
        yield _EVENTS[name].grain.source, mine.where(his)
    if outages.NAME in frames and outages.POINTS in frames:
        facts, points, given = frames[outages.NAME], frames[outages.POINTS], customer360.defined(told["parameters"])
        served = customer360.served(points, owed, as_of).where(his)
        points = points.join(served.select("service_point_id"), "service_point_id", "left_semi")  # those of others are not asked
        hit = customer360.struck(facts, points, as_of, scene.home.zone, given.momentary_minutes)
        struck = customer360.of_customers(hit, served)
        yield outages.OUTAGES, facts.join(struck.select(*outages.STEP), list(outages.STEP), "left_semi")


def _events(frames: Mapping[str, DataFrame], as_of: dt.date) -> dict[str, DataFrame]:
    """Bills, payments and requests, those that there are; where there are bills, with account and customer as the mart finds
    them: of a payment that names neither, those of the bill that it pays.
    """  # noqa: D205
    found = {n: frames[n] for n in (customer360.BILLS, customer360.PAYMENTS, customer360.REQUESTS) if n in frames}
    if customer360.BILLS in found and customer360.PAYMENTS in found:
        pair = found[customer360.BILLS], found[customer360.PAYMENTS]
        found[customer360.BILLS], found[customer360.PAYMENTS] = receivables.located(*receivables.until(*pair, as_of))
    return found


def _by_account(facts: DataFrame, owed: DataFrame) -> DataFrame:
    """Bills or payments with the customer whom they name, else that of their account."""
    named = facts.join(customer360.accounts_of(owed), "account_id", "left")
    return named.withColumn("customer_id", F.coalesce("customer_id", "_holder"))

"""Invariant 2 for marts: each is what its inputs, at the versions that it reflects, give as a whole.

The thresholds of major event days are frozen by the year, so of them only the arithmetic is looked at.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from utilityflow.gold import (
    application,
    customer360,
    efficiency,
    eia861,
    identity,
    monthly,
    receivables,
    satisfaction,
    scorecard,
    service_reliability,
)
from utilityflow.gold.changes import CUSTOMERS
from utilityflow.gold.marts import unequal
from utilityflow.gold.outages import NAME as OUTAGES
from utilityflow.gold.outages import POINTS
from utilityflow.gold.service_reliability import KPI, THRESHOLD
from utilityflow.operate.checks.base import Check, Evidence, Found, named, rows_of, together
from utilityflow.scd2 import Dimension

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from utilityflow.contracts import Contract
    from utilityflow.operate.scene import Scene


def _satisfaction(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    facts, types = (scene.house.table(n).read(versions[n]) for n in (satisfaction.REQUESTS, satisfaction.TYPES))
    return satisfaction.satisfaction(facts, types, contract.property("parameters"), None)


def _efficiency(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    frames = {n: scene.house.table(n).read(versions[n]) for n in efficiency.INPUTS if n in versions}
    return efficiency.efficiency(frames, contract.property("parameters"), None)


def _receivables(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    bills, payments, customers = (scene.house.table(n).read(versions[n]) for n in receivables.INPUTS)
    dimension = Dimension.from_contract(scene.contracts[CUSTOMERS])
    return receivables.receivables(bills, payments, customers, dimension, dt.date.fromisoformat(versions["as_of"]))


def _application(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    bills, payments = (scene.house.table(n).read(versions[n]) for n in application.INPUTS)
    return application.application(bills, payments, contract, dt.date.fromisoformat(versions["as_of"]))


def _monthly(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    return monthly.usage_monthly(scene.house.table(monthly.USAGE).read(versions[monthly.USAGE]), contract, None)


def _customer_360(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    inputs = [n for n in (*customer360.ALWAYS, *customer360.OPTIONAL) if n in versions]
    frames = {n: scene.house.table(n).read(versions[n]) for n in inputs}
    as_of, given = dt.date.fromisoformat(versions["as_of"]), customer360.defined(versions["parameters"])
    return customer360.customer_360(frames, contract, as_of, scene.home.zone, given)


def _reliability(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    frames = {n: scene.house.table(n).read(versions[n]) for n in (OUTAGES, POINTS, THRESHOLD)}
    held = scene.house.table(KPI).read()
    months = service_reliability.all_months(frames[OUTAGES], held, dt.date.fromisoformat(versions["as_of"]))
    if months is None:
        return held.limit(0)
    given = service_reliability.defined(versions["definition"])
    return service_reliability.indices_of(frames, months, given, scene.home.zone, contract, lambda rows, _: rows)


def _scorecard(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    inputs = [n for n in scorecard.INPUTS if n in versions]
    frames = {n: scene.house.table(n).read(versions[n]) for n in inputs}
    targets, exclude = json.loads(versions["targets"])
    as_of = dt.date.fromisoformat(versions.get("as_of", "9999-12-31"))  # a note from before the day counted names none
    return scorecard.keyed(scorecard.whole_scorecard(frames, targets, exclude, as_of), contract)


def _identity(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    frames = {n: scene.house.table(n).read(version) for n, version in versions.items()}
    return identity.identities(frames, identity.mentioned(frames, scene.home.zone), contract)


def _benchmark(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    return eia861.benchmark(scene.house.table(eia861.FILINGS).read(versions[eia861.FILINGS]), contract)


MARTS: Mapping[str, Callable[..., DataFrame]] = {
    satisfaction.NAME: _satisfaction, efficiency.NAME: _efficiency, receivables.NAME: _receivables,
    monthly.NAME: _monthly, customer360.NAME: _customer_360, identity.NAME: _identity, KPI: _reliability,
    scorecard.NAME: _scorecard, eia861.NAME: _benchmark, application.NAME: _application,
}  # fmt: skip


def marts_equal_their_rebuild(evidence: Evidence) -> Found:
    """The rows of each mart, made month by month as facts came, are those that all facts give at once."""
    scene = evidence.scene
    # a rollback to where a mart had not been made leaves it empty, made of nothing
    names = [n for n in MARTS if scene.house.table(n).version() > 0 and scene.consumed.get(n)]
    return together(_differs(scene, name) for name in names)


def _differs(scene: Scene, name: str) -> Found:
    contract = scene.contracts[name]
    held = scene.house.table(name).read()
    wanted = MARTS[name](scene, contract, scene.consumed[name]).select(*held.columns)
    return rows_of(unequal(held, wanted), lambda r: f"{name} {r[contract.primary_key[0]]}: the row and its rebuild differ")


def thresholds_follow(evidence: Evidence) -> Found:
    """Each threshold is exp(alpha + factor x beta) of its own row, of days before the year, and frozen in the year or later."""
    columns = ("year", "threshold_saidi", "alpha", "beta", "factor", "first_date", "last_date", "days", "frozen_as_of")
    return named(told for row in evidence.scene.rows(THRESHOLD, *columns) if (told := _wrong_threshold(row)))


def _wrong_threshold(row: Mapping[str, Any]) -> str | None:
    factor, held = float(row["factor"]), float(row["threshold_saidi"])
    made = math.exp(float(row["alpha"]) + factor * float(row["beta"]))
    slack = 1e-6 + made * (1 + factor) * 1e-6  # alpha, beta and the threshold are rounded to six digits
    if abs(made - held) > slack:
        return f"{THRESHOLD} {row['year']}: {held} is not exp(alpha + factor x beta), which is {made:.6f}"
    if not row["first_date"] <= row["last_date"] < dt.date(row["year"], 1, 1) <= row["frozen_as_of"]:
        return f"{THRESHOLD} {row['year']}: its days or the day on which it was frozen do not fit the year"
    few = row["days"] < 2 or row["days"] > (row["last_date"] - row["first_date"]).days + 1
    return f"{THRESHOLD} {row['year']}: {row['days']} days do not fit its history" if few else None


def money_is_accounted_for(evidence: Evidence) -> Found:
    """Of each bill what is paid and open is its amount; of each account what is applied and unapplied is what came in.

    The two tables are made apart from each other, so that each is held against the other.
    """
    scene = evidence.scene
    names = (application.NAME, receivables.NAME)
    if any(scene.house.table(n).version() <= 0 or not scene.consumed.get(n) for n in names):
        return Found()
    paid, aged = (scene.house.table(n).read() for n in names)
    key = application.NAME
    found = [rows_of(unbalanced_bills(paid), lambda r: f"{key} {r['application_key']}: what is paid and open is not the bill")]
    told = [{n: scene.consumed[name].get(n) for n in (*application.INPUTS, "as_of")} for name in names]
    if told[0] == told[1]:  # else one of them was made alone
        bad = unbalanced_accounts(paid, aged)
        found.append(rows_of(bad, lambda r: f"{receivables.NAME} {r['receivables_key']}: applied and unapplied is not received"))
    return together(found)


def unbalanced_bills(paid: DataFrame) -> DataFrame:
    """The rows of payment_application that do not add up."""
    parts = ("paid_directly", "paid_from_pool", "credit_used", "open_amount", "paid_from_pool - credit_used")
    whole = "greatest(amount, 0) <> paid_directly + paid_from_pool + open_amount"
    return paid.where(f"{whole} OR least({', '.join(parts)}) < 0")


def unbalanced_accounts(paid: DataFrame, aged: DataFrame) -> DataFrame:
    """The rows of receivables_ageing of which ``received`` is not what bills took of money and what is unapplied."""
    money = "paid_directly + paid_from_pool + least(amount, 0)"  # credit that a bill gives is no money, used or not
    taken = paid.groupBy(*receivables.ACCOUNT).agg(F.sum(F.expr(money)).alias("_taken"))
    rows = aged.select(*receivables.ACCOUNT, "receivables_key", "received", "unapplied")
    both = rows.join(taken, list(receivables.ACCOUNT), "full_outer")
    return both.where("coalesce(_taken, 0) + coalesce(unapplied, 0) <> coalesce(received, 0)")


CHECKS = (
    Check("marts.rebuild", 2, "each mart is what its inputs give as a whole", marts_equal_their_rebuild),
    Check("marts.thresholds", 2, "each threshold of major event days follows from its own row", thresholds_follow),
    Check("marts.money", 2, "payments in = applied + unapplied, by bill and by account", money_is_accounted_for),
)

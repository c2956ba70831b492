"""Invariant 2 for marts: each is what its inputs, at the versions that it reflects, give as a whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from utilityflow.gold import customer360, efficiency, eia861, monthly, receivables, satisfaction
from utilityflow.gold.changes import CUSTOMERS
from utilityflow.gold.marts import unequal
from utilityflow.operate.checks.base import Check, Evidence, Found, rows_of, together
from utilityflow.scd2 import Dimension

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from utilityflow.contracts import Contract
    from utilityflow.operate.scene import Scene


def _satisfaction(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    facts, types = (scene.house.table(n).read(versions[n]) for n in (satisfaction.REQUESTS, satisfaction.TYPES))
    return satisfaction.satisfaction(facts, types, contract.property("parameters"), None)


def _efficiency(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    facts = {n: scene.house.table(n).read(versions[n]) for n in efficiency.INPUTS}
    return efficiency.efficiency(facts, contract.property("parameters"), None)


def _receivables(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    bills, payments, customers = (scene.house.table(n).read(versions[n]) for n in receivables.INPUTS)
    dimension = Dimension.from_contract(scene.contracts[CUSTOMERS])
    return receivables.receivables(bills, payments, customers, dimension, dt.date.fromisoformat(versions["as_of"]))


def _monthly(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    return monthly.usage_monthly(scene.house.table(monthly.USAGE).read(versions[monthly.USAGE]), contract, None)


def _customer_360(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    inputs = [n for n in (*customer360.ALWAYS, *customer360.OPTIONAL) if n in versions]
    frames = {n: scene.house.table(n).read(versions[n]) for n in inputs}
    words = customer360.complaint_words(scene.contracts)
    return customer360.customer_360(frames, contract, dt.date.fromisoformat(versions["as_of"]), words)


def _benchmark(scene: Scene, contract: Contract, versions: Mapping[str, Any]) -> DataFrame:
    return eia861.benchmark(scene.house.table(eia861.FILINGS).read(versions[eia861.FILINGS]), contract)


MARTS: Mapping[str, Callable[..., DataFrame]] = {
    satisfaction.NAME: _satisfaction, efficiency.NAME: _efficiency, receivables.NAME: _receivables,
    monthly.NAME: _monthly, customer360.NAME: _customer_360, eia861.NAME: _benchmark,
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


CHECKS = (Check("marts.rebuild", 2, "each mart is what its inputs give as a whole", marts_equal_their_rebuild),)

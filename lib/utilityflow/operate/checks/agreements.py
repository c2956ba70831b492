"""Invariant 5 across keys: on no day do two service agreements of one service point and commodity hold."""

from __future__ import annotations

from utilityflow.gold.agreements import NAME, overlaps
from utilityflow.operate.checks.base import Check, Evidence, Found, rows_of
from utilityflow.scd2 import Dimension


def agreements_do_not_overlap(evidence: Evidence) -> Found:
    """No agreement begins while another one of its service point and commodity holds; what overlaps is the source's."""
    table = evidence.scene.house.table(NAME)
    if table.version() <= 0:
        return Found()
    d = Dimension.from_contract(table.contract)
    bad = overlaps(table.read(), d)
    key = d.surrogate_key
    return rows_of(
        bad, lambda r: f"{NAME} {r[key]}: holds from {r['_from']}, another agreement of its service point until {r['_before']}"
    )


CHECKS = (
    Check(
        "history.agreements", 5, "no two agreements of one service point and commodity hold on one day", agreements_do_not_overlap
    ),
)

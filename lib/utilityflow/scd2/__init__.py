"""The history engine: given a contract and events, it keeps a dimension (slowly changing, type 2). See docs/scd2.md."""

from utilityflow.scd2.difference import affected_intervals, difference
from utilityflow.scd2.dimension import UNKNOWN, UNKNOWN_KEY, Dimension
from utilityflow.scd2.engine import Outcome, apply
from utilityflow.scd2.hashing import local_day, surrogate_key
from utilityflow.scd2.lookup import concerned, histories, version_of, version_of_known
from utilityflow.scd2.timeline import refusals, unknown_member, versions

__all__ = [
    "UNKNOWN",
    "UNKNOWN_KEY",
    "Dimension",
    "Outcome",
    "affected_intervals",
    "apply",
    "concerned",
    "difference",
    "histories",
    "local_day",
    "refusals",
    "surrogate_key",
    "unknown_member",
    "version_of",
    "version_of_known",
    "versions",
]

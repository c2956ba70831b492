"""Planted defects: a profile says which, how often and among whom; a ledger says exactly where.

A spec hits a row when the row's one draw falls into the spec's slice and the row belongs to the affected clerk,
firmware, file or circuit: so defects are correlated as in life, a row has at most one, and planting costs one hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.resources import resource
from utilityflow.simulate.draws import bits, draw, number, text
from utilityflow.strict import Node, build, load

DRAW_BITS = 30
LEDGER_COLUMNS = (
    "system",
    "feed",
    "file",
    "row_key",
    "copy",
    "column",
    "kind",
    "clean_value",
    "planted_value",
    "cause",
)

# kind -> what it makes of the clean text {v}; where that is the clean text itself, nothing was planted
KINDS: dict[str, str] = {
    "missing": "''",
    "too_long": "concat({v}, repeat(' see remarks', 20))",
    "bad_date": "concat(substring({v}, 1, 4), '-13-', substring({v}, 9))",
    "ancient_date": "concat('1066', substring({v}, 5))",
    "year_early": "concat(substring({v}, 1, 3), translate(substring({v}, 4, 1), '123456789', '012345678'), substring({v}, 5))",
    "bad_number": "concat('#', {v})",
    "lost_point": "if({v} = '0.000', {v}, replace({v}, '.', ''))",
    "negative": "if({v} = '0.000', {v}, concat('-', {v}))",
    "wrong_unit": "'kvarh'",
    "other_scale": "if({v} = 'kWh', 'Wh', {v})",
    "unknown_code": "'X?'",
    "unknown_id": "if({v} = '', {v}, concat('9', substring({v}, 2)))",
    "padded": "concat('  ', {v}, ' ')",
    "wrong_case": "if({v} = upper({v}), lower({v}), upper({v}))",
    "mistyped": "translate({v}, '01', 'OI')",
}


@dataclass(frozen=True)
class Spec:
    """One line of a profile: ``kind`` in ``column``, in a share ``rate`` of the rows ``among`` whom it occurs.

    ``pick``: how many clerks, firmwares, circuits, or files a month (a year, for monthly files) are affected.
    """

    kind: str
    column: str
    rate: float
    among: Literal["row", "clerk", "firmware", "circuit", "file", "method"] = "row"
    pick: int = 1


@dataclass(frozen=True)
class Profile:
    """A defect profile: the specs of each system; of regulatory reporting those of outages, of filings and of the audit trail."""

    customer_management: tuple[Spec, ...] = ()
    usage_monitoring: tuple[Spec, ...] = ()
    billing: tuple[Spec, ...] = ()
    payment_processing: tuple[Spec, ...] = ()
    service_requests: tuple[Spec, ...] = ()
    regulatory_reporting: tuple[Spec, ...] = ()
    filing_register: tuple[Spec, ...] = ()
    audit_trail: tuple[Spec, ...] = ()


@dataclass(frozen=True)
class Scope:
    """What a spec can be ``among``: an SQL bigint and its values, in groups of which ``pick`` each are drawn."""

    column: str
    groups: tuple[tuple[int, ...], ...]


def load_profile(given: Mapping[str, Any] | None = None) -> Profile:
    """The given profile, or the shipped conf/simulate/defects.yaml.

    :raises UtilityFlowError: UF-1001 for unknown keys and kinds, UF-1002 for wrong values.
    """
    if given is None:
        source = "conf/simulate/defects.yaml"
        node = load(resource("conf", "simulate", "defects.yaml").read_text("utf-8"), source)
    else:
        node = load(yaml.safe_dump(dict(given), sort_keys=False), "defect profile")
    profile = build(Profile, node)
    for system, entries in node.value.items():
        for spec, entry in zip(getattr(profile, system), entries.value, strict=True):
            _check(spec, entry)
        total = sum(spec.rate for spec in getattr(profile, system))
        if total > 1:
            raise UtilityFlowError(
                "UF-1002", f"{entries.where}: the rates of {system} add up to {total:g}, more than 1"
            )
    return profile


def by_feed(system: str, specs: tuple[Spec, ...], columns: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[Spec, ...]]:
    """The specs of a system with several feeds, each for the feed that has its column.

    :param columns: feed -> its raw columns, none of which two have.
    :raises UtilityFlowError: UF-1001 for a column that none has.
    """
    known = {column: feed for feed, names in columns.items() for column in names}
    for spec in specs:
        if spec.column not in known:
            raise UtilityFlowError(
                "UF-1001", f"defect profile: {system} has no '{spec.column}'", hint=nearest(spec.column, tuple(known))
            )
    return {feed: tuple(s for s in specs if known[s.column] == feed) for feed in columns}


def _check(spec: Spec, entry: Node) -> None:
    if spec.kind not in KINDS:
        raise UtilityFlowError("UF-1001", f"{entry.where}: unknown kind '{spec.kind}'", hint=nearest(spec.kind, KINDS))
    if not 0 <= spec.rate <= 1 or spec.pick < 1:
        raise UtilityFlowError(
            "UF-1002", f"{entry.where}: 'rate' must lie between 0 and 1 and 'pick' must be 1 or more"
        )


@dataclass(frozen=True)
class Planter:
    """Plants one system's specs: gives the SQL of the drawn defect, of dirty columns and of ledger values.

    :param scopes: what its specs may be among, by name. :param columns: its raw columns.
    :raises UtilityFlowError: UF-1001 when a spec names a column or an ``among`` that the system does not have.
    """

    seed: int
    system: str
    specs: tuple[Spec, ...]
    scopes: Mapping[str, Scope]
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        for spec in self.specs:
            for word, known in ((spec.column, self.columns), (spec.among, ("row", *self.scopes))):
                if word not in known:
                    raise UtilityFlowError(
                        "UF-1001", f"defect profile: {self.system} has no '{word}'", hint=nearest(word, known)
                    )

    def drawn(self, *ids: str) -> str:
        """SQL of the number (from 1) of the spec that hits a row with these ids, 0 for none; needs scope columns."""
        if not self.specs:
            return "0"
        u = bits(draw(self.seed, f"defects of {self.system}", *ids), 0, DRAW_BITS)
        cases, low = [], 0
        for index, spec in enumerate(self.specs, 1):
            high = low + round(spec.rate * 2**DRAW_BITS)
            cases.append(f"WHEN {u} >= {low}L AND {u} < {high}L AND {self._among(spec)} THEN {index}")
            low = high
        return f"CASE WHEN {u} >= {low}L THEN 0 {' '.join(cases)} ELSE 0 END"

    def _among(self, spec: Spec) -> str:
        if spec.among == "row":
            return "true"
        scope = self.scopes[spec.among]
        picked = [v for group in scope.groups for v in self.picked(spec, group)]
        return f"{scope.column} IN ({', '.join(f'{v}L' for v in picked)})" if picked else "false"

    def picked(self, spec: Spec, group: tuple[int, ...]) -> list[int]:
        """The members of a group that a spec affects, drawn by the seed."""
        stream = f"{self.system}/{spec.kind}/{spec.column}/{spec.among}"
        return sorted(group, key=lambda value: number(self.seed, stream, value))[: spec.pick]

    def dirty(self, column: str) -> str:
        """SQL of a column with its defects; needs ``defect`` and the clean columns."""
        own = [(i, s) for i, s in enumerate(self.specs, 1) if s.column == column]
        if not own:
            return column
        cases = " ".join(f"WHEN {i} THEN {KINDS[s.kind].format(v=column)}" for i, s in own)
        return f"CASE defect {cases} ELSE {column} END"

    def ledger(self) -> dict[str, str]:
        """SQL of the ledger's ``column``, ``kind``, ``clean_value``, ``planted_value`` and ``cause``."""

        def pick(values: list[str]) -> str:
            cases = " ".join(f"WHEN {i} THEN {v}" for i, v in enumerate(values, 1))
            return f"CASE defect {cases} END" if values else "CAST(NULL AS string)"

        return {
            "column": pick([text(s.column) for s in self.specs]),
            "kind": pick([text(s.kind) for s in self.specs]),
            "clean_value": pick([s.column for s in self.specs]),
            "planted_value": pick([KINDS[s.kind].format(v=s.column) for s in self.specs]),
            "cause": pick([self._cause(s) for s in self.specs]),
        }

    def _cause(self, spec: Spec) -> str:
        if spec.among in ("row", "file"):
            return text(spec.among)
        return f"concat({text(spec.among + ' ')}, {self.scopes[spec.among].column})"

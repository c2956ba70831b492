"""Planted defects: a profile says which, how often and among whom; a ledger says exactly where.

A spec hits a row when the row's one draw falls into the spec's slice and the row belongs to the affected clerk,
firmware, file or circuit: so defects are correlated as in life, a row has at most one, and planting costs one hash. A spec of
several ``days`` hits spells of them instead, drawn by what the days belong to (a meter), with a hash of its own. A defect may
sit in two columns of a row; then the ledger has an entry for each.
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
CELL = ("column", "kind", "clean_value", "planted_value", "cause")  # of LEDGER_COLUMNS, what the planter knows

SPELL = 7  # days; a spell lies within a stretch of so many, or of as many as it lasts
_LAST_TWO = "try_cast(right(replace({v}, '.', ''), 2) as int)"


def _times(factor: str) -> str:
    """Template of a number with three decimals, or a whole one, times a factor."""
    exact, whole = (f"cast(try_cast({{v}} as {kind}) * {factor} as string)" for kind in ("decimal(18,3)", "bigint"))
    return f"coalesce(if(instr({{v}}, '.') > 0, {exact}, {whole}), {{v}})"


# kind -> what it makes of the clean text {v}; where that is the clean text itself, nothing was planted. {o} is the clean text of
# the other column of the kinds of TWO.
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
    "spike": _times(f"(10 + {_LAST_TWO} % 31)"),
    "stuck": "CASE WHEN {v} = '' THEN {v} WHEN instr({v}, '.') > 0 THEN '0.000' ELSE '0' END",
    "begins_early": "if(length({v}) = 10, coalesce(cast(date_sub(try_cast({v} as date), 10) as string), {v}), {v})",
    "stale": "{v}_before",
    "swapped": "{o}",
    "wrong_multiplier": _times("10"),
}
TWO = ("swapped", "wrong_multiplier")


@dataclass(frozen=True)
class Spec:
    """One line of a profile: ``kind`` in ``column``, in a share ``rate`` of the rows ``among`` whom it occurs.

    ``pick``: how many clerks, firmwares, circuits, or files a month (a year, for monthly files) are affected. ``other``: the
    second column of the kinds of TWO. ``days``: how long it lasts; above 1 ``rate`` is the share of the stretches (SPELL) that
    have it.
    """

    kind: str
    column: str
    rate: float
    among: Literal["row", "clerk", "firmware", "circuit", "file", "method"] = "row"
    pick: int = 1
    other: str = ""
    days: int = 1

    def cells(self) -> dict[str, str]:
        """Defective column -> SQL of what is planted there."""
        found = {self.column: KINDS[self.kind].format(v=self.column, o=self.other)}
        return found | ({self.other: KINDS[self.kind].format(v=self.other, o=self.column)} if self.other else {})


@dataclass(frozen=True)
class Profile:
    """A defect profile: the specs of each system; of regulatory reporting those of outages, of filings and of the audit trail.

    ``wall_boxes``: of usage monitoring, the hourly reads.
    """

    customer_management: tuple[Spec, ...] = ()
    usage_monitoring: tuple[Spec, ...] = ()
    wall_boxes: tuple[Spec, ...] = ()
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
    if bool(spec.other) != (spec.kind in TWO) or spec.other == spec.column:
        raise UtilityFlowError("UF-1002", f"{entry.where}: 'other', another column, belongs to the kinds {', '.join(TWO)}")
    if not 1 <= spec.days <= 366:
        raise UtilityFlowError("UF-1002", f"{entry.where}: 'days' must lie between 1 and 366")


def _cell(values: list[str]) -> str:
    """SQL of a struct of CELL."""
    return f"named_struct({', '.join(f'{text(name)}, {value}' for name, value in zip(CELL, values, strict=True))})"


@dataclass(frozen=True)
class Planter:
    """Plants one system's specs: gives the SQL of the drawn defect, of dirty columns and of ledger values.

    :param scopes: what its specs may be among, by name. :param columns: its raw columns. :param before: those of which the query
        also gives the former value, as ``<column>_before``. :param day: SQL of the day of a row, where defects can last.
    :raises UtilityFlowError: UF-1001 when a spec names a column or an ``among`` that the system does not have, UF-1002 for a
        stale value or a spell where there are none.
    """

    seed: int
    system: str
    specs: tuple[Spec, ...]
    scopes: Mapping[str, Scope]
    columns: tuple[str, ...]
    before: tuple[str, ...] = ()
    day: str = ""

    def __post_init__(self) -> None:
        for spec in self.specs:
            named = [(column, self.columns) for column in spec.cells()]
            for word, known in (*named, (spec.among, ("row", *self.scopes))):
                if word not in known:
                    raise UtilityFlowError(
                        "UF-1001", f"defect profile: {self.system} has no '{word}'", hint=nearest(word, known)
                    )
            if spec.kind == "stale" and spec.column not in self.before:
                raise UtilityFlowError("UF-1002", f"defect profile: {self.system} knows no former '{spec.column}'")
            if spec.days > 1 and not self.day:
                raise UtilityFlowError("UF-1002", f"defect profile: no defect of {self.system} lasts several days")

    def drawn(self, *ids: str) -> str:
        """SQL of the number (from 1) of the spec that hits a row with these ids, 0 for none; needs scope columns.

        :param ids: first what has spells, such as a meter; these come before what hits single rows.
        """
        numbered = list(enumerate(self.specs, 1))
        short = [(i, s) for i, s in numbered if s.days == 1]
        long = [f"WHEN {self._spell(s, ids[0])} THEN {n}" for n, s in numbered if s.days > 1]
        u = bits(draw(self.seed, f"defects of {self.system}", *ids), 0, DRAW_BITS)
        cases, low = [], 0
        for index, spec in short:
            high = low + round(spec.rate * 2**DRAW_BITS)
            cases.append(f"WHEN {u} >= {low}L AND {u} < {high}L AND {self._among(spec)} THEN {index}")
            low = high
        if not cases:
            return f"CASE {' '.join(long)} ELSE 0 END" if long else "0"
        return f"CASE {' '.join(long)} WHEN {u} >= {low}L THEN 0 {' '.join(cases)} ELSE 0 END"

    def _spell(self, spec: Spec, whose: str) -> str:
        """SQL: whether the row's day lies in a spell; one stretch of days has one at most, anywhere within."""
        stretch = max(SPELL, spec.days)
        hashed = draw(self.seed, f"spells of {self.system}/{spec.kind}/{spec.column}", whose, f"{self.day} div {stretch}L")
        begins = f"{bits(hashed, DRAW_BITS, 16)} % {stretch - spec.days + 1}L"
        within = f"{self.day} % {stretch}L - {begins} BETWEEN 0L AND {spec.days - 1}L"
        return f"{bits(hashed, 0, DRAW_BITS)} < {round(spec.rate * 2**DRAW_BITS)}L AND {within} AND {self._among(spec)}"

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
        own = [(i, s.cells()[column]) for i, s in enumerate(self.specs, 1) if column in s.cells()]
        if not own:
            return column
        return f"CASE defect {' '.join(f'WHEN {i} THEN {planted}' for i, planted in own)} ELSE {column} END"

    def ledger(self) -> str:
        """SQL of an array of structs: CELL for each cell of a row's defect; one of nulls where it has none."""
        nothing = _cell(["CAST(NULL AS string)"] * len(CELL))
        cases = []
        for i, spec in enumerate(self.specs, 1):
            told = [_cell([text(c), text(spec.kind), c, v, self._cause(spec)]) for c, v in spec.cells().items()]
            cases.append(f"WHEN {i} THEN array({', '.join(told)})")
        return f"CASE defect {' '.join(cases)} ELSE array({nothing}) END" if cases else f"array({nothing})"

    def _cause(self, spec: Spec) -> str:
        if spec.among in ("row", "file"):
            return text(spec.among)
        return f"concat({text(spec.among + ' ')}, {self.scopes[spec.among].column})"

"""Planted defects: a profile says which, how often and among whom; a ledger says exactly where.

A spec hits a row when the row's one draw falls into the spec's slice and the row belongs to the affected clerk,
firmware, file or circuit: so defects are correlated as in life, a row has at most one, and planting costs one hash. A spec of
several ``days`` or ``hours`` hits spells of them instead, drawn by what they belong to (a meter), with a hash of its own. A
defect may sit in two columns of a row; then the ledger has an entry for each.

Some kinds are of the whole record (WHOLE): it is not there, comes twice, comes late. What a source does so by itself, in its
clean files too (repeats, late records), is no defect that is drawn; a spec ``among: source`` has the ledger tell of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
SOURCE = "source"
CELL = ("column", "kind", "clean_value", "planted_value", "cause")  # of LEDGER_COLUMNS, what the planter knows

SPELL = 7  # days; a spell lies within a stretch of so many, or of as many as it lasts
_SECONDS = "cast(unix_seconds(try_cast(concat(left({v}, 19), if(length({v}) = 10, 'T00:00:00Z', 'Z')) as timestamp)) as string)"
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
    "swapped": "if({v} = '' OR {o} = '', {v}, {o})",
    "wrong_multiplier": _times("10"),
    "frozen": "{v}_usual",
    "scientific": "concat(replace({v}, '.', ''), 'E-', if(instr({v}, '.') > 0, length({v}) - instr({v}, '.'), 0))",
    "float_noise": "if(instr({v}, '.') > 0, concat({v}, '000000000001'), {v})",
    "epoch": f"if({{v}} LIKE '____-__-__%', coalesce({_SECONDS}, {{v}}), {{v}})",
    "no_zone": "regexp_replace({v}, '(Z|[+-][0-9][0-9]:[0-9][0-9])$', '')",
    "day_first": "concat(substring({v}, 9, 2), '/', substring({v}, 6, 2), '/', substring({v}, 1, 4), substring({v}, 11))",
    "placeholder": "'.'",
    "zero_id": "'0'",
    "double_blank": "replace({v}, ' ', '  ')",
}
TWO = ("swapped", "wrong_multiplier")
# of a whole record; GONE: it is not in the file, AGAIN: it is another of one that is
GONE, AGAIN = ("lost", "lost_account"), ("repeated", "resent")
WHOLE = (*GONE, *AGAIN, "late")
SOURCE_ONLY = ("late", "resent", "lost_customer")  # what sources do by themselves, and a profile cannot draw


@dataclass(frozen=True)
class Spec:
    """One line of a profile: ``kind`` in ``column``, in a share ``rate`` of the rows ``among`` whom it occurs.

    ``pick``: how many clerks, firmwares, circuits, or files a month (a year, for monthly files) are affected. ``other``: the
    second column of the kinds of TWO. ``days``: how long it lasts; above 1 ``rate`` is the share of the stretches (SPELL) that
    have it. ``hours``: above 0 the share of the days that have it, for 1 to so many hours in a row. ``among`` source: what the
    source does by itself, all of it.
    """

    kind: str
    column: str
    rate: float
    among: Literal["row", "clerk", "firmware", "circuit", "file", "method", "source"] = "row"
    pick: int = 1
    other: str = ""
    days: int = 1
    hours: int = 0

    @property
    def whole(self) -> bool:
        """Whether it is of a whole record, or done by the source: no column is changed."""
        return self.kind in WHOLE or self.among == SOURCE

    @property
    def drawn(self) -> bool:
        """Whether rows are drawn for it one by one."""
        return self.days == 1 and not self.hours and self.among != SOURCE and self.kind != "lost_account"

    def cells(self) -> dict[str, str]:
        """Defective column -> SQL of what is planted there; none of a whole record."""
        if self.whole:
            return {}
        found = {self.column: KINDS[self.kind].format(v=self.column, o=self.other)}
        return found | ({self.other: KINDS[self.kind].format(v=self.other, o=self.column)} if self.other else {})


@dataclass(frozen=True)
class Profile:
    """A defect profile: the specs of each system; of regulatory reporting those of outages, of filings and of the audit trail.

    ``accounts``, ``service_agreements``: of customer management, two tables of its database. ``wall_boxes``, ``gas_meters``: of
    usage monitoring, the hourly reads and those of gas meters.
    """

    customer_management: tuple[Spec, ...] = ()
    accounts: tuple[Spec, ...] = ()
    service_agreements: tuple[Spec, ...] = ()
    usage_monitoring: tuple[Spec, ...] = ()
    wall_boxes: tuple[Spec, ...] = ()
    gas_meters: tuple[Spec, ...] = ()
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
        total = sum(spec.rate for spec in getattr(profile, system) if spec.among != SOURCE)
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
    known = (*KINDS, *WHOLE, *SOURCE_ONLY)
    if spec.kind not in known:
        raise UtilityFlowError("UF-1001", f"{entry.where}: unknown kind '{spec.kind}'", hint=nearest(spec.kind, known))
    if not 0 <= spec.rate <= 1 or spec.pick < 1:
        raise UtilityFlowError(
            "UF-1002", f"{entry.where}: 'rate' must lie between 0 and 1 and 'pick' must be 1 or more"
        )
    if bool(spec.other) != (spec.kind in TWO) or spec.other == spec.column:
        raise UtilityFlowError("UF-1002", f"{entry.where}: 'other', another column, belongs to the kinds {', '.join(TWO)}")
    if not 1 <= spec.days <= 366:
        raise UtilityFlowError("UF-1002", f"{entry.where}: 'days' must lie between 1 and 366")
    if not 0 <= spec.hours <= 23 or (spec.hours and spec.days > 1):
        raise UtilityFlowError("UF-1002", f"{entry.where}: 'hours' must lie between 0 and 23, without 'days'")
    if spec.kind in SOURCE_ONLY and spec.among != SOURCE:
        raise UtilityFlowError("UF-1002", f"{entry.where}: '{spec.kind}' is what sources do by themselves: 'among: source'")
    if spec.among == SOURCE and (spec.rate, spec.days, spec.hours) != (1, 1, 0):
        what = f"{entry.where}: of what the source does by itself all is told: 'rate: 1' and no 'days' or 'hours'"
        raise UtilityFlowError("UF-1002", what)


def _cell(values: Sequence[str] = ("CAST(NULL AS string)",) * len(CELL)) -> str:
    """SQL of a struct of CELL; without values one of nulls."""
    return f"named_struct({', '.join(f'{text(name)}, {value}' for name, value in zip(CELL, values, strict=True))})"


@dataclass(frozen=True)
class Quirk:
    """What a source does by itself, in its clean files too: ``when`` (SQL over a row), and what the ledger tells of it.

    ``clean``, ``told``: SQL of the two values; by default those of a record that is once too often. ``where``: SQL that holds in
    all such rows and perhaps in others, over columns that the query has early, so that the ledger passes by most rows soon; of
    what an ``explode`` gave, or short, as the optimizer writes all other columns out on its way down.
    """

    when: str
    clean: str = "''"
    told: str = ""
    where: str = ""


@dataclass(frozen=True)
class Planter:
    """Plants one system's specs: gives the SQL of the drawn defect, of dirty columns and of ledger values.

    :param scopes: what its specs may be among, by name. :param columns: its raw columns. :param before: those of which the query
        also gives the former value, as ``<column>_before``. :param usual: the same of a value that does not change from day to
        day, as ``<column>_usual``. :param day: SQL of the day of a row, where defects can last. :param hour: SQL of the hour of
        that day. :param quirks: what the source does by itself, by kind. :param accounts: whether what is drawn belongs to
        customers, who can be lost.
    :raises UtilityFlowError: UF-1001 when a spec names a column or an ``among`` that the system does not have, UF-1002 for a
        stale or usual value, a spell, a lost account or something of the source's own where there are none.
    """

    seed: int
    system: str
    specs: tuple[Spec, ...]
    scopes: Mapping[str, Scope]
    columns: tuple[str, ...]
    before: tuple[str, ...] = ()
    day: str = ""
    usual: tuple[str, ...] = ()
    hour: str = ""
    quirks: Mapping[str, Quirk] = field(default_factory=dict)
    accounts: bool = False

    def __post_init__(self) -> None:
        for spec in self.specs:
            named = [(column, self.columns) for column in (spec.column, *spec.cells())]
            for word, known in (*named, (spec.among, ("row", SOURCE, *self.scopes))):
                if word not in known:
                    raise UtilityFlowError(
                        "UF-1001", f"defect profile: {self.system} has no '{word}'", hint=nearest(word, known)
                    )
            if spec.kind == "stale" and spec.column not in self.before:
                raise UtilityFlowError("UF-1002", f"defect profile: {self.system} knows no former '{spec.column}'")
            if spec.kind == "frozen" and spec.column not in self.usual:
                raise UtilityFlowError("UF-1002", f"defect profile: {self.system} knows no usual '{spec.column}'")
            if spec.days > 1 and not self.day:
                raise UtilityFlowError("UF-1002", f"defect profile: no defect of {self.system} lasts several days")
            if spec.hours and not self.hour:
                raise UtilityFlowError("UF-1002", f"defect profile: {self.system} has no hours")
            if spec.among == SOURCE and spec.kind not in self.quirks:
                raise UtilityFlowError("UF-1002", f"defect profile: {self.system} does nothing '{spec.kind}' by itself")
            if spec.among != SOURCE and spec.kind == "lost_account" and not self.accounts:
                raise UtilityFlowError("UF-1002", f"defect profile: {self.system} keeps no accounts to lose")

    def drawn(self, *ids: str) -> str:
        """SQL of the number (from 1) of the spec that hits a row with these ids, 0 for none; needs scope columns.

        :param ids: first what has spells or is lost, such as a meter or a customer; these come before what hits single rows.
        """
        numbered = list(enumerate(self.specs, 1))
        short = [(i, s) for i, s in numbered if s.drawn]
        long = [f"WHEN {self._spell(s, ids[0])} THEN {n}" for n, s in numbered if not s.drawn and s.among != SOURCE]
        u = bits(draw(self.seed, f"defects of {self.system}", *ids), 0, DRAW_BITS)
        cases, high = [], 0
        for index, spec in short:  # a slice begins where the one before it ends
            high += round(spec.rate * 2**DRAW_BITS)
            hit = str(index) if spec.among == "row" else f"if({self._among(spec)}, {index}, 0)"
            cases.append(f"WHEN {u} < {high}L THEN {hit}")
        if not cases:
            return f"CASE {' '.join(long)} ELSE 0 END" if long else "0"
        return f"CASE {' '.join(long)} WHEN {u} >= {high}L THEN 0 {' '.join(cases)} ELSE 0 END"

    def _spell(self, spec: Spec, whose: str) -> str:
        """SQL: whether the row's day, or hour, lies in a spell; one stretch of days, or day, has one at most, anywhere within.

        What is lost for good lies in one that has no end.
        """
        if spec.kind == "lost_account":
            lost = bits(draw(self.seed, f"lost accounts of {self.system}", whose), 0, DRAW_BITS)
            return f"{lost} < {round(spec.rate * 2**DRAW_BITS)}L AND {self._among(spec)}"
        if spec.hours:
            hashed = draw(self.seed, f"hours of {self.system}/{spec.kind}/{spec.column}", whose, self.day)
            lasts = f"{bits(hashed, DRAW_BITS, 12)} % {spec.hours}L"  # and one more
            within = f"{self.hour} - {bits(hashed, DRAW_BITS + 12, 12)} % (24L - {lasts}) BETWEEN 0L AND {lasts}"
            return f"{bits(hashed, 0, DRAW_BITS)} < {round(spec.rate * 2**DRAW_BITS)}L AND {within} AND {self._among(spec)}"
        stretch = max(SPELL, spec.days)
        hashed = draw(self.seed, f"spells of {self.system}/{spec.kind}/{spec.column}", whose, f"{self.day} div {stretch}L")
        begins = f"{bits(hashed, DRAW_BITS, 16)} % {stretch - spec.days + 1}L"
        within = f"{self.day} % {stretch}L - {begins} BETWEEN 0L AND {spec.days - 1}L" if spec.days < stretch else "true"
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

    def numbers(self, *kinds: str) -> list[int]:
        """The numbers of the specs of some kinds that are drawn, so not of what the source does."""
        return [i for i, s in enumerate(self.specs, 1) if s.kind in kinds and s.among != SOURCE]

    def own(self) -> dict[int, Quirk]:
        """Number of a spec -> what the source does by itself, of which the ledger shall tell."""
        return {i: self.quirks[s.kind] for i, s in enumerate(self.specs, 1) if s.among == SOURCE}

    def ledger(self) -> str:
        """SQL of an array of structs, one of nulls in the head row: CELL for each cell of a row's defect.

        Where a row has none, what the source did with it; empty where there is nothing to tell.
        """
        nothing = f"filter(array({_cell()}), c -> false)"
        cases = []
        for i, spec in enumerate(self.specs, 1):
            if spec.among == SOURCE:
                continue
            cells = [(c, c, v) for c, v in spec.cells().items()]
            cells = cells or [(spec.column, *(("''", spec.column) if spec.kind in AGAIN else (spec.column, "''")))]
            told = [_cell([text(c), text(spec.kind), clean, v, self._cause(spec)]) for c, clean, v in cells]
            cases.append(f"WHEN {i} THEN array({', '.join(told)})")
        planted = f"CASE defect {' '.join(cases)} ELSE {nothing} END" if cases else nothing
        planted = f"filter({planted}, c -> c.clean_value <> c.planted_value OR c.kind IN ({', '.join(map(text, WHOLE))}))"
        met = {GONE: "", WHOLE: ""}
        for i, quirk in self.own().items():
            spec = self.specs[i - 1]
            told = [text(spec.column), text(spec.kind), quirk.clean, quirk.told or spec.column, text(SOURCE)]
            met[GONE if spec.kind in GONE else WHOLE] += f" WHEN {quirk.when} THEN array({_cell(told)})"
        if met[WHOLE]:
            planted = f"""transform(array({planted}), told_here -> if(size(told_here) = 0,
                CASE{met[WHOLE]} ELSE {nothing} END, told_here))[0]"""
        return f"CASE WHEN head THEN array({_cell()}){met[GONE]} ELSE {planted} END"

    def _cause(self, spec: Spec) -> str:
        if spec.among in ("row", "file"):
            return text(spec.among)
        return f"concat({text(spec.among + ' ')}, {self.scopes[spec.among].column})"

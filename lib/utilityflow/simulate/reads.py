"""Usage monitoring: one file per local day with the day's read of every meter, as the head-end system exports it.

What a file of day f holds beside the reads of f: reads of the days before that arrive late (a silent meter, a broken
collector that takes a whole circuit along), repeats (a circuit sent twice, a read sent again the next day), estimates
(and the actual read that later supersedes them), the energy that solar sites deliver as a second register, both meters
on the day of an exchange (what befalls that day's read befalls both of them: the head-end system tells them in one message).
Some reads are missing for good. The meter knows its customer some days late.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from utilityflow.simulate.almanac import EPOCH, PROFILES, WEATHER_ZONES
from utilityflow.simulate.defects import SOURCE, Planter, Quirk, Scope, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array, share, text_array
from utilityflow.simulate.extract import Extract, layered, one_file_each
from utilityflow.simulate.model import FIRMWARES, Layer, Utility

SYSTEM, FEED = "usage_monitoring", "ami_daily_reads"
COLUMNS = ("meter_id", "customer_id", "read_date", "register", "kwh", "peak_kw", "unit", "rate_code", "quality")
KEY = ("meter_id", "read_date", "register")  # the raw columns of which the ledger's row_key is made
ROW_BYTES = 61

# A row of a file is described by a code: days of delay in the low 3 bits, then flags.
ESTIMATED, REPEATED, NEVER = 8, 16, 32
NORMAL, NOTHING, ESTIMATE, TWICE, AGAIN = range(5)
LATE = 5  # LATE + n: the day's read and those of the n days before
LOST = 9  # a read that never comes: a row for the ledger alone
_PATTERNS: list[list[int]] = [
    [0], [], [ESTIMATED], [0, REPEATED], [0, 1 | REPEATED],
    [0], [0, 1], [0, 1, 2], [0, 1, 2, 3],
    [NEVER],
]  # fmt: skip
# 0 the old meter's, 1 delivered, 2 received; by whether the site is solar, and then by whether it is the day of an exchange
_REGISTERS = "array(array(1), array(1, 2), array(0, 1), array(0, 1, 2))"
# what the head-end system does by itself (module docstring); the file of a read that is late tells which day it came on
_UNUSUAL = f"(code & {REPEATED | NEVER | 7}) > 0"  # of ``code`` alone, below which the optimizer cannot push it
QUIRKS = {
    "repeated": Quirk(f"(code & {REPEATED}) > 0", where=_UNUSUAL),
    "late": Quirk(f"(code & {REPEATED}) = 0 AND (code & 7) > 0", clean="read_date",
                  told="cast(date_from_unix_date(cast(f as int)) as string)", where=_UNUSUAL),
    "lost": Quirk(f"(code & {NEVER}) > 0", clean="kwh", told="''", where=_UNUSUAL),
}  # fmt: skip


def reads_extract(utility: Utility, months: range, specs: tuple[Spec, ...], before: Sequence[dt.date] = ()) -> Extract:
    """The reads of some months (indexes from 0); one partition and file per day.

    :param before: days of the month before them whose files are made as well.
    """
    almanac = utility.almanac
    first, last = almanac.month_starts[months.start], almanac.month_starts[months.stop]
    days = [*before, *(almanac.days[d - almanac.first_day] for d in range(first, last))]
    reach = range(months.start - bool(before), months.stop)
    planter = Planter(utility.seed, SYSTEM, specs, _scopes(utility, reach), COLUMNS, before=("meter_id",), day="f",
                      usual=("kwh",), quirks=QUIRKS)  # fmt: skip
    file_day = f"file_no + {first}L"
    if before:
        file_day = f"cast({at(int_array([(d - EPOCH).days for d in days]), 'file_no')} as bigint)"
    rows = utility.premises(months[-1])
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(one_file_each(len(days), rows, "p"), _layers(utility, planter, file_day)),
        files=tuple(f"{FEED}_{day.isoformat()}" for day in days),
        planter=planter,
        expected_rows=round(len(days) * rows * 1.05),
        row_bytes=ROW_BYTES,
    )


def _scopes(utility: Utility, months: range) -> dict[str, Scope]:
    starts = utility.almanac.month_starts
    return {
        "firmware": Scope("firmware", (tuple(range(FIRMWARES)),)),
        "circuit": Scope("circuit", (tuple(range(utility.circuits)),)),
        "file": Scope("f", tuple(tuple(range(starts[m], starts[m + 1])) for m in months)),
    }


def _layers(utility: Utility, planter: Planter, file_day: str) -> list[Layer | str]:
    return [
        {"f": file_day, **utility.network(), **utility.tenancy_of_premise()},
        *utility.meter(),
        # drawn first, and for all that the file holds of a meter: so the ledger looks at the affected meters only
        {"defect": planter.drawn("p", "f")},
        utility.pairing(),
        *utility.cycle(),
        *_delivery(utility, tells_lost=any(s.kind == "lost" and s.among == SOURCE for s in planter.specs)),
        *_read_day(utility),
        *tenant(utility),
        *_use(utility),
        *_registers(),
        *_energy(),
        _texts(utility),
        *([_usual()] if any(s.kind == "frozen" for s in planter.specs) else []),
    ]


def _delivery(utility: Utility, *, tells_lost: bool) -> list[Layer]:
    """What the file of day ``f`` holds of a premise: ``code``, one row for each.

    :param tells_lost: also rows for reads that never come.
    """
    week, seed = "f div 7", utility.seed
    never = f"if(fate >= 14, {LOST}L, {NOTHING}L)" if tells_lost else f"{NOTHING}L"
    return [
        {
            "profile": utility.profile(),
            "week_day": "f % 7L",
            "hc": draw(seed, "collector", "circuit", week),
            "hs": draw(seed, "silence", "p", week),
            "resent": f"{bits(draw(seed, 'resent', 'circuit', 'f'), 0, 10)} < 2",
        },
        {"broken": f"{bits('hc', 0, 12)} < 33", "silent": f"{bits('hs', 0, 12)} < 49"},
        {
            # days since the spell began (it begins on one of the week's first four days and ends within the week)
            "since": f"week_day - if(broken, {bits('hc', 12, 2)}, {bits('hs', 12, 2)})",
            "lasts": f"if(broken, 1L + {bits('hc', 14, 1)}, 1L + {bits('hs', 14, 2)} % 3L)",
            # 0..7 late, 8..11 estimated, then late, 12..13 estimated, 14..15 lost
            "fate": f"if(broken, 8L * {bits('hc', 15, 1)}, {bits('hs', 16, 4)})",
        },
        {
            "pattern": f"""CASE WHEN head THEN {NORMAL}L
                WHEN (broken OR silent) AND since >= 0 AND since < lasts
                    THEN if(fate >= 8 AND fate < 14, {ESTIMATE}L, {never})
                WHEN (broken OR silent) AND since = lasts AND fate < 12 THEN {LATE}L + lasts
                WHEN resent THEN {TWICE}L
                WHEN NOT silent AND {bits("hs", 20, 12)} < 12 AND week_day = 1 + {bits("hs", 32, 8)} % 6 THEN {AGAIN}L
                ELSE {NORMAL}L END""",
        },
        {"code": f"explode({at(_patterns(), 'pattern')})"},
    ]


def _patterns() -> str:
    empty = "cast(array() as array<int>)"
    return f"array({', '.join(int_array(codes) if codes else empty for codes in _PATTERNS)})"


def _read_day(utility: Utility) -> list[Layer | str]:
    """The day ``d`` that a row speaks of, and the row's own draws."""
    return [
        {
            "d": "f - (code & 7)",
            "first_day": f"{utility.almanac.first_day}L",
            "estimated": f"(code & {ESTIMATED}) > 0",
            "copy": f"if((code & {REPEATED}) > 0, 1, 0)",
            "connected_day": utility.connected_day(),
        },
        "head OR (d >= connected_day AND d >= first_day)",
        {"day": "cast(d - first_day as int)"},
        {
            "m": at(int_array(utility.almanac.month_of_day), "day"),
            "hd": draw(utility.seed, "read", "p", "d"),
        },
    ]


def tenant(utility: Utility) -> list[Layer]:
    """Who lives there on the day ``d`` of month ``m`` (``vacant``), and whom the meter believes to live there (``customer``)."""
    starts = int_array(utility.almanac.month_starts)
    late = f"if({bits('turn_hash', 22, 3)} < 2, {bits('turn_hash', 25, 2)}, 0L)"
    return [
        {"g": "(m + phase) div span", "turned": at(starts, "greatest(0L, m - (m + phase) % span)")},
        *utility.turnover("g", "turned"),
        {
            "left": "if(role = 2, in_a, out_a)",
            "let": "if(role = 2, in_b, in_a)",
            "known": f"d - {late}",
            "dom": f"d - {at(starts, 'm')}",
        },
        {
            "vacant": "g > 0 AND d >= left AND d < let",
            "customer": f"""CASE WHEN g > 0 AND known < left THEN {utility.occupant("(g - 1L)")}
                WHEN g > 0 AND known < let THEN cast(null as bigint)
                ELSE {utility.occupant("g")} END""",
        },
    ]


def _registers() -> list[Layer]:
    """A row for each register: delivered, and received at solar sites (not of a meter on its last day).

    On the day of an exchange the old meter's comes first. It is made here, of whatever the files tell of that day, so that
    the reads of both meters are late, estimated, lost or sent again together.
    """
    return [
        # 0 on its day, more after it; one number, as the engine's generated code must stay short
        {"since_exchange": "if(head, 1L, (m - exchange_month) * 32L + dom - exchange_dom)"},
        {"register_no": f"explode({at(_REGISTERS, 'if(solar, 1, 0) + if(since_exchange = 0, 2, 0)')})"},
        {
            "received": "register_no = 2",
            "old_meter": "register_no = 0",
            "new_meter": "register_no > 0 AND since_exchange >= 0",
        },
    ]


# -- the formula of a day's energy, which bills ask too -----------------------------------------------------------------


def delivers() -> str:
    """SQL: whether the site has solar panels."""
    return f"profile IN (0, 1, 7) AND {bits('ho', 36, 5)} < 3"


def base_wh() -> str:
    """SQL of the profile's mean use of a day in Wh."""
    return at(int_array([p.base_wh for p in PROFILES]), "profile")


def size() -> Layer:
    """The site against its profile: ``uneven``, ``power``."""
    return {"uneven": share("ho", 20, 16), "power": at(int_array([p.spread for p in PROFILES]), "profile")}


def shape() -> str:
    """SQL of the site's use against its profile's, from ``size``."""
    # the power of a draw has the mean 1 / (power + 1): the mean of the sites stays base_wh
    return """(0.35D + 0.65D * (power + 1) * uneven * uneven * if(power > 2, uneven, 1.0D) * if(power > 3, uneven, 1.0D))"""


def load_factor(utility: Utility, day: str) -> str:
    """SQL of the load of a day (from 0) against ``base_wh``, per mille."""
    return at(int_array(utility.almanac.load), f"({day} * {len(PROFILES)} + profile) * {WEATHER_ZONES} + zone")


def noise(hashed: str) -> str:
    """SQL of the chance in a day's use, from the read's hash."""
    return f"0.75D + ({share(hashed, 0, 10)} + {share(hashed, 10, 10)}) * 0.25D"


def used(base: str, factor: str, chance: str, presence: str, form: str) -> str:
    """SQL of the Wh that a site uses on a day."""
    return f"0.001D * {base} * {factor} * {chance} * {presence} * {form}"


def made(utility: Utility, day: str) -> str:
    """SQL of the Wh that the panels of a solar site make on a day (from 0)."""
    sun = at(int_array(utility.almanac.sun), f"{day} * {WEATHER_ZONES} + zone")
    return f"(3000D + {bits('ho', 41, 12)}) * 0.001D * {sun}"


RECEIVED = "0.65D"  # of what panels make; the rest is used at once


def delivered(use: str, make: str) -> str:
    """SQL of the Wh that the grid delivers of what is used."""
    return f"greatest({use} - {make} * 0.35D, {use} * 0.2D)"


def exchange_part(hashed: str) -> str:
    """SQL of the old meter's part of the day of an exchange, from the read's hash."""
    return f"({share(hashed, 40, 6)} * 0.6D + 0.2D)"


def peak_of_day(wh: str, factor: str, hashed: str) -> str:
    """SQL of the peak of a day in 10 W: its mean demand times ``factor`` (per mille) and chance."""
    return f"cast(1D * {wh} * {factor} * (0.85D + {share(hashed, 20, 10)} * 0.3D) * {1 / 240_000!r}D as bigint)"


def peak_factor() -> str:
    """SQL of the profile's daily peak over mean demand, per mille."""
    return at(int_array([p.peak for p in PROFILES]), "profile")


def _use(utility: Utility) -> list[Layer]:
    """The Wh that the site uses on the day and that its panels make, once for all registers.

    After there is a row of each, the engine's generated code would be too long to be compiled.
    """
    return [
        {
            "solar": f"NOT head AND {delivers()}",
            **size(),
            "factor": load_factor(utility, "day"),
            "noise": f"if(estimated, 1.0D, {noise('hd')})",
        },
        {
            "made": f"if(solar, {made(utility, 'day')}, 0.0D)",
            "used": used(base_wh(), "factor", "noise", "if(vacant, 0.03D, 1.0D)", shape()),
        },
    ]


def _energy() -> list[Layer]:
    """Energy in Wh and peak in 10 W of the row."""
    return [
        # on the day of an exchange each meter counts its part of the day
        {"part": f"if(since_exchange = 0, abs(if(old_meter, 0.0D, 1.0D) - {exchange_part('hd')}), 1.0D)"},
        {"wh": f"cast(if(received, made * {RECEIVED}, {delivered('used', 'made')} * part) as bigint)"},
        {"peak": peak_of_day("wh", f"if(received, 4600, {peak_factor()})", "hd")},
    ]


def _usual() -> Layer:
    """What a register shows that tells the same of every day: its profile's mean use (of each site's own, the engine's generated
    code would be too long to be compiled). Panels stand still each night, so no register of theirs seems stuck.
    """  # noqa: D205
    mean = text_array([f"{p.base_wh / 1000:.3f}" for p in PROFILES])
    return {"kwh_usual": f"if(received, kwh, {at(mean, 'profile')})"}


def _texts(utility: Utility) -> Layer:
    """The raw columns as the file shows them, and the row's key for the ledger."""
    thousandths, hundredths = (
        text_array([f".{i:03d}" for i in range(1000)]),
        text_array([f".{i:02d}" for i in range(100)]),
    )
    meter = utility.meter_name("new_meter")
    date = at(text_array([d.isoformat() for d in utility.almanac.days]), "day")
    register = "if(received, '2.8.0', '1.8.0')"
    return {
        "meter_id": meter,
        "meter_id_before": utility.meter_name("false"),  # the first meter, which may still hang there
        "customer_id": "if(customer is null, '', cast(customer as string))",
        "read_date": date,
        "register": register,
        "kwh": f"concat(wh div 1000, {at(thousandths, 'wh % 1000')})",
        "peak_kw": f"concat(peak div 100, {at(hundredths, 'peak % 100')})",
        "unit": "'kWh'",
        "rate_code": utility.rate(),
        "quality": "if(estimated, 'E', 'A')",
        "row_key": f"concat({meter}, '|', {date}, '|', {register})",
    }

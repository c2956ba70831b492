"""Which outages there are: drawn for each circuit and local day by a closed formula, so that every system knows them.

A row per circuit ``c`` and day ``d`` becomes one row per outage. Outages of a feeder or substation belong to the circuit
with its number. Where a larger element is out on a day, nothing smaller under it begins another outage that day. How many
there are follows the weather (storms.py); the yearly rates give SAIFI about 1.2 without storms.
"""

from __future__ import annotations

from utilityflow.simulate.almanac import WEATHER_ZONES, is_rest_day
from utilityflow.simulate.draws import at, bits, draw, int_array, share, slots, text_array
from utilityflow.simulate.extract import kept
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.network import TRANSFORMER_POINTS
from utilityflow.simulate.stamps import midnight
from utilityflow.simulate.storms import WORDS, Weather

# kinds of outages; those below PLANNED are kinds of elements too
SUBSTATION, FEEDER, CIRCUIT, TRANSFORMER, POINT, PLANNED, MOMENTARY_FEEDER, MOMENTARY_CIRCUIT = range(8)
ELEMENTS = ("substation", "feeder", "circuit", "transformer", "service point")

# outages of an element a year at usual weather, and of 1,000 elements in the worst storm's zone
_YEARLY = {SUBSTATION: 0.05, FEEDER: 0.48, CIRCUIT: 0.55, TRANSFORMER: 0.08, POINT: 0.012, PLANNED: 0.25,
           MOMENTARY_FEEDER: 0.7, MOMENTARY_CIRCUIT: 1.2}  # fmt: skip
_STORM = {SUBSTATION: 40, FEEDER: 320, CIRCUIT: 350, TRANSFORMER: 150, POINT: 25, PLANNED: 0, MOMENTARY_FEEDER: 150,
          MOMENTARY_CIRCUIT: 200}  # fmt: skip
_DRAW = 20  # bits of a draw

# minutes by kind: at least, and how many more at most (a third of it in the mean); in storms
_MINUTES = ((20, 150), (30, 240), (35, 260), (60, 360), (60, 420), (60, 200))
_STORM_MINUTES = ((120, 500), (150, 1100), (180, 1500), (240, 2600), (300, 3300), (60, 200))
LONGEST_DAYS = 3  # after the day of its start the longest outage is over within so many days
LATER = 16  # what is restored after the whole of a circuit takes so many tenths of its time

# cause codes of the outage system by their share, for each class of outages
CAUSES = ("EQ", "AN", "VG", "VH", "WX", "PL", "LS", "UN")
_CAUSE_SHARES = (
    {"EQ": 30, "VG": 20, "AN": 16, "VH": 8, "WX": 12, "UN": 14},  # usual weather
    {"WX": 55, "VG": 35, "EQ": 6, "UN": 4},  # storm
    {"LS": 50, "EQ": 40, "AN": 10},  # substation
)


def outage_layers(utility: Utility, alone: str = "head") -> list[Layer]:
    """From ``head``, ``c`` and ``d`` (a day of the almanac): one row for each outage; rows that are ``alone`` stay one row.

    Adds ``m`` (month of the day), ``zone``, ``stress``, ``storm`` (per mille), ``kind``, ``h`` (hash of the outage), ``device``
    (kind of element), ``low``, ``high``, ``step`` (the premises on it), ``spot`` (transformer of the circuit), ``start``,
    ``restored`` (instants of the whole element), ``momentary``, ``planned``, ``cause``, ``sky`` (weather's word).
    """
    weather, day = Weather(utility.almanac), f"(d - {utility.almanac.first_day}L)"
    of_zone = f"{day} * {WEATHER_ZONES} + c % {WEATHER_ZONES}L"
    return [
        {
            "m": at(int_array(utility.almanac.month_of_day), day),
            "zone": f"c % {WEATHER_ZONES}L",
            "stress": f"cast({at(int_array(weather.stress), of_zone)} as bigint)",
            "storm": f"cast({at(int_array(weather.severity), of_zone)} as bigint)",
            "works": at(int_array([int(not is_rest_day(d)) for d in utility.almanac.days]), day),
            "sky": at(text_array(WORDS), at(int_array(weather.words), of_zone)),
            "hours": at(int_array(utility.almanac.hours), day),
        },
        {
            # those that stand since the month before: all of them were connected before this day
            "standing": f"{utility.premises(0)}L + {utility.growth}L * greatest(m - 1L, 0L)",
            "present": f"{utility.premises(0)}L + {utility.growth}L * m",
        },
        kept(f"{alone} OR c < standing", "has_premises"),
        *_happens(utility),
        {"code": f"explode(if({alone}, array({CIRCUIT}L), {_codes(utility)}))"},
        {"kind": "code & 7L", "h": draw(utility.seed, "outage", "c", "d", "code"), "nth": "code div 8L"},
        *_element(utility),
        *_times(utility),
        _why(),
    ]


def _threshold(kind: int) -> str:
    """SQL of how many of 2**_DRAW draws of an element and day are an outage."""
    storm, usual = round(_STORM[kind] * 2**_DRAW / 1000), round(_YEARLY[kind] * 2**_DRAW / 365)
    return f"if(storm > 0, {storm}L * storm div 1000L, {usual}L * stress div 1000L)"


def _happens(utility: Utility) -> list[Layer]:
    """Whether the larger elements are out on the day, and how many transformers and service points of the circuit are."""
    seed = utility.seed

    def out(hashed: str, low: int, kind: int) -> str:
        return f"{bits(hashed, low, _DRAW)} < {_threshold(kind)}"

    def number(low: int, things: str, kind: int) -> str:
        # the rate varies from 0 to 2 times by chance: on bad days several fail
        expected = f"{things} * {_threshold(kind)} * {bits('hc', low, 6)} div 32L"
        return f"least({things}, ({expected} + {bits('ht', low, _DRAW)}) div {2**_DRAW}L)"

    return [
        {
            "hs": draw(seed, "substation outages", f"c % {utility.substations}L", "d"),
            "hf": draw(seed, "feeder outages", f"c % {utility.feeders}L", "d"),
            "hc": draw(seed, "circuit outages", "c", "d"),
            "ht": draw(seed, "small outages", "c", "d"),
            "hm": draw(seed, "short outages", "c", "d"),
            "points": f"(standing - 1L - c) div {utility.circuits}L + 1L",
        },
        {
            "transformers": f"(points + {TRANSFORMER_POINTS - 1}L) div {TRANSFORMER_POINTS}L",
            "no_substation": out("hs", 0, SUBSTATION),
        },
        {"no_feeder": f"NOT no_substation AND {out('hf', 0, FEEDER)}"},
        {"no_circuit": f"NOT no_substation AND NOT no_feeder AND {out('hc', 0, CIRCUIT)}"},
        {"supplied": "NOT (no_substation OR no_feeder OR no_circuit)"},
        {
            "lost_transformers": f"if(supplied, {number(20, 'transformers', TRANSFORMER)}, 0L)",
            "lost_points": f"if(supplied, {number(40, 'points', POINT)}, 0L)",
            "works_planned": f"supplied AND works = 1 AND {out('hm', 20, PLANNED)}",
            "blinks_feeder": f"NOT no_substation AND NOT no_feeder AND {out('hf', 20, MOMENTARY_FEEDER)}",
            "blinks_circuit": f"supplied AND {out('hm', 0, MOMENTARY_CIRCUIT)}",
        },
    ]


def _codes(utility: Utility) -> str:
    """SQL of the codes (kind, and place in the upper bits) of the outages that a circuit's row stands for."""
    none = "cast(array() as array<bigint>)"

    def once(when: str, kind: int) -> str:
        return f"if({when}, array({kind}L), {none})"

    def several(count: str, kind: int) -> str:
        return f"if({count} > 0L, sequence({kind}L, {kind}L + 8L * ({count} - 1L), 8L), {none})"

    parts = [
        once(f"no_substation AND c < {utility.substations}L", SUBSTATION), once(f"no_feeder AND c < {utility.feeders}L", FEEDER),
        once("no_circuit", CIRCUIT), several("lost_transformers", TRANSFORMER), several("lost_points", POINT),
        once("works_planned", PLANNED), once(f"blinks_feeder AND c < {utility.feeders}L", MOMENTARY_FEEDER),
        once("blinks_circuit", MOMENTARY_CIRCUIT),
    ]  # fmt: skip
    return f"concat({', '.join(parts)})"


def _element(utility: Utility) -> list[Layer]:
    """The element that loses supply and the premises that hang on it: ``low``, ``low + step`` .. ``high``."""
    circuits = utility.circuits
    return [
        {
            "planned": f"kind = {PLANNED}",
            "momentary": f"kind >= {MOMENTARY_FEEDER}",
            "device": f"""CASE kind WHEN {PLANNED} THEN if({bits('h', 0, 10)} < 700L, {TRANSFORMER}L, {CIRCUIT}L)
                WHEN {MOMENTARY_FEEDER} THEN {FEEDER}L WHEN {MOMENTARY_CIRCUIT} THEN {CIRCUIT}L ELSE kind END""",
            # neighbours fail together; planned work takes any
            "spot": f"({bits('ht', 0, 16)} + if(kind = {PLANNED}, {bits('h', 10, 12)}, nth)) % transformers",
            "point": f"({bits('hc', 0, 16)} + nth) % points",
        },
        {
            "low": f"""CASE device WHEN {TRANSFORMER} THEN c + {circuits * TRANSFORMER_POINTS}L * spot
                WHEN {POINT} THEN c + {circuits}L * point ELSE c END""",
            "step": f"""CASE device WHEN {SUBSTATION} THEN {utility.substations}L WHEN {FEEDER} THEN {utility.feeders}L
                ELSE {circuits}L END""",
        },
        {
            "high": f"""CASE device WHEN {POINT} THEN low
                WHEN {TRANSFORMER} THEN least(low + {circuits * (TRANSFORMER_POINTS - 1)}L, present - 1L) ELSE present - 1L END"""
        },
    ]


def _times(utility: Utility) -> list[Layer]:
    """``start`` and ``restored``, in seconds since 1970."""

    def table(values: tuple[tuple[int, int], ...], place: int) -> str:
        return at(int_array([v[place] for v in values]), f"least(kind, {PLANNED}L)")

    afternoon = f"(36000L + {bits('h', 22, 16)} * 45000L div 65536L)"
    u = share("h", 38, 12)
    return [
        {
            # half of all outages begin at any time of the day, which has 23 to 25 hours, half from ten in the morning on
            "second": f"""CASE WHEN planned THEN 28800L + {bits('h', 22, 14)} WHEN storm > 0 OR {bits('h', 50, 1)} = 1
                THEN {afternoon} ELSE {bits('h', 22, 16)} * (hours * 3600L) div 65536L END""",
            "at_least": f"if(storm > 0, {table(_STORM_MINUTES, 0)}, {table(_MINUTES, 0)})",
            "at_most": f"if(storm > 0, {table(_STORM_MINUTES, 1)}, {table(_MINUTES, 1)})",
        },
        {
            "start": f"{midnight(utility.almanac, 'd')} + second",
            "seconds": f"""if(momentary, 3L + {bits('h', 38, 12)} % 285L,
                cast(60.0D * (at_least + at_most * {u} * {u}) as bigint) + {bits('h', 51, 6)})""",
        },
        {"restored": "start + seconds"},
    ]


def _why() -> Layer:
    usual, storm, substation = (
        at(text_array(slots({n: float(w) for n, w in shares.items()}, 128)), bits("h", 57, 7)) for shares in _CAUSE_SHARES
    )
    return {
        "cause": f"""CASE WHEN planned THEN 'PL' WHEN device = {SUBSTATION} THEN {substation} WHEN storm > 0 THEN {storm}
            ELSE {usual} END"""
    }

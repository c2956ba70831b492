"""The one model of the utility that all simulated systems share, as Spark SQL text over a few id columns.

Ids are whole numbers from 0 (all bigint in SQL):

- a **premise** ``p`` is a place with a meter. The first ``annexes`` premises are second services of customers who live
  elsewhere (a garage, a branch); each other premise has a tenancy ``o = p - annexes``.
- a **tenancy** ``o`` is the sequence of occupants of one premise, numbered by generation ``g``; occupant 0 is there at
  the start. The turnover months of a tenancy are a cycle of its own, so that who lives where on any day is a closed formula
  and no month needs the one before it.
- some tenancies are **pairs** (``o`` and ``o + half``): the occupant of the second moves to the first when that one is
  left, and the second is let anew. Some are **seasonal**: the same customer leaves and comes back each year.
- tenancies from ``customers`` on are new buildings, connected month by month.

Columns that the layers of :class:`Utility` add are listed in their docstrings; ``m`` is a month index of the almanac,
and days are days since 1970-01-01.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from utilityflow.simulate.almanac import PROFILES, WEATHER_ZONES, Almanac
from utilityflow.simulate.draws import at, bits, draw, int_array, slots, text_array
from utilityflow.simulate.pools import Pools

FIRST_CUSTOMER_NUMBER = 100_000_000
FIRST_METER_NUMBER = 200_000_000
DISTRICTS, TOWNS_PER_DISTRICT = 24, 3
METER_LIFE_MONTHS = 180
FIRMWARES = 16

Layer = dict[str, str]
"""Column name -> SQL expression over the columns of the layers before."""


@dataclass(frozen=True)
class Utility:
    """A utility of ``customers`` customers at the start, everything else following from ``seed`` and the almanac."""

    seed: int
    customers: int
    almanac: Almanac
    pools: Pools

    @property
    def annexes(self) -> int:
        """Premises that are second services of a customer."""
        return self.customers // 64

    @property
    def half(self) -> int:
        """Distance between the two tenancies of a pair."""
        return self.customers // 2

    @property
    def growth(self) -> int:
        """New buildings a month."""
        return max(1, self.customers // 800)

    @property
    def stride(self) -> int:
        """Numbers kept free for one generation of customers or meters."""
        return 2 * self.customers + 10_000

    def tenancies(self, month: int) -> int:
        """Tenancies that exist by the end of a month."""
        return self.customers + self.growth * month

    def premises(self, month: int) -> int:
        """Premises that exist by the end of a month."""
        return self.annexes + self.tenancies(month)

    @cached_property
    def feeders(self) -> int:
        """Feeders: 24 per started 240,000 premises' worth of substations, 4 per substation."""
        return 4 * self.substations

    @property
    def substations(self) -> int:
        """Substations: a multiple of the districts."""
        return DISTRICTS * max(1, self.customers // 240_000)

    @property
    def circuits(self) -> int:
        """Circuits: about 400 premises each, a multiple of the feeders."""
        return self.feeders * max(1, self.customers // (400 * self.feeders))

    def network(self) -> Layer:
        """From ``p``: circuit, feeder, substation, district, transformer of the circuit, place there, weather zone."""
        return {
            "circuit": f"p % {self.circuits}L",
            "feeder": f"p % {self.feeders}L",
            "substation": f"p % {self.substations}L",
            "district": f"p % {DISTRICTS}L",
            "transformer": f"p div {8 * self.circuits}L",
            "service_drop": f"(p div {self.circuits}L) % 8L",
            "zone": f"p % {WEATHER_ZONES}L",
        }

    def tenancy_of_premise(self) -> Layer:
        """From ``p``: ``o``, the tenancy whose occupant pays for the premise."""
        host = f"pmod({draw(self.seed, 'annex', 'p')}, {self.customers}L)"
        return {"o": f"if(p < {self.annexes}L, {host}, p - {self.annexes}L)"}

    def pairing(self) -> Layer:
        """From ``o``: ``role`` (0 alone, 1 a pair's first, 2 its second) and ``cycle_id``, the same for both."""
        mate = f"if(o < {self.half}L, o, o - {self.half}L)"
        paired = f"o < {2 * self.half}L AND {bits(draw(self.seed, 'pair', mate), 0, 4)} < 3"
        return {
            "role": f"CASE WHEN {paired} THEN if(o < {self.half}L, 1, 2) ELSE 0 END",
            "cycle_id": f"if({paired}, {mate}, o)",
        }

    def cycle(self) -> list[Layer]:
        """From ``o``, pairing: ``seasonal``, ``span`` (months of a generation), ``phase`` (its start, months before 0)."""
        hk, connected = draw(self.seed, "cycle", "cycle_id"), f"-1L - (o - {self.customers}L) div {self.growth}L"
        owner = f"{bits('hk', 6, 10)} < 700"
        return [
            {"hk": hk, "ho": draw(self.seed, "site", "o")},
            {
                "seasonal": f"role = 0 AND {bits('hk', 0, 6)} = 0",
                "span": f"""CASE WHEN role = 0 AND {bits("hk", 0, 6)} = 0 THEN 12L
                    WHEN {owner} THEN 90L + {bits("hk", 16, 8)} ELSE 10L + {bits("hk", 16, 8)} % 24L END""",
            },
            {"phase": f"if(o < {self.customers}L, 1L + {bits('hk', 24, 20)} % span, {connected})"},
        ]

    def turnover(self, generation: str, month_start: str, suffix: str = "") -> list[Layer]:
        """When ``generation`` of a tenancy takes over, in a month whose first day is given.

        Adds ``out_a`` (first day that the old occupant of the tenancy, or of the pair's first, is gone), ``in_a`` (first
        day of the next), ``in_b`` (first day of the next in a pair's second) and ``turn_hash``, with the suffix.
        """
        h = f"turn_hash{suffix}"
        wait_a = f"if({bits(h, 6, 2)} = 0, 0L, 1L + {bits(h, 8, 6)} % 45L)"
        return [
            {h: draw(self.seed, "turnover", "cycle_id", generation)},
            {f"out_a{suffix}": f"{month_start} + {bits(h, 0, 6)} % 28L"},
            {f"in_a{suffix}": f"out_a{suffix} + if(seasonal, 60L + {bits(h, 8, 6)}, {wait_a})"},
            {f"in_b{suffix}": f"in_a{suffix} + {bits(h, 14, 6)} % 40L"},
        ]

    def customer_number(self, tenancy: str, generation: str) -> str:
        """Number of the customer who first came with a generation of a tenancy."""
        return f"({FIRST_CUSTOMER_NUMBER}L + {generation} * {self.stride}L + {tenancy})"

    def occupant(self, generation: str) -> str:
        """Number of the customer in ``o`` at a generation (seasonal: always the same; pair's first: who moved over)."""
        moved_over = self.customer_number(f"(o + {self.half}L)", f"({generation} - 1L)")
        return f"""CASE WHEN seasonal THEN {self.customer_number("o", "0L")}
            WHEN role = 1 AND {generation} > 0 THEN {moved_over}
            ELSE {self.customer_number("o", generation)} END"""

    def connected_day(self) -> str:
        """First day of a new building's service; before every day for those that stood at the start."""
        build = at(int_array(self.almanac.month_starts), f"greatest(0L, least(-phase, {self.almanac.months}L))")
        return f"if(o < {self.customers}L, 0L, {build} + {bits('ho', 0, 6)} % 28L)"

    def profile(self) -> str:
        """Index of the load profile of ``o``."""
        index = {str(i): float(p.weight) for i, p in enumerate(PROFILES)}
        return at(int_array([int(i) for i in slots(index, 1024)]), bits("ho", 6, 10))

    def rate(self) -> str:
        """Rate code of ``o``, from ``profile``."""
        return at(text_array([r for p in PROFILES for r in p.rates]), f"profile * 4 + {bits('ho', 16, 2)}")

    def meter_name(self, new: str) -> str:
        """SQL of the number of a premise's meter: of the one after the exchange where ``new`` is true."""
        return f"concat('M', {FIRST_METER_NUMBER}L + if({new}, {self.stride}L, 0L) + p)"

    def gas_meter_name(self) -> str:
        """SQL of the number of a premise's gas meter."""
        return f"concat('G', {FIRST_METER_NUMBER}L + p)"

    def box_name(self) -> str:
        """SQL of the number of the meter of a premise's wall box."""
        return f"concat('V', {FIRST_METER_NUMBER}L + p)"

    def meter(self) -> list[Layer]:
        """From ``p``: month and day of the month (from 0) of the meter's exchange, and its firmware."""
        return [
            {"hp": draw(self.seed, "meter", "p")},
            {
                "exchange_month": f"{bits('hp', 0, 10)} % {METER_LIFE_MONTHS}L",
                "exchange_dom": f"{bits('hp', 10, 5)} % 28L",
                "firmware": bits("hp", 15, 4),
            },
        ]

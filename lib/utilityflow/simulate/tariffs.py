"""The tariffs of the simulated utility: tiers, demand, fixed charge, tax and discount by rate code, in whole numbers.

Prices of energy are hundred-thousandths of a dollar per kWh, all other money is cents; so a charge is whole-number arithmetic
with one rounding to the cent (half up) and no double ever holds money. Rates whose code says TOU have one price, and are
named so: the meters send days, not times of use.
"""

from __future__ import annotations

from dataclasses import dataclass

from utilityflow.simulate.almanac import PROFILES
from utilityflow.simulate.draws import at, int_array

TIERS = 3
NO_LIMIT = 10**9  # kWh: a tier without an end
SOLAR_PRICE = 6_500  # for what solar sites deliver
LATE_FEE, RETURN_FEE = 500, 1_500
_TAX = {"RES": 25, "COM": 80, "IND": 80, "MUN": 0, "AGR": 40}  # per mille of a bill's other lines


@dataclass(frozen=True)
class Tariff:
    """Prices of one rate code.

    ``tiers``: (kWh in 30 days up to which, price), the last without a limit. ``demand``: cents per kW of the period's peak, 0 for
    none. ``fixed``: cents a day. ``discount``: per mille of the energy, of low-income rates.
    """

    code: str
    fixed: int
    tiers: tuple[tuple[int, int], ...]
    demand: int = 0
    discount: int = 0


_STEPS = ((500, 11_250), (1_000, 12_950), (NO_LIMIT, 14_800))
TARIFFS: tuple[Tariff, ...] = (
    Tariff("RS-1", 55, _STEPS),
    Tariff("RS-TOU", 60, ((NO_LIMIT, 12_600),)),
    Tariff("RS-EH", 60, ((1_000, 10_200), (NO_LIMIT, 9_400))),
    Tariff("RS-LI", 35, _STEPS, discount=200),
    Tariff("SC-1", 95, ((2_000, 12_400), (NO_LIMIT, 11_300))),
    Tariff("SC-2", 120, ((NO_LIMIT, 9_800),), demand=950),
    Tariff("SC-TOU", 110, ((NO_LIMIT, 11_900),)),
    Tariff("LC-2", 650, ((NO_LIMIT, 8_200),), demand=1_125),
    Tariff("LC-3", 900, ((NO_LIMIT, 7_400),), demand=1_280),
    Tariff("IN-3", 2_400, ((NO_LIMIT, 6_100),), demand=1_340),
    Tariff("IN-4", 4_000, ((NO_LIMIT, 5_600),), demand=1_410),
    Tariff("ML-1", 80, ((NO_LIMIT, 9_900),)),
    Tariff("ML-2", 150, ((NO_LIMIT, 8_800),), demand=720),
    Tariff("AG-1", 85, ((1_500, 10_800), (NO_LIMIT, 9_900))),
    Tariff("AG-2", 140, ((NO_LIMIT, 9_500),), demand=600),
)
_BY_CODE = {t.code: t for t in TARIFFS}
CLASSES = {rate: p.customer_class for p in PROFILES for rate in p.rates}  # code -> class of the customers who pay it
# what a site's ``profile * 4 + n`` pays, as Utility.rate() names it
_SITES: tuple[tuple[str, Tariff], ...] = tuple((p.customer_class, _BY_CODE[r]) for p in PROFILES for r in p.rates)


def tariff_columns(site: str) -> dict[str, str]:
    """SQL of a site's prices: ``fixed``, ``limit_1``, ``limit_2`` (Wh in 30 days), ``price_1`` to ``price_3``, and the rest.

    :param site: SQL of ``profile * 4 + n``, as in ``Utility.rate``.
    """
    tiers = [(*t.tiers, *[(NO_LIMIT, t.tiers[-1][1])] * TIERS)[:TIERS] for _, t in _SITES]
    tables: dict[str, list[int]] = {"fixed": [t.fixed for _, t in _SITES]}
    # in kWh, since an int does not hold the Wh
    tables |= {f"limit_{n}": [tier[n - 1][0] for tier in tiers] for n in range(1, TIERS)}
    tables |= {f"price_{n}": [tier[n - 1][1] for tier in tiers] for n in range(1, TIERS + 1)}
    tables |= {
        "demand_price": [t.demand for _, t in _SITES],
        "discount": [t.discount for _, t in _SITES],
        "tax_rate": [_TAX[c] for c, _ in _SITES],
    }
    scale = {name: " * 1000L" if name.startswith("limit") else "" for name in tables}
    return {name: f"cast({at(int_array(values), site)} as bigint){scale[name]}" for name, values in tables.items()}


def cents(wh: str, price: str) -> str:
    """SQL of the cents for an energy of 0 Wh or more at a price, rounded half up."""
    return f"(({wh}) * ({price}) + 500000L) div 1000000L"


def per_mille(amount: str, rate: str) -> str:
    """SQL of a share of cents, 0 or more, rounded half up."""
    return f"(({amount}) * ({rate}) + 500L) div 1000L"


def tiers(wh: str, days: str) -> list[str]:
    """SQL of the Wh of a period in each tier; limits grow with the days of the period (Wh rounded down)."""
    ends = [f"(limit_{n} * ({days})) div 30L" for n in range(1, TIERS)]
    return [
        f"least({wh}, {ends[0]})",
        f"least(greatest({wh} - {ends[0]}, 0L), {ends[1]} - {ends[0]})",
        f"greatest({wh} - {ends[1]}, 0L)",
    ]


def energy_cents(wh: str, days: str) -> str:
    """SQL of the energy charge of a period: the sum of its tiers, each rounded."""
    return " + ".join(cents(part, f"price_{n}") for n, part in enumerate(tiers(wh, days), 1))

"""What a bill says: energy, peak and money of a billing period, as SQL over the columns of accounts.period.

The energy of a read bill is the sum of the reads of its days, by their own formula (simulate/reads.py), day by day; it is asked
once for each bill. Money is whole cents, so that bills and payments agree to the cent whoever computes them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from utilityflow.simulate import reads
from utilityflow.simulate.accounts import REBILL
from utilityflow.simulate.almanac import PROFILES, WEATHER_ZONES, Almanac
from utilityflow.simulate.draws import at, bits, draw, int_array
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.payers import paying
from utilityflow.simulate.tariffs import (
    LATE_FEE,
    RETURN_FEE,
    SOLAR_PRICE,
    TIERS,
    cents,
    energy_cents,
    per_mille,
    tariff_columns,
    tiers,
)

# lines of a bill in their order, by the column of their cents
FIXED, ENERGY, DEMAND, TRUE_UP, SOLAR, DISCOUNT, LATE, RETURN, TAX = 1, 2, 5, 6, 7, 8, 9, 10, 11
LINES = ("fixed", "energy_1", "energy_2", "energy_3", "demand", "true_up", "solar", "discount", "late", "returned", "tax")


def bill(utility: Utility) -> list[Layer]:
    """What is billed, from the columns of accounts.period.

    Adds ``wh`` (as billed), ``wh_1`` .. in the tiers, ``peak`` (10 W), ``sent`` (Wh of panels), ``cents_<line>`` for LINES, and
    ``total`` (cents; of a cancellation too, not negated).
    """
    return [
        {
            **reads.size(),
            **tariff_columns(f"profile * 4 + {bits('ho', 16, 2)}"),
            "base_wh": reads.base_wh(),
            "shines": reads.delivers(),
            "peak_factor": reads.peak_factor(),
            "exchanged": _exchange_day(utility),
            "days_before": "since - before_day",
        },
        {"form": reads.shape()},
        *_energy(utility),
        *paying(utility, "(b - 1L)", "_before"),
        *_money(),
    ]


def _exchange_day(utility: Utility) -> str:
    """SQL of the day of the meter's exchange; -1 where it is not before the end of month ``b``."""
    start = at(int_array(utility.almanac.month_starts), "least(exchange_month, b)")
    return f"if(exchange_month <= b, {start} + exchange_dom, -1L)"


def _energy(utility: Utility) -> list[Layer]:
    """Wh, peak and panels of the period; of a period that was estimated, what was told and what the meter had counted."""
    return [
        {
            "metered": f"if(estimated, {_guess(utility, 'from_day', 'to_day')}, {_metered(utility, 'from_day', 'to_day')})",
            "metered_before": f"if(trued, {_metered(utility, 'before_day', 'since')}, 0L)",
            "told_before": f"if(trued, {_guess(utility, 'before_day', 'since')}, 0L)",
            # an estimate knows nothing of panels; the next bill credits both periods
            "sent": f"if(shines AND NOT estimated, {_sent(utility, 'if(trued, before_day, from_day)', 'to_day')}, 0L)",
        },
        {
            # of a wrong bill somebody keyed in another index
            "wh": f"if(wrong AND doc <> {REBILL}, metered + metered * 37L div 100L + 1000L, metered)",
            "peak": f"""CASE WHEN demand_price = 0 THEN 0L
                WHEN estimated THEN cast(metered div days * peak_factor * {1 / 240_000!r}D as bigint)
                ELSE {_peak(utility, "from_day", "to_day")} END""",
        },
    ]


def _metered(utility: Utility, first: str, end: str) -> str:
    """SQL of the Wh that the meters of a premise counted in the days from ``first`` to before ``end``.

    On the day of an exchange two meters count, and each read is cut to a whole Wh.
    """
    whole = _days(utility, first, end, lambda h, n: f"cast({_net(utility, h, n)} as bigint)")
    hashed = draw(utility.seed, "read", "p", "exchanged")
    net, part = _net(utility, hashed, f"(exchanged - {utility.almanac.first_day}L)"), reads.exchange_part(hashed)
    both = f"cast({net} * {part} as bigint) + cast({net} * (1.0D - {part}) as bigint) - cast({net} as bigint)"
    more = f"if(exchanged >= {first} AND exchanged < {end}, {both}, 0L)"
    return f"aggregate({whole}, 0L, (sum, day_wh) -> sum + day_wh) + {more}"


def _peak(utility: Utility, first: str, end: str) -> str:
    """SQL of the greatest of the days' peaks in 10 W; the day of an exchange does not count."""

    def peak(hashed: str, day: str) -> str:
        wh = f"cast({_net(utility, hashed, day)} as bigint)"
        return f"if({day} = exchanged - {utility.almanac.first_day}L, 0L, {reads.peak_of_day(wh, 'peak_factor', hashed)})"

    return f"array_max({_days(utility, first, end, peak)})"


def _days(utility: Utility, first: str, end: str, value: Callable[[str, str], str]) -> str:
    """SQL of an array with the value of each day, from its read's hash and its number (from 0)."""
    hashes = f"transform(sequence({first}, {end} - 1L), d -> {draw(utility.seed, 'read', 'p', 'd')})"
    return f"transform({hashes}, (h, n) -> {value('h', f'({first} - {utility.almanac.first_day}L + n)')})"


def _net(utility: Utility, hashed: str, day: str) -> str:
    """SQL of the Wh that the grid delivers on a day (a double, as the reads have it before they are cut)."""
    use = reads.used("base_wh", reads.load_factor(utility, day), f"({reads.noise(hashed)})", "1.0D", "form")
    return f"if(shines, {reads.delivered(f'({use})', f'({reads.made(utility, day)})')}, {use})"


def _sent(utility: Utility, first: str, end: str) -> str:
    """SQL of the Wh that panels delivered to the grid."""
    day = f"(d - {utility.almanac.first_day}L)"
    wh = f"cast({reads.made(utility, day)} * {reads.RECEIVED} as bigint)"
    return f"aggregate(sequence({first}, {end} - 1L), 0L, (sum, d) -> sum + {wh})"


def _guess(utility: Utility, first: str, end: str) -> str:
    """SQL of an estimate in Wh: the site's use by its profile and the weather, without its chance."""
    table = int_array(_loads_until(utility.almanac))

    def until(day: str) -> str:
        index = f"(({day} - {utility.almanac.first_day}L) * {len(PROFILES)} + profile) * {WEATHER_ZONES} + zone"
        return at(table, index)

    return f"cast(0.001D * base_wh * ({until(end)} - {until(first)}) * form as bigint)"


def _loads_until(almanac: Almanac) -> list[int]:
    """Sums of Almanac.load over the days before each day, of all days and the one after the last."""
    step = len(PROFILES) * WEATHER_ZONES
    columns = [list(accumulate(almanac.load[n::step], initial=0)) for n in range(step)]
    return [total for day in zip(*columns, strict=True) for total in day]


def _money() -> list[Layer]:
    """The cents of each line, and of all."""
    in_tiers = dict(zip([f"wh_{n}" for n in range(1, TIERS + 1)], tiers("wh", "days"), strict=True))
    charges = " + ".join(f"cents_energy_{n}" for n in range(1, TIERS + 1))
    # fees tell of the bill before, where it was this customer's, and surely was a debt
    feasible = "stayed AND NOT shines AND NOT wrong_before"
    return [
        in_tiers,
        {
            "cents_fixed": "fixed * days",
            **{f"cents_energy_{n}": cents(f"wh_{n}", f"price_{n}") for n in range(1, TIERS + 1)},
            "cents_demand": "(peak * demand_price + 50L) div 100L",
            "cents_true_up": f"""if(trued, ({energy_cents("metered_before", "days_before")})
                - ({energy_cents("told_before", "days_before")}), 0L)""",
            "cents_solar": f"-({cents('sent', f'{SOLAR_PRICE}L')})",
            "cents_late": f"if({feasible} AND lag_before > until - since, {LATE_FEE}L, 0L)",
            "cents_returned": f"if({feasible} AND returned_before, {RETURN_FEE}L, 0L)",
        },
        {"cents_discount": f"-({per_mille(charges, 'discount')})"},
        {"subtotal": " + ".join(f"cents_{name}" for name in LINES if name != "tax")},
        {"cents_tax": per_mille("greatest(subtotal, 0L)", "tax_rate")},
        {"total": "subtotal + cents_tax"},
    ]

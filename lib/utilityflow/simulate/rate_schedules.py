"""Customer management's rate schedules, for its database: the tariffs of ``tariffs.py`` in words, and those before them.

All bills of the simulated months are at the present prices. Those of the years before were three percent lower, which gives each
schedule a history.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from utilityflow.simulate.tariffs import CLASSES, NO_LIMIT, TARIFFS, Tariff

COLUMNS = (
    "rate_code", "name", "customer_class", "pricing", "currency", "unit", "monthly_charge", "energy_price", "demand_price",
    "tier_prices", "net_metering", "state", "valid_from",
)  # fmt: skip
KEY = ("rate_code", "valid_from")
MONTH_DAYS = 30  # of a fixed charge by days; tiers are of as many
_NAMES = {
    "RS-1": "Residential", "RS-TOU": "Residential, single price", "RS-EH": "Residential, electric heat",
    "RS-LI": "Residential, low income", "SC-1": "Small commercial", "SC-2": "Small commercial, demand",
    "SC-TOU": "Small commercial, single price", "LC-2": "Large commercial, secondary", "LC-3": "Large commercial, primary",
    "IN-3": "Industrial, primary", "IN-4": "Industrial, transmission", "ML-1": "Municipal", "ML-2": "Municipal, demand",
    "AG-1": "Farm", "AG-2": "Farm, demand",
}  # fmt: skip


def schedules(start: dt.date) -> list[tuple[str | None, ...]]:
    """The rows, of COLUMNS as texts: each schedule before and since the first of the year before ``start``."""
    cases = ((start.year - 6, 97), (start.year - 1, 100))
    return [tuple(_row(_at(tariff, percent), dt.date(year, 1, 1))) for tariff in TARIFFS for year, percent in cases]


def _at(tariff: Tariff, percent: int) -> Tariff:
    """The tariff at a share of its prices, rounded down."""
    tiers = tuple((limit, price * percent // 100) for limit, price in tariff.tiers)
    return replace(tariff, fixed=tariff.fixed * percent // 100, tiers=tiers, demand=tariff.demand * percent // 100)


def _row(tariff: Tariff, since: dt.date) -> Iterator[str | None]:
    prices = [{"up_to_kwh": None if limit == NO_LIMIT else limit, "price": _money(price, 5)} for limit, price in tariff.tiers]
    yield tariff.code
    yield _NAMES[tariff.code]
    yield CLASSES[tariff.code]
    yield "D" if tariff.demand else "T" if len(prices) > 1 else "F"  # codes with TOU are flat: meters send days
    yield "USD"
    yield "kWh"
    yield _money(tariff.fixed * MONTH_DAYS, 2)
    yield _money(tariff.tiers[0][1], 5)
    yield _money(tariff.demand, 2) if tariff.demand else None
    more = {"discount_per_mille": tariff.discount} if tariff.discount else {}
    yield json.dumps({"tiers": prices, **more}) if more or len(prices) > 1 else None
    yield "N"  # what solar sites deliver is paid at a price of its own
    yield "A"
    yield since.isoformat()


def _money(value: int, digits: int) -> str:
    return str(Decimal(value).scaleb(-digits))

"""Names, streets and towns. Faker makes them once, into conf/simulate/pools.yaml; a run only reads that file.

Faker is too slow to be asked per row, and its lists change with its version: kept as data, the same seed gives the same
content on every machine. ``python -m utilityflow.simulate.pools`` prints the file anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from utilityflow.resources import resource
from utilityflow.strict import build, load

FIRST_NAMES, LAST_NAMES, STREETS, TOWNS = 240, 600, 512, 72


@dataclass(frozen=True)
class Pools:
    """What people and places are called; first and last names with weights, each text without ``|`` and comma."""

    first_names: dict[str, int]
    last_names: dict[str, int]
    streets: tuple[str, ...]
    towns: tuple[str, ...]
    trades: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """The file's form: a few long texts, because thousands of YAML nodes are slow to read."""

    first_names: str
    last_names: str
    streets: str
    towns: str
    trades: str


def load_pools() -> Pools:
    """Read the shipped pools.

    :raises UtilityFlowError: UF-1001 to UF-1003 when the file does not have its form.
    """
    file = build(_File, load(resource("conf", "simulate", "pools.yaml").read_text("utf-8"), "conf/simulate/pools.yaml"))
    return Pools(
        first_names=_weighted(file.first_names),
        last_names=_weighted(file.last_names),
        streets=_listed(file.streets),
        towns=_listed(file.towns),
        trades=_listed(file.trades),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _weighted(text: str) -> dict[str, int]:
    pairs = (word.rsplit(" ", 1) for word in _listed(text))
    return {name: int(weight) for name, weight in pairs}


TRADES = (
    "Dental Group, Auto Repair, Bakery, Hardware, Pharmacy, Law Office, Realty, Brewing, Florist, Machine Works, "
    "Plastics, Cold Storage, Printing, Market, Cafe, Fitness, Veterinary Clinic, Farm Supply, Logistics, Builders, "
    "Electric, Plumbing, Insurance, Laundry, Lumber, Music School, Nursery, Optical, Orchards, Paper Mill, Pet Care, Restaurant"
)


STREET_KINDS = ("St", "St", "St", "Ave", "Ave", "Rd", "Rd", "Ln", "Dr", "Dr", "Ct", "Way", "Blvd", "Pl", "Ter")


def make_pools(seed: int = 1) -> str:
    """The text of pools.yaml as Faker makes it: names with Faker's own frequencies, per 100,000 people."""
    from faker import Faker
    from faker.providers.person.en_US import Provider

    fake = Faker("en_US")
    fake.seed_instance(seed)
    women, men = Provider.first_names_female, Provider.first_names_male
    first = _top(women, FIRST_NAMES // 2) | _top(men, FIRST_NAMES // 2)
    streets = _distinct(lambda: f"{fake.last_name()} {fake.random_element(STREET_KINDS)}", STREETS)
    towns = _distinct(fake.city, TOWNS)
    rows = {
        "first_names": ", ".join(f"{n} {w}" for n, w in first.items()),
        "last_names": ", ".join(f"{n} {w}" for n, w in _top(Provider.last_names, LAST_NAMES).items()),
        "streets": ", ".join(streets),
        "towns": ", ".join(towns),
        "trades": TRADES,
    }
    head = "# Made by `python -m utilityflow.simulate.pools` (Faker); a change of it changes what every seed gives.\n"
    return head + "".join(f"{key}: >-\n{_folded(value)}\n" for key, value in rows.items())


def _top(weights: Mapping[str, float], count: int) -> dict[str, int]:
    items = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return {name: max(1, round(weight * 100_000)) for name, weight in items[:count]}


def _distinct(make: Callable[[], str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(make())
    return list(found)


def _folded(text: str, width: int = 116) -> str:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(f"  {line}" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(make_pools())

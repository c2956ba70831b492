"""Who the customers are and where the premises stand: names, classes and addresses as SQL over ids."""

from __future__ import annotations

from utilityflow.simulate.almanac import PROFILES
from utilityflow.simulate.draws import at, bits, draw, int_array, number, slots, text_array
from utilityflow.simulate.model import DISTRICTS, TOWNS_PER_DISTRICT, Layer, Utility

ZIPS_PER_DISTRICT = 5
_PENNSYLVANIA = 5  # the last districts lie across the state line
# persons -> per cent of the households of the United States
HOUSEHOLDS = {1: 28, 2: 35, 3: 15, 4: 13, 5: 6, 6: 3}
ALONE, ONE_SURNAME, TWO_SURNAMES, INITIALS = range(4)  # whom a residential account names


def class_code(profile: str) -> str:
    """SQL of the raw class code of a load profile."""
    return at(text_array([p.customer_class for p in PROFILES]), profile)


def household(utility: Utility) -> list[Layer]:
    """From ``number``, ``ho``, ``person_hash``: ``persons`` of a household, and ``account_names``, who is on its account.

    Half of the households are as large as their site's use lets expect (the draw of ``reads.size``), half are drawn alone:
    so larger ones use more, as in life, while sizes keep their shares and no site uses other than it did.
    """
    sizes = int_array([int(n) for n in slots({str(n): float(share) for n, share in HOUSEHOLDS.items()}, 1024)])
    own = draw(utility.seed, "household", "number")
    return [
        {"persons": at(sizes, f"if({bits(own, 0, 1)} = 0, {bits('ho', 26, 10)}, {bits(own, 1, 10)})")},
        {
            # a quarter of those who do not live alone
            "account_names": f"""CASE WHEN persons = 1 OR {bits("person_hash", 58, 2)} > 0 THEN {ALONE}
                WHEN {bits("person_hash", 60, 3)} < 5 THEN {ONE_SURNAME}
                WHEN {bits("person_hash", 60, 3)} < 7 THEN {TWO_SURNAMES} ELSE {INITIALS} END"""
        },
    ]


def names(utility: Utility) -> list[Layer]:
    """From ``person_hash``, ``class_first`` (class at the start), ``renamed``, ``household``: ``name`` (commas possible).

    First and last names follow their frequencies in the pools; ``renamed`` swaps the last name (marriage). Of joint accounts
    two surnames then become one, and who had one parts.
    """
    first = text_array(slots(utility.pools.first_names, 2048))
    last = text_array(slots(utility.pools.last_names, 2048))
    trades = text_array(utility.pools.trades)
    trade = at(trades, f"{bits('person_hash', 40, 6)} % {len(utility.pools.trades)}")
    towns = at(text_array(utility.pools.towns), f"{bits('person_hash', 46, 8)} % {len(utility.pools.towns)}")
    return [
        *household(utility),
        {
            "first_name": at(first, bits("person_hash", 0, 11)),
            "last_name": at(last, bits("person_hash", 12, 11)),
            "other_name": at(last, bits("person_hash", 24, 11)),
            "partner": at(first, bits("person_hash", 40, 11)),
            "initial": f"substring('ABCDEFGHJKLMNPRSTW', cast(1 + {bits('person_hash', 36, 8)} % 18 as int), 1)",
            "style": bits("person_hash", 54, 4),
        },
        {
            "name": f"""CASE
                WHEN class_first = 'RES' AND account_names > {ALONE} THEN {_joint()}
                WHEN class_first = 'RES' AND style < 4
                    THEN concat(first_name, ' ', initial, '. ', if(renamed, other_name, last_name))
                WHEN class_first = 'RES' THEN concat(first_name, ' ', if(renamed, other_name, last_name))
                WHEN class_first = 'MUN' THEN concat('Town of ', {towns})
                WHEN class_first = 'AGR'
                    THEN concat(last_name, if(style < 8, ' Farms', ' Dairy'), if(renamed, ' LLC', ''))
                WHEN style < 5 THEN concat(last_name, ' ', {trade}, if(renamed, ' LLC', ''))
                WHEN style < 9 THEN concat(last_name, ' & ', other_name, ' ', {trade}, if(renamed, ' LLC', ''))
                WHEN style < 11 THEN concat(last_name, ', ', other_name, ' & Co', if(renamed, ' Inc', ''))
                ELSE concat({towns}, ' ', {trade}, if(renamed, ' Inc', '')) END"""
        },
    ]


def _joint() -> str:
    """SQL of the name of an account of two."""
    short = "left(first_name, 1), '. ', last_name, ' / ', left(partner, 1), '. ', other_name"
    return f"""CASE WHEN account_names = {ONE_SURNAME} AND renamed THEN concat(first_name, ' ', last_name)
        WHEN account_names = {ONE_SURNAME} THEN concat(first_name, ' & ', partner, ' ', last_name)
        WHEN renamed THEN concat(first_name, ' & ', partner, ' ', other_name)
        WHEN account_names = {INITIALS} THEN concat({short})
        ELSE concat(first_name, ' ', last_name, ' & ', partner, ' ', other_name) END"""


def addresses(utility: Utility) -> list[Layer]:
    """From ``p`` and the network: ``house``, ``road``, ``unit_no`` (text, may be empty), ``city``, ``state``, ``zip``.

    The premises of four transformers of a circuit stand on one street; some transformers feed one block of flats.
    A zip code decides the city and the state.
    """
    zips, cities, states = _places(utility)
    block = "transformer div 4L"
    return [
        {
            "street_hash": draw(utility.seed, "street", "circuit", block),
            "flats": f"{bits(draw(utility.seed, 'flats', 'circuit', 'transformer'), 0, 3)} = 0",
            "place": f"district * {ZIPS_PER_DISTRICT} + (circuit div {DISTRICTS}L + {block}) % {ZIPS_PER_DISTRICT}",
        },
        {
            "road": at(
                text_array(utility.pools.streets), f"{bits('street_hash', 0, 16)} % {len(utility.pools.streets)}"
            ),
            "house": f"""10L + 100L * ({bits("street_hash", 16, 6)} % 40L) + (transformer % 4L) * 18L
                + if(flats, 0L, service_drop * 2L)""",
            "unit_no": "if(flats, concat(', Apt ', service_drop + 1L), '')",
            "zip": at(zips, "place"),
            "city": at(cities, "place"),
            "state": at(states, "place"),
        },
    ]


def _places(utility: Utility) -> tuple[str, str, str]:
    """SQL arrays of zip, city and state by ``district * ZIPS_PER_DISTRICT + n``; each zip lies in one city."""
    zips, cities, states = [], [], []
    for district in range(DISTRICTS):
        south = district >= DISTRICTS - _PENNSYLVANIA
        base = (16_000 if south else 13_000) + district * 40 + number(utility.seed, "zip", district) % 8
        for n in range(ZIPS_PER_DISTRICT):
            zips.append(f"{base + n * 7:05d}")
            cities.append(utility.pools.towns[district * TOWNS_PER_DISTRICT + n % TOWNS_PER_DISTRICT])
            states.append("PA" if south else "NY")
    return text_array(zips), text_array(cities), text_array(states)

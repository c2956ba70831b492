"""Usage monitoring, on request: wall boxes for cars with a meter of their own, read by the hour.

One CSV file for each local day, stamps in UTC: 23, 24 or 25 hours. A box whose line was busy tells an hour as an estimate; the
next day's file brings what the meter counted. Cars are charged in the evening, at 7.2 kW until they are full.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from utilityflow.simulate.defects import Planter, Quirk, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array
from utilityflow.simulate.extract import Extract, layered, one_file_each
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.reads import SYSTEM, tenant

FEED = "ev_interval_reads"
COLUMNS = ("meter_id", "customer_id", "interval_start", "wh", "quality")
KEY = ("meter_id", "interval_start")  # the raw columns of which the ledger's row_key is made
ROW_BYTES = 52
HOURS = 25  # of the longest day
BOX_W, STANDBY_WH = 7200, 4
# what was counted in an hour that had been estimated comes in the next day's file
QUIRKS = {"late": Quirk("again", clean="interval_start", told="cast(date_from_unix_date(cast(f as int)) as string)")}


def charging_extract(utility: Utility, months: range, boxes: int, specs: tuple[Spec, ...] = ()) -> Extract:
    """The hourly reads of some months (indexes from 0); one partition and file a day.

    :param boxes: how many premises have one, at most all that stood at the start.
    """
    almanac = utility.almanac
    boxes = min(boxes, utility.customers)
    first, last = almanac.month_starts[months.start], almanac.month_starts[months.stop]
    days = [almanac.days[d - almanac.first_day] for d in range(first, last)]
    # by the day and hour that a read is of: one that is lost is not told later either
    planter = Planter(utility.seed, FEED, specs, {}, COLUMNS, day="d", hour="h", quirks=QUIRKS)
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(one_file_each(len(days), boxes * 2 * HOURS, "n"), _layers(utility, boxes, first, planter)),
        files=tuple(f"{FEED}_{day.isoformat()}" for day in days),
        planter=planter,
        expected_rows=round(len(days) * boxes * 24.1),
        row_bytes=ROW_BYTES,
        form="csv",
    )


def _layers(utility: Utility, boxes: int, first: int, planter: Planter) -> list[Layer | str]:
    almanac, seed = utility.almanac, utility.seed
    zone = ZoneInfo(almanac.time_zone)
    midnights = [int(dt.datetime.combine(day, dt.time(), zone).timestamp()) // 60 for day in almanac.days]
    charged = f"if(h < begins OR h >= 24L, 0L, greatest(0L, least({BOX_W}L, need - {BOX_W}L * (h - begins))))"
    return [
        {"f": f"file_no + {first}L", "box": f"n div {2 * HOURS}L", "h": f"n % {HOURS}L", "again": f"n div {HOURS}L % 2L = 1L"},
        {"d": "f - if(again, 1L, 0L)", "p": f"{utility.annexes}L + box * {utility.customers // boxes}L"},
        {"defect": planter.drawn("box", "f", "n")},
        f"head OR d >= {almanac.first_day}L",
        {"day": f"cast(greatest(d, {almanac.first_day}L) - {almanac.first_day}L as int)"},
        f"head OR h < {at(int_array(almanac.hours), 'day')}",
        {"hh": draw(seed, "busy line", "p", "d", "h"), "hv": draw(seed, "charging", "p", "d")},
        {"estimated": f"NOT again AND {bits('hh', 0, 9)} = 0"},
        f"head OR NOT again OR {bits('hh', 0, 9)} = 0",
        {"m": at(int_array(almanac.month_of_day), "day"), **utility.tenancy_of_premise()},
        utility.pairing(),
        *utility.cycle(),
        *tenant(utility),
        {
            "begins": f"16L + {bits('hv', 0, 2)}",
            # three days of ten the car stays out, or is full
            "need": f"if(vacant OR {bits('hv', 2, 10)} < 307, 0L, 1500L + {bits('hv', 12, 15)} % 27000L)",
            "minute": f"{at(int_array(midnights), 'day')} + 60L * h",
        },
        {"wh_told": f"if(estimated, {STANDBY_WH}L, {STANDBY_WH}L + {charged})"},
        _texts(utility),
    ]


def _texts(utility: Utility) -> Layer:
    """The raw columns as the file shows them, and the row's key for the ledger."""
    meter = utility.box_name()
    stamp = "date_format(timestamp_seconds(minute * 60L), \"yyyy-MM-dd'T'HH:mm:ss'Z'\")"  # the simulator's session is in UTC
    return {
        "meter_id": meter,
        "customer_id": "if(customer is null, '', cast(customer as string))",
        "interval_start": stamp,
        "wh": "cast(wh_told as string)",
        "quality": "if(estimated, 'E', 'A')",
        "row_key": f"concat({meter}, '|', {stamp})",
        "copy": "if(again, 1, 0)",
    }

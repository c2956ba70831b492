"""Customer management's service points, for its database: which premise each one supplies, and since when it is there.

They are the points of the outage system under the same numbers, without their place in the network, of which customer management
knows nothing. Who takes service there is told by the agreements. The first month tells of all that are connected by its end,
later ones of new buildings; a point never changes.
"""

from __future__ import annotations

from utilityflow.simulate.accounts import site
from utilityflow.simulate.customer_events import first_came
from utilityflow.simulate.draws import at, bits, draw, int_array
from utilityflow.simulate.extract import Extract, database_extract, kept
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.network import point_name, premise_name
from utilityflow.simulate.stamps import day_stamp

SYSTEM, FEED = "customer_management", "cis_database_service_points"
COLUMNS = ("service_point", "premise", "commodity", "state", "connected_on", "updated_at")
ROW_BYTES = 90  # in the table with its key


def points_extract(utility: Utility, months: range) -> Extract:
    """The service points connected in some months (indexes from 0); one partition and file per month and chunk of premises."""
    return database_extract(utility, months, SYSTEM, FEED, COLUMNS, _layers(utility),
                            shares=(1.0, 0.002), row_bytes=ROW_BYTES)  # fmt: skip


def _layers(utility: Utility) -> list[Layer | str]:
    starts = int_array(utility.almanac.month_starts)
    return [
        *site(utility),
        {"connected_day": utility.connected_day()},
        {
            "since": at(starts, "k"),
            "until": at(starts, "k + 1"),
            # as the agreement of the first tenant begins
            "connected": f"if(o < {utility.customers}L, {first_came(utility)}, connected_day)",
            "second": f"28800L + {bits(draw(utility.seed, 'service point', 'p'), 0, 11)}",
        },
        kept("head OR (connected < until AND (k = 0 OR connected >= since))", "told"),
        {
            "service_point": point_name("p"),
            "premise": premise_name("p"),
            "commodity": "'ELE'",
            "state": "'IS'",  # in service
            "connected_on": "cast(date_from_unix_date(cast(connected as int)) as string)",
            "updated_at": day_stamp("connected", "second"),
            "row_key": point_name("p"),
            "copy": "0",
            "defect": "0",
        },
    ]

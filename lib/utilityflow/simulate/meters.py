"""Customer management's meters, for its database: which device hung where, from when to when.

They are the meters of the reads: each premise has one that is exchanged on the day on which both report. The first month
tells of all that hang by its end, later ones of those that came or went; one row for each such meter, as it stands then.
"""

from __future__ import annotations

from utilityflow.simulate.customer_events import month_day
from utilityflow.simulate.draws import at, bits, draw, int_array, text_array
from utilityflow.simulate.extract import Extract, database_extract
from utilityflow.simulate.gas_reads import DIGITS, burns_gas
from utilityflow.simulate.model import METER_LIFE_MONTHS, Layer, Utility
from utilityflow.simulate.network import point_name, premise_name
from utilityflow.simulate.stamps import day_stamp

SYSTEM, FEED = "customer_management", "cis_database_meters"
DEVICE = ("meter", "serial_no", "manufacturer", "model", "commodity", "firmware_version", "multiplier", "dials")
INSTALLATION = ("service_point", "premise", "installed_at", "removed_at", "updated_at")
COLUMNS = (*DEVICE, *INSTALLATION)
ROW_BYTES = 240  # in both tables with their keys

OLD, NEW, GAS, BOX = range(4)  # devices of a premise
_MAKES = ("Alder", "Brightline", "Corvane", "Delmar")
_SWAP_SECONDS = 900  # between the two meters of an exchange


def meters_extract(utility: Utility, months: range, *, gas: bool = False, boxes: int = 0) -> Extract:
    """The meters that came or went in some months (indexes from 0); one partition and file per month and chunk of premises.

    :param gas: also those of gas. :param boxes: how many wall boxes have a meter of their own (``charging_reads``).
    """
    return database_extract(utility, months, SYSTEM, FEED, COLUMNS, _layers(utility, gas, boxes),
                            shares=(1.15, 0.015), row_bytes=ROW_BYTES)  # fmt: skip


def _layers(utility: Utility, gas: bool, boxes: int) -> list[Layer | str]:
    starts, seed = int_array(utility.almanac.month_starts), utility.seed
    stood = f"o < {utility.customers}L"
    return [
        utility.tenancy_of_premise(),
        utility.pairing(),
        *utility.cycle(),
        *utility.meter(),
        {"profile": utility.profile(), "connected_day": utility.connected_day(), "hd": draw(seed, "device", "p")},
        {"months_ago": f"-1L - {bits('hd', 0, 8)}", "life_ago": f"exchange_month - {METER_LIFE_MONTHS}L"},
        {
            "since": at(starts, "k"),
            "until": at(starts, "k + 1"),
            "exchanged": f"{month_day('exchange_month', utility)} + exchange_dom",
            "hung": f"if({stood}, {month_day('life_ago', utility)} + exchange_dom, connected_day)",
            "piped": f"if({stood}, {month_day('months_ago', utility)} + {bits('hd', 8, 5)} % 28L, connected_day)",
        },
        {"device": f"explode(if(head, array({OLD}), {_devices(utility, gas, boxes)}))"},
        "device IS NOT NULL",
        {
            # a building that is connected after the exchange has but the new one, as the reads know it
            "installed": f"CASE device WHEN {OLD} THEN hung WHEN {NEW} THEN greatest(exchanged, connected_day) ELSE piped END",
            "removed": f"if(device = {OLD} AND exchanged < until, exchanged, null)",
            "second": f"32400L + {bits('hd', 13, 15)} % 25200L",
        },
        _record(utility),
    ]


def _devices(utility: Utility, gas: bool, boxes: int) -> str:
    """SQL of the devices of a premise of which month ``k`` tells, null where there is none."""

    def told(day: str) -> str:
        return f"({day} < until AND (k = 0 OR {day} >= since))"

    boxes = min(boxes, utility.customers)  # as the reads of boxes have it
    step = utility.customers // boxes if boxes else 1
    place = f"(p - {utility.annexes}L)"
    codes = {
        OLD: f"connected_day <= exchanged AND ({told('hung')} OR (hung < until AND exchanged >= since AND exchanged < until))",
        NEW: told("greatest(exchanged, connected_day)"),
        GAS: f"{str(gas).lower()} AND {burns_gas(utility)} AND {told('piped')}",
        BOX: f"k = 0 AND {place} >= 0 AND {place} % {step}L = 0 AND {place} div {step}L < {boxes}L",
    }
    return f"array({', '.join(f'if({when}, {device}, null)' for device, when in codes.items())})"


def _record(utility: Utility) -> Layer:
    """The columns as the database shows them; an empty text is null there."""
    large = f"profile IN (4, 5) AND device IN ({OLD}, {NEW})"
    name = f"""CASE device WHEN {OLD} THEN {utility.meter_name('false')} WHEN {NEW} THEN {utility.meter_name('true')}
        WHEN {GAS} THEN {utility.gas_meter_name()} ELSE {utility.box_name()} END"""
    of_device = "xxhash64(hd, device)"
    swap = f"if(device = {NEW} AND installed = exchanged AND connected_day <= exchanged, {_SWAP_SECONDS}L, 0L)"
    removed = f"if(removed IS NULL, '', {day_stamp('removed', 'second')})"
    installed = day_stamp("installed", f"second + {swap}")
    make = at(text_array(_MAKES), bits(of_device, 40, 2))
    return {
        "meter": name,
        "serial_no": f"concat(substring({make}, 1, 2), lpad(cast({bits(of_device, 0, 30)} as string), 10, '0'))",
        "manufacturer": make,
        "model": f"concat(if(device = {GAS}, 'G-', 'E-'), 100L + {bits(of_device, 42, 2)} * 50L)",
        "commodity": f"if(device = {GAS}, 'GAS', 'ELE')",
        "firmware_version": f"if(device IN ({OLD}, {NEW}), concat('FW-', lpad(cast(firmware as string), 2, '0')), '')",
        "multiplier": f"if({large}, cast(40L * (1L + {bits('hd', 28, 2)}) as string), '1')",
        "dials": f"if(device = {GAS}, '{DIGITS}', '6')",
        "service_point": point_name("p"),
        "premise": premise_name("p"),
        "installed_at": installed,
        "removed_at": removed,
        "updated_at": f"if(removed IS NULL, {installed}, {removed})",
        "row_key": name,
        "copy": "0",
        "defect": "0",
    }

"""Regulatory reporting: the outage system's outages, one file a month, a row for each restoration step.

A file tells the state at the month's end of each outage of which something was told in the month: open ones (some of whose
steps may be restored), those that ended, and, of the month before, those that have ended since, were corrected (cause, time of
the restoration) or withdrawn. The same steps come again then, with a later ``last_change``.
"""

from __future__ import annotations

from utilityflow.simulate.defects import Planter, Scope, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array, text_array
from utilityflow.simulate.extract import Extract, kept, layered, one_file_each
from utilityflow.simulate.model import DISTRICTS, Layer, Utility
from utilityflow.simulate.network import (
    TRANSFORMER_POINTS,
    district_name,
    element_name,
    point_name,
    served_points,
    transformer_name,
)
from utilityflow.simulate.outage_draws import CIRCUIT, FEEDER, LATER, POINT, SUBSTATION, TRANSFORMER, outage_layers
from utilityflow.simulate.stamps import local_stamp, midnight

SYSTEM, FEED = "regulatory_reporting", "oms_outages"
COLUMNS = (
    "outage_no", "step_no", "device_type", "device_restored", "device_opened", "circuit_of_device", "district_of_device",
    "off_at", "on_at", "customers", "cause_code", "weather", "storm_mode", "planned_work", "loss_of_supply", "state",
    "last_change",
)  # fmt: skip
KEY = ("outage_no", "step_no")  # the raw columns of which the ledger's row_key is made
ROW_BYTES = 165
DISPATCHERS = 12
DAYS = 62  # two months have no more
DEVICE_TYPES = ("SUBSTATION", "FEEDER", "LATERAL", "XFMR", "SERVICE")
OPENED = ("BK", "BK", "RC", "FU", "FU")  # breaker, recloser, fuse
COUNT_NOT = (3, 10, 17)  # districts whose dispatchers do not count customers: their rows leave it to the network model
WITHDRAWN, CORRECTED = 8, 14  # of 256 sustained outages

# how far a record has come; nobody has told of what is UNTOLD
UNTOLD, OPEN, DONE, CHANGED = range(4)


def outages_extract(utility: Utility, months: range, specs: tuple[Spec, ...]) -> Extract:
    """The outages told in some months (indexes from 0); one partition and file a month."""
    planter = Planter(utility.seed, SYSTEM, specs, _scopes(utility, months), COLUMNS)
    starts = int_array(utility.almanac.month_starts)
    of_file = {"k": f"cast({at(int_array(list(months)), 'file_no')} as bigint)"}
    days = {
        "d": f"n div {utility.circuits}L + {at(starts, 'greatest(k - 1L, 0L)')}",
        "c": f"n % {utility.circuits}L",
        "since": midnight(utility.almanac, at(starts, "k")),
        "until": midnight(utility.almanac, at(starts, "k + 1L")),
    }
    within = f"d < {at(starts, 'k + 1L')}"
    source = one_file_each(len(months), DAYS * utility.circuits, "n")
    # outages a circuit and month, the last month's changes and steps included; and those of its premises
    rows = len(months) * (utility.circuits * 0.5 + utility.premises(months[-1]) * 0.004)
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(source, [of_file, days, within, *outage_layers(utility), *_layers(utility, planter)]),
        files=tuple(f"{FEED}_{utility.almanac.month_start(m):%Y-%m}" for m in months),
        planter=planter,
        expected_rows=round(rows),
        row_bytes=ROW_BYTES,
        whole_stage=False,
        form="csv",
    )


def _scopes(utility: Utility, months: range) -> dict[str, Scope]:
    years = sorted({m // 12 for m in months})
    return {
        "clerk": Scope("dispatcher", (tuple(range(DISPATCHERS)),)),
        "circuit": Scope("c", (tuple(range(utility.circuits)),)),
        "file": Scope("k", tuple(tuple(range(y * 12, y * 12 + 12)) for y in years)),
    }


def _layers(utility: Utility, planter: Planter) -> list[Layer]:
    return [
        *_parts(utility),
        *_told(utility),
        kept(f"head OR (stage > {UNTOLD} AND told >= since)", "is_told"),
        *_customers(utility),
        *_steps(),
        _record(utility, planter),
    ]


def _parts(utility: Utility) -> list[Layer]:
    """Parts of the element that have a step of their own: ``parts`` (numbers of elements of ``part_kind``).

    Of substations and feeders some parts come back before the whole; of circuits sometimes one transformer after it.
    """
    several = utility.circuits > utility.feeders
    by_circuit = f"device = {FEEDER}" if several else "false"
    most = utility.circuits // utility.feeders - 1 if several else 0
    number = f"""CASE part_kind WHEN {FEEDER} THEN c + {utility.substations}L * nth_part
        WHEN {CIRCUIT} THEN c + {utility.feeders}L * nth_part ELSE ({bits('hp', 4, 12)} + nth_part) % transformers END"""
    stands = f"part_kind = {TRANSFORMER} OR part < standing"
    return [
        {
            "hp": draw(utility.seed, "restoration", "c", "d", "code"),
            "part_kind": f"CASE WHEN device = {SUBSTATION} THEN {FEEDER} WHEN {by_circuit} THEN {CIRCUIT} ELSE {TRANSFORMER} END",
        },
        {
            "part_count": f"""CASE WHEN head OR momentary OR planned THEN 0L
                WHEN device = {SUBSTATION} THEN 1L + {bits('hp', 0, 4)} % 3L
                WHEN {by_circuit} THEN least({most}L, 1L + {bits('hp', 0, 4)} % 3L)
                WHEN device = {FEEDER} THEN least(transformers - 1L, 1L + {bits('hp', 0, 1)})
                WHEN device = {CIRCUIT} AND {bits('hp', 0, 3)} < 3L THEN least(transformers - 1L, 1L) ELSE 0L END"""
        },
        {
            "parts": f"""if(part_count > 0L,
                filter(transform(sequence(1L, greatest(part_count, 1L)), nth_part -> {number}), part -> {stands}),
                cast(array() as array<bigint>))"""
        },
        {"all_restored": f"if(device = {CIRCUIT} AND size(parts) > 0, start + seconds * {LATER}L div 10L, restored)"},
    ]


def _told(utility: Utility) -> list[Layer]:
    """What the dispatchers have told by the end of the file's month: ``stage`` and ``told`` (the instant of the last change)."""
    later = f"done + 86400L + {bits('hp', 28, 16)} * (if(withdrawn, 9L, 19L) * 86400L) div 65536L"
    return [
        {
            "noticed": f"start + if(momentary, 300L, 600L + {bits('hp', 16, 11)} % 1800L)",
            "done": f"all_restored + 300L + if(momentary, 0L, {bits('hp', 16, 12)})",
            "withdrawn": f"NOT momentary AND {bits('hp', 44, 8)} < {WITHDRAWN}L",
            "corrected": f"NOT momentary AND {bits('hp', 44, 8)} BETWEEN {WITHDRAWN}L AND {WITHDRAWN + CORRECTED - 1}L",
        },
        {"changed": f"if(withdrawn OR corrected, {later}, null)"},
        {
            "stage": f"""CASE WHEN changed < until THEN {CHANGED} WHEN done < until THEN {DONE} WHEN noticed < until THEN {OPEN}
                ELSE {UNTOLD} END"""
        },
        {
            "told": f"CASE stage WHEN {CHANGED} THEN changed WHEN {DONE} THEN done WHEN {OPEN} THEN noticed END",
            # what the correction puts right: the cause, or a restoration that was told four minutes late
            "unclear": f"stage < {DONE} OR (stage = {DONE} AND corrected AND {bits('hp', 52, 1)} = 0)",
            "told_late": f"stage = {DONE} AND corrected AND {bits('hp', 52, 1)} = 1",
            "dispatcher": f"{bits('hp', 54, 8)} % {DISPATCHERS}L",
        },
    ]


def _customers(utility: Utility) -> list[Layer]:
    """``counted``, and ``on``: the premises on the element that are served on the day of the start."""
    return [
        {"counted": f"NOT momentary AND c % {DISTRICTS}L NOT IN {COUNT_NOT}"},
        {"on": f"if(counted, {served_points(utility, 'low', 'high', 'step')}, cast(array() as array<bigint>))"},
        {
            "homes": f"""transform(on, premise -> CASE part_kind WHEN {FEEDER} THEN premise % {utility.feeders}L
                WHEN {CIRCUIT} THEN premise % {utility.circuits}L
                ELSE premise div {TRANSFORMER_POINTS * utility.circuits}L END)"""
        },
    ]


def _steps() -> list[Layer]:
    """A row for each step: the whole element (``nth_step`` 0), or one of its parts; who comes back with it, and when."""
    return [
        {"nth_step": "explode(sequence(0, size(parts)))"},
        {
            "part": "if(nth_step > 0, parts[nth_step - 1], null)",
            "step_device": "if(nth_step > 0, part_kind, device)",
            # parts of a circuit wait for the repair of their transformer, others come back first
            "number_of_step": f"""CASE WHEN device = {CIRCUIT} THEN nth_step + 1 WHEN nth_step = 0 THEN size(parts) + 1
                ELSE nth_step END""",
            "step_restored": f"""CASE WHEN nth_step = 0 THEN restored WHEN device = {CIRCUIT} THEN all_restored
                ELSE start + seconds * (2L + 2L * nth_step) div 10L END""",
        },
        {
            "step_told": f"stage >= {DONE} OR step_restored + 300L < until",
            "count": """if(nth_step > 0, size(filter(homes, home -> home = part)),
                size(filter(homes, home -> NOT array_contains(parts, home))))""",
        },
        {
            "on_instant": "if(step_told, step_restored + if(told_late AND nth_step = 0, 240L, 0L), null)",
            "told_instant": f"if(stage = {OPEN} AND step_told, step_restored + 300L, told)",
        },
    ]


def _record(utility: Utility, planter: Planter) -> Layer:
    """The raw columns as the file shows them, the row's key for the ledger and its defect."""
    number = f"coalesce(part, CASE step_device WHEN {TRANSFORMER} THEN spot WHEN {POINT} THEN low ELSE c END)"
    outage = """concat('O', date_format(date_from_unix_date(cast(d as int)), 'yyMMdd'), '-', lpad(cast(c as string), 5, '0'),
        '-', code)"""
    flag = "if({0}, 'Y', 'N')"
    return {
        "outage_no": outage,
        "step_no": "cast(number_of_step as string)",
        "device_type": at(text_array(DEVICE_TYPES), "step_device"),
        "device_restored": f"""CASE step_device WHEN {SUBSTATION} THEN {element_name('SS', number)}
            WHEN {FEEDER} THEN {element_name('FD', number)} WHEN {CIRCUIT} THEN {element_name('CK', number)}
            WHEN {TRANSFORMER} THEN {transformer_name('c', number)} ELSE {point_name(number)} END""",
        "device_opened": f"concat({at(text_array(OPENED), 'device')}, '-', lpad(cast(low as string), 7, '0'))",
        "circuit_of_device": f"if(device IN ({SUBSTATION}, {FEEDER}), '', {element_name('CK', 'c')})",
        "district_of_device": district_name(utility, f"c % {DISTRICTS}L"),
        "off_at": local_stamp("start", utility.almanac),
        "on_at": local_stamp("on_instant", utility.almanac),
        "customers": "if(counted, cast(count as string), '')",
        "cause_code": "if(unclear, 'UN', cause)",
        "weather": "sky",
        "storm_mode": flag.format("storm > 0"),
        "planned_work": flag.format("planned"),
        "loss_of_supply": flag.format("cause = 'LS' AND NOT unclear"),
        "state": f"CASE WHEN stage = {CHANGED} AND withdrawn THEN 'X' WHEN stage = {OPEN} THEN 'O' ELSE 'C' END",
        "last_change": local_stamp("told_instant", utility.almanac),
        "row_key": f"concat({outage}, '|', number_of_step)",
        "copy": "0",
        "defect": planter.drawn("c", "d", "code", "nth_step", "k"),
    }

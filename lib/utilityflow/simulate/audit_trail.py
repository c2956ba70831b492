"""The audit trail of a month as XML: what happened to filings, and who looked at or changed what.

Events of filings follow from the filings' own lives; the others are drawn. Times carry their offset from UTC.
The feed is conf/feeds/reg_audit.yaml.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr
from zoneinfo import ZoneInfo

from utilityflow.simulate.draws import number
from utilityflow.simulate.filings import Filing, State, filings_due
from utilityflow.simulate.model import FIRST_CUSTOMER_NUMBER
from utilityflow.simulate.planted import Ledger

FEED = "reg_audit"
KEY = ("id",)
COLUMNS = (
    "id", "occurred", "actor_id", "actor_role", "action", "object", "object_kind", "filing", "outcome", "outcome_severity",
    "remarks",
)  # fmt: skip
EVENTS = 2_400  # a month, beside those of filings
BYTES = 1_100_000  # of a month, about
_STAFF = 60
# action, kind of its object, whether a service does it; by weight of 100
_USUAL = (
    *(("Read", "dataset", True),) * 34, *(("Unmask", "customer", False),) * 28, *(("Export", "report", False),) * 20,
    *(("Approve", "metric", False),) * 10, *(("Change rule", "rule", False),) * 5, *(("Restate", "metric", False),) * 3,
)  # fmt: skip
_STEPS = {
    "due": "Extend", "filed": "Submit", "amended": "Amend", "withdrawn": "Withdraw", "accepted": "Decide", "rejected": "Decide",
}  # fmt: skip
_SEVERITIES = ("low", "low", "low", "low", "medium", "medium", "medium", "high", "high", "critical")
_METRICS = ("saidi", "saifi", "calls_within_30_s", "retail_sales", "operating_revenue")
_DATASETS = ("fact_usage", "fact_outage", "fact_billing", "fact_service_request", "kpi_service_reliability")
Event = dict[str, str]


def events(seed: int, month: dt.date, end: dt.date, customers: int, zone: ZoneInfo) -> list[Event]:
    """The events of a month in the order of their times: raw columns as the file shows them, empty texts for none.

    :param month: its first day. :param end: the first day of the next. :param customers: of the utility at the start.
    """
    found = [*_usual(seed, month, end, customers)]
    for year in (month.year - 1, month.year, month.year + 1):
        for filing in filings_due(seed, year):
            found += [(at, event) for at, event in _of_filing(filing) if month <= at.date() < end]
    told = sorted(found, key=lambda one: (one[0], one[1]["object"], one[1]["action"], one[1]["actor_id"]))
    named = []
    for place, (at, event) in enumerate(told, start=1):
        stamp = at.replace(tzinfo=zone).isoformat()
        named.append(dict.fromkeys(COLUMNS, "") | event | {"id": f"A-{month:%Y-%m}-{place:06d}", "occurred": stamp})
    return named


def _usual(seed: int, month: dt.date, end: dt.date, customers: int) -> Iterator[tuple[dt.datetime, Event]]:
    days = (end - month).days
    for n in range(EVENTS):
        words = ("at", "what", "who", "luck")
        when, what, who, luck = (number(seed, f"audit/{word}", month.year, month.month, n) for word in words)
        at = dt.datetime.combine(month + dt.timedelta(days=when % days), dt.time(7)) + dt.timedelta(seconds=when // days % 43_200)
        action, kind, service = _USUAL[what % len(_USUAL)]
        name = {
            "customer": str(FIRST_CUSTOMER_NUMBER + what // 100 % customers), "dataset": _DATASETS[what // 100 % len(_DATASETS)],
            "report": f"R-{what // 100 % 40:03d}", "metric": _METRICS[what // 100 % len(_METRICS)],
            "rule": f"Q-{what // 100 % 90:02d}",
        }[kind]  # fmt: skip
        outcome, severity, remarks = _outcome(luck)
        yield at, {
            "actor_id": f"svc-{who % 7:02d}" if service else _person(who), "actor_role": "service" if service else "analyst",
            "action": action, "object": name, "object_kind": kind, "outcome": outcome, "outcome_severity": severity,
            "remarks": remarks,
        }  # fmt: skip


def _outcome(luck: int) -> tuple[str, str, str]:
    share = luck % 1000
    if share < 960:
        return "Success", "info", ""
    if share < 985:
        return "Denied", "low", "no permission for this object"
    if share < 994:
        return "Failure", "low", "the service did not answer"
    return "Finding", _SEVERITIES[luck // 1000 % len(_SEVERITIES)], "not covered by an approved request"


def _of_filing(filing: Filing) -> Iterator[tuple[dt.datetime, Event]]:
    """The steps of a filing as its states tell them, and a review some days before each submission."""
    for turn, state in enumerate(filing.states[1:], start=1):
        if state.status in ("filed", "amended"):
            yield _review(filing, state, turn)
        decided = state.status in ("accepted", "rejected")
        yield state.changed, {
            "actor_id": f"X-{filing.form:05d}" if decided else _person(filing.drawn("clerk", 10**9, turn)),
            "actor_role": "regulator" if decided else "compliance", "action": _STEPS[state.status], "object": filing.name,
            "object_kind": "filing", "filing": filing.name, "outcome": "Failure" if state.status == "rejected" else "Success",
            "outcome_severity": "medium" if state.status == "rejected" else "info",
            "remarks": f"penalty of USD {state.penalty}" if decided and state.penalty else "",
        }  # fmt: skip


def _review(filing: Filing, state: State, turn: int) -> tuple[dt.datetime, Event]:
    at = state.changed - dt.timedelta(days=1 + filing.drawn("reviewed", 5, turn), minutes=filing.drawn("review minute", 50, turn))
    luck = filing.drawn("review", 1000, turn)
    found = luck < 70
    return at, {
        "actor_id": _person(filing.drawn("reviewer", 10**9, turn)), "actor_role": "auditor", "action": "Review",
        "object": filing.kind.metric.lower().replace(" ", "_"), "object_kind": "metric", "filing": filing.name,
        "outcome": "Finding" if found else "Success", "outcome_severity": _SEVERITIES[luck % 10] if found else "info",
        "remarks": "the figure cannot be led back to its sources" if found else "",
    }  # fmt: skip


def _person(drawn: int) -> str:
    return f"E{10_000 + drawn % _STAFF * 37}"


def xml(month: dt.date, told: list[Event], ledger: Ledger) -> Iterator[bytes]:
    """The file, event by event, with the defects that ``ledger`` plants."""
    yield f'<?xml version="1.0" encoding="UTF-8"?>\n<auditTrail xmlns="urn:example:audit:1" month="{month:%Y-%m}">\n'.encode()
    for place, event in enumerate(told):
        hit = ledger.planted(place, event["id"], event.__getitem__)
        yield _element(event | ({hit[0]: hit[1]} if hit else {})).encode()
    yield b"</auditTrail>\n"


def _element(event: Event) -> str:
    text, attribute = ({name: form(value) for name, value in event.items()} for form in (escape, quoteattr))
    return (
        f"  <event id={attribute['id']}>\n    <occurred>{text['occurred']}</occurred>\n"
        f"    <actor id={attribute['actor_id']} role={attribute['actor_role']}/>\n    <action>{text['action']}</action>\n"
        f"    <object kind={attribute['object_kind']}>{text['object']}</object>\n    <filing>{text['filing']}</filing>\n"
        f"    <outcome severity={attribute['outcome_severity']}>{text['outcome']}</outcome>\n"
        f"    <remarks>{text['remarks']}</remarks>\n  </event>\n"
    )

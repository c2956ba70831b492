"""What makes requests: outages, the days' own business, moves and new buildings; as layers over the numbers of a day's file.

A file of day ``f`` counts through the circuits and days whose outages may still make a request change, through the slots of the
days' business, and through the tenancies that ask the desk when they move. Each maker's rows pass through the layers of the
others as they are, and only what may change on the day goes on: so a day without events costs little.
"""

from __future__ import annotations

from dataclasses import dataclass

from utilityflow.simulate.almanac import WEATHER_ZONES
from utilityflow.simulate.draws import at, bits, draw, int_array, number, share, slots
from utilityflow.simulate.extract import kept
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.network import SERVED, prefixed, tenancy_layers
from utilityflow.simulate.outage_draws import CIRCUIT, LATER, LONGEST_DAYS, POINT, outage_layers
from utilityflow.simulate.request_kinds import (
    COMPLAIN,
    FLICKER,
    HIGH_BILL,
    HIGH_BILL_COMPLAINT,
    KINDS,
    LONG_OUTAGE,
    MOVE_IN,
    NEW_CONNECTION,
    NO_POWER,
    PARTIAL,
    WIRE_DOWN,
    DeskDays,
    most_a_day,
)
from utilityflow.simulate.stamps import midnight
from utilityflow.simulate.storms import Weather

OUTAGES, BUSINESS, MOVES = range(3)  # the makers
OUTAGE_DAYS = LONGEST_DAYS + 4  # what an outage makes is over so many days after the day of its start
BUSINESS_DAYS = 33  # what a day's business makes is over so many days later
MOVE_DAYS = 12  # and what a move makes
ONE_IN = 8  # of so many tenancies one asks the desk; the others come by other ways
CALLS = (25, 45, 65, 250, 700, 10, 3, 3)  # of 1,024 interrupted customers so many call, by kind of outage
STORM_CALLS = 90
DAY = 86_400
TWICE_WITHIN = 2400  # seconds within which some ask for the second time


@dataclass(frozen=True)
class Numbers:
    """How a file's numbers are shared out: the slots of a day's business, and how many numbers each maker has."""

    slots: int
    outages: int
    business: int
    moves: int

    @property
    def rows(self) -> int:
        """All of them."""
        return self.outages + self.business + self.moves


def numbers(utility: Utility, month: int) -> Numbers:
    """Those of the files of the months up to this one; a file may have more than its month needs."""
    most = most_a_day(utility.premises(month))
    moves = utility.tenancies(month + 1) // ONE_IN + 1
    return Numbers(most, utility.circuits * (OUTAGE_DAYS + 1), most * (BUSINESS_DAYS + 1), moves)


def changes(prefix: str, earlier: int = 0) -> str:
    """Condition: one of the instants of a request's life (see :func:`life`) lies on the file's day.

    :param earlier: or up to so many seconds before it.
    """
    names = (f"{prefix}{n}" for n in ("asked", "begun", "closes", "again", "ends"))
    return "(" + " OR ".join(f"coalesce({n} >= day_begins - {earlier}L AND {n} < day_ends, false)" for n in names) + ")"


def life(prefix: str, hashed: str, kind: str) -> list[Layer]:
    """From ``asked`` and ``closes``: when work ``begun`` (or waits), the request is opened ``again`` and ``ends``; or null."""
    asked, closes = f"{prefix}asked", f"{prefix}closes"
    return [
        {
            f"{prefix}begun": f"if({closes} - {asked} > 21600L, {asked} + ({closes} - {asked}) div 4L, null)",
            f"{prefix}again": f"""if({kind} > {LONG_OUTAGE} AND {bits(hashed, 0, 8)} < 10L,
                {closes} + {DAY}L + {bits(hashed, 8, 12)} * {7 * DAY}L div 4096L, null)""",
        },
        {f"{prefix}ends": f"{prefix}again + least(({closes} - {asked}) div 2L + 3600L, {3 * DAY}L)"},
    ]


def request_layers(utility: Utility) -> list[Layer]:
    """From what :func:`numbered` gives: one row for each request that changes on the file's day, and perhaps some more.

    Adds ``request`` (place in KINDS), ``p``, ``who`` (number of the customer, or null), ``unnamed``, ``asked``,
    ``closes`` (instants), ``hr`` (hash), ``name`` (what its id is made of).
    """
    return [
        *_movers(utility),
        *_business(utility),
        *outage_layers(utility, f"(head OR maker <> {OUTAGES})"),
        *_calls(utility),
        *tenancy_layers(utility, "tenant_month"),
        *_united(utility),
    ]


def numbered(utility: Utility, given: Numbers) -> list[Layer | str]:
    """From ``head``, file day ``f`` and number ``n``: what a number stands for.

    Adds ``maker``, the day ``d`` of the cause, ``c``, ``slot``, ``unit`` (counts tenancies), ``cause_no`` (the circuit, slot or
    tenancy), the file's ``day_begins``, ``day_ends`` and ``file_month``. So what a row is drawn by does not depend on how many
    numbers there are.
    """
    almanac, business_from = utility.almanac, given.outages
    day = f"(d - {almanac.first_day}L)"
    moves_from = given.outages + given.business
    return [
        {
            "maker": f"""CASE WHEN head OR n >= {moves_from}L THEN {MOVES} WHEN n >= {business_from}L THEN {BUSINESS}
                ELSE {OUTAGES} END""",
            "day_begins": midnight(almanac, "f"),
            "day_ends": midnight(almanac, "(f + 1L)"),
            "file_month": f"cast({at(int_array(almanac.month_of_day), f'f - {almanac.first_day}L')} as bigint)",
        },
        {
            "unit": f"""greatest(n - CASE maker WHEN {OUTAGES} THEN 0L WHEN {BUSINESS} THEN {business_from}L
                ELSE {moves_from}L END, 0L)"""
        },
        {
            "d": f"""f - CASE maker WHEN {OUTAGES} THEN unit div {utility.circuits}L WHEN {BUSINESS} THEN unit div {given.slots}L
                ELSE 0L END""",
            "c": f"if(maker = {OUTAGES}, unit % {utility.circuits}L, 0L)",
            "slot": f"if(maker = {BUSINESS}, unit % {given.slots}L, 0L)",
        },
        f"head OR d >= {almanac.first_day}L",
        f"head OR maker <> {BUSINESS} OR slot < {at(int_array(DeskDays(almanac).requests(_standing(utility))), day)}",
        {"cause_no": f"CASE maker WHEN {OUTAGES} THEN c WHEN {BUSINESS} THEN slot ELSE unit END"},
    ]


def _standing(utility: Utility) -> list[int]:
    """The premises that stand since the month before, by month."""
    return [utility.premises(max(m - 1, 0)) for m in range(utility.almanac.months)]


def _business(utility: Utility) -> list[Layer]:
    """Requests that no event of the model causes, and those by which some come again: ``b_asked``, ``b_closes``, ``b_kind``."""
    almanac, desk = utility.almanac, DeskDays(utility.almanac)
    standing = _standing(utility)
    day = f"(d - {almanac.first_day}L)"
    kinds = [int(k) for k in slots({str(i): float(k.weight) for i, k in enumerate(KINDS) if k.weight}, 256)]
    low, high, at_once, nameless = (
        at(int_array([getattr(k, n) for k in KINDS]), "b_kind") for n in ("low", "high", "at_once", "nameless")
    )
    late = at(int_array(Weather(almanac).backlog), f"{day} * {WEATHER_ZONES} + b_p % {WEATHER_ZONES}L")
    u = share("hb", 22, 12)
    complains = f"{bits(draw(utility.seed, 'high bill', 'd', 'slot'), 0, 4)} < {COMPLAIN}L"
    return [
        {"hb": draw(utility.seed, "desk", "d", "slot"), "hc_b": draw(utility.seed, "desk place", "d", "slot")},
        {
            "b_kind": f"""if({bits('hb', 0, 10)} * (1000L + {at(int_array(desk.high_bills), day)}) div 1024L >= 1000L,
                if({complains}, {HIGH_BILL_COMPLAINT}, {HIGH_BILL}), {at(int_array(kinds), bits('hb', 46, 8))})""",
            "b_p": f"pmod(hc_b, cast({at(int_array(standing), at(int_array(almanac.month_of_day), day))} as bigint))",
            "b_first": f"{midnight(almanac, 'd')} + 28800L + {bits('hb', 10, 12)} * 43200L div 4096L",
        },
        {
            "b_takes": f"""if({bits('hb', 34, 4)} < {at_once}, 300L + {bits('hb', 38, 8)} * 8L,
                least(cast(3600.0D * ({low} + {high} * {u} * {u}) as bigint) * (1000L + {late}) div 1000L, {18 * DAY}L))"""
        },
        {
            "b_turn": f"""explode(if(maker = {BUSINESS} AND b_takes < {6 * DAY}L AND {nameless} = 0 AND {bits('hb', 54, 6)} < 5L,
                array(0L, 1L), array(0L)))"""
        },
        {
            "b_asked": f"b_first + if(b_turn = 1, b_takes + {DAY}L + {bits('hb', 22, 12)} * {10 * DAY}L div 4096L, 0L)",
            "hr_b": draw(utility.seed, "request", "d", "slot", "b_turn"),
        },
        {"b_closes": "b_asked + if(b_turn = 1, b_takes div 2L + 3600L, b_takes)"},
        *life("b_", "hr_b", "b_kind"),
        kept(f"head OR maker <> {BUSINESS} OR {changes('b_', TWICE_WITHIN)}", "business_changes"),
    ]


def _movers(utility: Utility) -> list[Layer]:
    """Of the tenancies that ask the desk, those with a turnover or a connection about now; ``tenant_month`` of their file day."""
    chosen = number(utility.seed, "who asks the desk") % ONE_IN
    ends = at(int_array(utility.almanac.month_starts), "file_month + 1L")
    layers: list[Layer] = [{"o": f"unit * {ONE_IN}L + {chosen}L"}, utility.pairing(), *utility.cycle()]
    moves = "coming + q_phase >= q_span AND (coming + q_phase) % q_span < 6L"
    built = f"q_o >= {utility.customers}L AND coming + q_phase BETWEEN -1L AND 1L"
    known = f"q_o < {utility.customers}L + {utility.growth}L * (file_month + 1L)"
    return [
        {"coming": f"file_month + if(f + 10L >= {ends}, 1L, 0L)"},
        *prefixed(layers, "q_"),
        kept(f"head OR maker <> {MOVES} OR ({known} AND ({moves} OR {built}))", "moves_now"),
    ]


def _calls(utility: Utility) -> list[Layer]:
    """Who of those that an outage interrupts calls, when and why: ``o_asked``, ``o_closes``, ``o_kind``; ``p`` of all makers."""
    alone, u = f"(head OR maker <> {OUTAGES})", share("ha", 10, 12)
    share_of = f"""CASE WHEN storm > 0 AND kind < {POINT} THEN {STORM_CALLS}
        ELSE {at(int_array(CALLS), 'kind')} END"""
    chance = bits("ha", 22, 8)
    return [
        {"over": f"if(device = {CIRCUIT}, start + seconds * {LATER}L div 10L, restored)"},
        kept(f"{alone} OR (start < day_ends AND over + {3 * DAY}L >= day_begins)", "matters"),
        {
            "p": f"""explode(if({alone}, array(if(maker = {BUSINESS}, b_p, {utility.annexes}L + q_o)),
                sequence(low, high, step)))""",
        },
        {
            "ha": draw(utility.seed, "call", "p", "c", "d", "code"),
            "tenant_month": f"if(maker = {MOVES}, coming, cast(m as bigint))",
        },
        kept(f"{alone} OR {bits('ha', 0, 10)} < {share_of}", "calls"),
        {
            "o_kind": f"""CASE WHEN momentary THEN {FLICKER} WHEN storm > 0 AND {chance} < 8L THEN {WIRE_DOWN}
                WHEN seconds > 28800L AND {chance} < 40L THEN {LONG_OUTAGE} WHEN {chance} < 70L THEN {PARTIAL}
                ELSE {NO_POWER} END""",
        },
        {
            "o_asked": f"""CASE WHEN momentary THEN restored + 60L + {bits('ha', 30, 12)}
                WHEN o_kind = {LONG_OUTAGE} THEN start + 14400L + {bits('ha', 30, 13)}
                ELSE start + 60L + cast({u} * {u} * least(seconds - 300L, 10800L) as bigint) END""",
        },
        {
            "o_closes": f"""CASE WHEN momentary THEN o_asked + 300L + {bits('ha', 42, 10)}
                WHEN o_kind = {WIRE_DOWN} THEN o_asked + 1800L + {bits('ha', 42, 13)}
                ELSE over + 600L + {bits('ha', 42, 11)}
                    + if(storm > 0, {bits('ha', 53, 10)} * {bits('ha', 53, 10)} * {2 * DAY}L div 1048576L, 0L) END""",
        },
    ]


def _united(utility: Utility) -> list[Layer]:
    """The request of whichever maker, and who asks."""
    almanac = utility.almanac

    def of(outage: str, business: str, move: str) -> str:
        return f"CASE maker WHEN {OUTAGES} THEN {outage} WHEN {BUSINESS} THEN {business} ELSE {move} END"

    date = "date_format(date_from_unix_date(cast({0} as int)), 'yyMMdd')"
    nameless = at(int_array([k.nameless for k in KINDS]), "request")
    begin = "greatest(move_day - lead, f - 39L)"
    was_there = f"if(d < left AND g > 0, {utility.occupant('(g - 1L)')}, {utility.occupant('g')})"
    return [
        {"turn_day": "if(g = 0, connected_day, let)", "hv": draw(utility.seed, "move request", "o", "g")},
        kept(f"head OR maker <> {MOVES} OR turn_day BETWEEN f - {MOVE_DAYS}L AND f + 30L", "moves_soon"),
        {
            # of other rows the day may be any; what is looked up must be known
            "move_day": "greatest(least(turn_day, f + 30L), f - 30L)",
            "lead": f"if(g = 0, 5L + {bits('hv', 20, 8)} % 20L, 1L + {bits('hv', 20, 8)} % 9L)",
        },
        {
            "request": of("o_kind", "b_kind", f"if(g = 0, {NEW_CONNECTION}, {MOVE_IN})"),
            "asked": of("o_asked", "b_asked", f"{midnight(almanac, begin)} + 28800L + {bits('hv', 28, 15)}"),
            "closes": of("o_closes", "b_closes", f"{midnight(almanac, 'move_day')} + 36000L + {bits('hv', 43, 14)}"),
            "hr": of("ha", "hr_b", "hv"),
            "name": of(
                f"concat({date.format('d')}, '-A', p, '-', code)",
                f"concat({date.format('d')}, '-B', slot, '-', b_turn)",
                f"concat({date.format('move_day')}, '-M', o, '-', g)",
            ),
        },
        {"unnamed": f"{bits('hr', 20, 4)} < {nameless} OR {bits('hr', 20, 10)} < 12L"},
        # nobody is there to ask; but a lamp in the street is told of by anybody
        kept(f"head OR maker = {MOVES} OR ({SERVED}) OR (maker = {BUSINESS} AND {nameless} > 0)", "asks"),
        {
            "who": f"""CASE WHEN unnamed THEN null WHEN maker = {MOVES} THEN {utility.occupant('g')}
                WHEN {SERVED} THEN {was_there} END"""
        },
    ]

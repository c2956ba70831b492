"""Customer management's accounts and service agreements, for its database: who is billed for which service point, since when.

An agreement is a tenant's stay at a premise: it begins with the move-in, ends with the move-out and is closed by the last bill.
Its account is the one that billing writes; that of a seasonal customer stays and gets an agreement each time that he comes back.
An account is final from the move-out on, and closed on the day on which its last bill is due. The first month tells of all that
began by its end, later ones of those that began, ended or were closed; one row for each such agreement, as it stands then.

Defects are drawn by account and by agreement, not by month: a clerk's mistake stays in the row however often that changes. Both
tables have their own, so an agreement may name an account or a customer that its account does not.
"""

from __future__ import annotations

from utilityflow.errors import UtilityFlowError
from utilityflow.simulate.accounts import DUE_DAYS, premise, reading_day, site, tenant_digits
from utilityflow.simulate.customer_events import first_came
from utilityflow.simulate.defects import AGAIN, Planter, Scope, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array
from utilityflow.simulate.extract import Extract, database_extract, kept
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.network import point_name, premise_name
from utilityflow.simulate.stamps import day_stamp

SYSTEM, FEED, ACCOUNTS_FEED = "customer_management", "cis_database_agreements", "cis_database_accounts"
ACCOUNT = (
    "account_no", "customer_no", "status", "billing_cycle", "currency", "opened_on", "final_on", "closed_on", "updated_at",
)  # fmt: skip
AGREEMENT = (
    "agreement_no", "account_no", "customer_no", "service_point", "premise", "commodity", "rate_code", "status", "begins_on",
    "ends_on", "billed_on", "start_code", "end_code", "updated_at",
)  # fmt: skip
# the row, and the state of it, of which the ledger's row_key is made
ACCOUNT_KEY, KEY = ("account_no", "updated_at"), ("agreement_no", "updated_at")
ROW_BYTES, ACCOUNT_BYTES = 250, 170  # in the tables with their keys
CLERKS = 40
_KEEP_APART = ("padded", "wrong_case", "mistyped")  # what a key may suffer in a table that holds each once


def accounts_extract(utility: Utility, months: range, specs: tuple[Spec, ...] = ()) -> Extract:
    """The accounts that changed in some months (indexes from 0); one partition and file per month and chunk of premises.

    :raises UtilityFlowError: UF-1001 or UF-1002 for a spec that does not fit.
    """
    planter = _planter(utility, "accounts", specs, ACCOUNT, accounts=True)
    # a seasonal customer keeps his
    drawn = _drawn(utility, planter, "p * 1024L + if(seasonal, 0L, held)")
    layers = [*_stays(utility, _account_told()), _account(), *drawn]
    return database_extract(utility, months, SYSTEM, ACCOUNTS_FEED, planter, layers,
                            shares=(1.02, 0.08), row_bytes=ACCOUNT_BYTES, beside={"updated_at": "updated_at"})  # fmt: skip


def agreements_extract(utility: Utility, months: range, specs: tuple[Spec, ...] = ()) -> Extract:
    """The same of the agreements."""
    planter = _planter(utility, "service_agreements", specs, AGREEMENT)
    drawn = _drawn(utility, planter, "p * 1024L + held")
    layers = [*_stays(utility, _agreement_told()), _agreement(utility), *drawn]
    return database_extract(utility, months, SYSTEM, FEED, planter, layers,
                            shares=(1.02, 0.08), row_bytes=ROW_BYTES, beside={"updated_at": "updated_at"})  # fmt: skip


def _planter(
    utility: Utility, name: str, specs: tuple[Spec, ...], columns: tuple[str, ...], *, accounts: bool = False
) -> Planter:
    """What plants in a table, whose key stays one; ``updated_at`` says which state a row is in, and is never wrong."""
    for spec in specs:
        if spec.kind in AGAIN or (columns[0] in spec.cells() and spec.kind not in _KEEP_APART):
            what = f"defect profile: {name}, '{spec.kind}' of {spec.column}: a table holds each {columns[0]} once"
            raise UtilityFlowError("UF-1002", what, hint=f"of {columns[0]}: {', '.join(_KEEP_APART)}")
    scopes = {"clerk": Scope("clerk", (tuple(range(CLERKS)),))}
    return Planter(utility.seed, name, specs, scopes, columns[:-1], accounts=accounts)


def _drawn(utility: Utility, planter: Planter, whose: str) -> list[Layer]:
    """The key of the ledger and the defect of a row.

    :param whose: SQL of the number of the account or agreement.
    """
    return [
        {"whose": whose},
        {"clerk": f"{bits(draw(utility.seed, f'clerks of {planter.system}', 'whose'), 0, 10)} % {CLERKS}L"},
        {"row_key": f"concat({planter.columns[0]}, '|', updated_at)", "copy": "0", "defect": planter.drawn("whose")},
    ]


def _stays(utility: Utility, told: str) -> list[Layer | str]:
    """The stays of tenants: ``begins``, ``ends``, ``billed``, ``closes``, ``customer`` and ``second``.

    :param told: SQL: of which month ``k`` tells.
    """
    starts = int_array(utility.almanac.month_starts)
    return [
        *site(utility),
        {"profile": utility.profile(), "connected_day": utility.connected_day(), "latest": "(k + phase) div span"},
        {
            "since": at(starts, "k"),
            "until": at(starts, "k + 1"),
            # when the tenant of the start came, as customer management tells it
            "came": first_came(utility),
        },
        # the turnovers before the latest are long over
        {"back": "explode(if(head OR latest = 0, array(0L), array(0L, 1L)))"},
        {"held": "latest - back"},
        *_stay(utility),
        *_last_bill(utility),
        kept(f"head OR ({told})", "told"),
        {
            "customer": utility.occupant("held"),
            "second": f"32400L + {bits(draw(utility.seed, 'agreement', 'p', 'held'), 0, 15)} % 25200L",
        },
    ]


def _stay(utility: Utility) -> list[Layer]:
    """``opened`` (first day of the premise's first tenant), ``begins`` and, once it is past by the month's end, ``ends``."""
    starts = int_array(utility.almanac.month_starts)
    months = {"_in": "held * span - phase", "_out": "(held + 1L) * span - phase"}
    turned = {f"turned{n}": at(starts, f"greatest(0L, least(k, {month}))") for n, month in months.items()}
    coming = utility.turnover("held", "turned_in", "_in")
    leaving = utility.turnover("(held + 1L)", "turned_out", "_out")
    return [
        turned,
        *({**a, **b} for a, b in zip(coming, leaving, strict=True)),
        {
            "opened": f"if(o < {utility.customers}L, came, connected_day)",
            "left": "if(role = 2, in_a_out, out_a_out)",
        },
        {
            "begins": "if(held = 0, opened, if(role = 2, in_b_in, in_a_in))",
            "ends": "if(back = 1 AND left < until, left, null)",
        },
    ]


def _last_bill(utility: Utility) -> list[Layer]:
    """``billed``: the reading day of the last bill, and ``closes``, the day on which that is due; null while to come."""
    month = at(int_array(utility.almanac.month_of_day), f"least(ends, until - 1L) - {utility.almanac.first_day}L")
    return [
        {"left_in": f"cast({month} as bigint)"},
        {"read": reading_day(utility, "left_in"), "read_next": reading_day(utility, "least(k, left_in + 1L)")},
        {"billed": "CASE WHEN ends IS NULL THEN null WHEN ends <= read THEN read WHEN left_in < k THEN read_next END"},
        {"closes": f"if(billed + {DUE_DAYS}L < until, billed + {DUE_DAYS}L, null)"},
    ]


def _agreement_told() -> str:
    """SQL: whether month ``k`` tells of an agreement."""
    return "begins < until AND (k = 0 OR begins >= since OR ends >= since OR billed >= since)"


def _account_told() -> str:
    """SQL: whether month ``k`` tells of the account of an agreement; of one that stays only the first does."""
    now = "begins >= since OR ends >= since OR closes >= since"
    return f"begins < until AND if(seasonal, held = 0 AND (k = 0 OR begins >= since), k = 0 OR {now})"


def _account() -> Layer:
    """What billing calls it, and where it stands; an empty text is null in the database."""
    updated = "if(seasonal, opened, greatest(begins, ends, closes))"
    return {
        "account_no": f"concat('AC-', {premise()}, '-', {tenant_digits()})",
        "customer_no": "cast(customer as string)",
        "status": "CASE WHEN seasonal OR ends IS NULL THEN 'A' WHEN closes IS NULL THEN 'F' ELSE 'C' END",
        "billing_cycle": "concat('C', lpad(cast(cycle_no as string), 2, '0'))",
        "currency": "'USD'",
        "opened_on": _text("if(seasonal, opened, begins)"),
        "final_on": _text("if(seasonal, null, ends)"),
        "closed_on": _text("if(seasonal, null, closes)"),
        "updated_at": day_stamp(updated, "second"),
    }


def _agreement(utility: Utility) -> Layer:
    """The same of the agreement; who moves on within the utility, as the second of a pair does, is transferred."""
    name = f"concat('SA-', {premise()}, '-', lpad(cast(held as string), 2, '0'))"
    built = f"if(o < {utility.customers}L, 'MI', 'NEW')"
    return {
        "agreement_no": name,
        "account_no": f"concat('AC-', {premise()}, '-', {tenant_digits()})",
        "customer_no": "cast(customer as string)",
        "service_point": point_name("p"),
        "premise": premise_name("p"),
        "commodity": "'ELE'",
        "rate_code": utility.rate(),
        "status": "CASE WHEN ends IS NULL THEN 'A' WHEN billed IS NULL THEN 'S' ELSE 'C' END",
        "begins_on": _text("begins"),
        "ends_on": _text("ends"),
        "billed_on": _text("billed"),
        "start_code": f"CASE WHEN held = 0 THEN {built} WHEN role = 1 THEN 'TR' ELSE 'MI' END",
        "end_code": "CASE WHEN ends IS NULL THEN '' WHEN role = 2 THEN 'TR' ELSE 'MO' END",
        "updated_at": day_stamp("greatest(begins, ends, billed)", "second"),
    }


def _text(day: str) -> str:
    return f"coalesce(cast(date_from_unix_date(cast({day} as int)) as string), '')"

"""Steps and tables follow from the feeds: entities that no feed fills and no gold step reads have neither."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from utilityflow import pipeline
from utilityflow.bronze.feeds import Feed, parse_feed
from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.maintain import _names
from utilityflow.operate.plan import plan
from utilityflow.operate.scene import Scene
from utilityflow.pipeline import graph, read_feeds, select, tables_of
from utilityflow.settings import Settings, load_settings
from utilityflow.silver.judging import ENTITIES, check_feeds, tables_of_entity

URL, DESK_URL = "UTILITYFLOW_CIS_URL", "UTILITYFLOW_DESK_URL"
ALWAYS = {"customers", "meter_reads"}  # the gold steps read them, whatever is fed
RARE = sorted(set(ENTITIES) - ALWAYS)
NETWORK = {"outages", "service_points"}  # one of them brings both: the gold steps of reliability read them
COMPLIANCE = {"audit_events", "compliance_filings"}  # and so do these: fact_compliance reads them
RELIABILITY = [
    "gold.dim_service_point", "gold.fact_outage", "gold.reliability_threshold", "gold.kpi_service_reliability",
    "gold.kpi_regulatory_scorecard",
]  # fmt: skip
ACCOUNTS = "gold.dim_account"
OF_EVENTS = {
    "bills": {"gold.fact_billing", ACCOUNTS, "gold.dim_rate_schedule", "gold.dim_service_point"},
    "payments": {"gold.dim_payment_method", "gold.fact_payment", ACCOUNTS},
    "service_requests": {"gold.dim_request_type", "gold.fact_service_request", ACCOUNTS, "gold.kpi_customer_satisfaction"},
}
OF_SEVERAL = {"gold.payment_application", "gold.receivables_ageing"}  # they need several of them
OF_ANY = {"gold.kpi_operational_efficiency", "gold.kpi_regulatory_scorecard"}  # of what of their inputs is there
ACROSS = {"gold.agg_usage_monthly", "gold.customer_360"}  # they look across systems, and come with the first beside the two
# dimensions that come with the feed of their change events, and nothing else does (some come with facts that have their key too)
OF_CHANGES = {
    "accounts": ACCOUNTS,
    "rate_schedules": "gold.dim_rate_schedule",
    "service_agreements": "gold.dim_service_agreement",
}
OF_FORMS = {"reliability_filings": "gold.reliability_benchmark", "utilities": "gold.dim_utility"}  # what a regulator publishes
IDENTITY = "gold.customer_identity"  # comes with accounts or agreements, and reads whatever names accounts
OPTIONAL = {IDENTITY, "gold.fact_compliance", *RELIABILITY, *OF_SEVERAL, *OF_ANY, *ACROSS}.union(
    OF_CHANGES.values(), OF_FORMS.values(), *OF_EVENTS.values()
)


def group(entity: str) -> set[str]:
    """The entities whose tables come together with those of one."""
    return next((some for some in (NETWORK, COMPLIANCE) if entity in some), {entity})


def feed_of(entity: str, more: str = "") -> Feed:
    keys = {
        "accounts": "account_id", "service_agreements": "agreement_id",
        "audit_events": "event_id", "bills": "bill_id", "compliance_filings": "filing_id", "meters": "meter_id",
        "outages": "outage_id", "payments": "payment_id", "rate_schedules": "rate_schedule",
        "reliability_filings": "utility_number", "service_points": "service_point_id", "service_requests": "request_id",
        "utilities": "utility_number",
    }  # fmt: skip
    head = f"feed: some_{entity}\nsystem: billing\nentity: {entity}\nformat: csv\npath: x/*.csv\n"
    text = f"{head}{more}columns: {{{keys[entity]}: id}}\n"
    return parse_feed(text, "f.yaml")


def silver(tables: list[str]) -> set[str]:
    return {name for name in tables if name.startswith("silver.")}


def test_with_the_shipped_feeds_there_is_nothing_of_the_other_entities() -> None:
    feeds = read_feeds(load_settings(environ={}))
    assert RARE == [
        "accounts", "audit_events", "bills", "compliance_filings", "meters", "outages", "payments", "rate_schedules",
        "reliability_filings", "service_agreements", "service_points", "service_requests", "utilities",
    ]  # fmt: skip
    assert silver(tables_of(feeds)) == {name for entity in ALWAYS for name in tables_of_entity(entity)}
    steps = [step.name for step in graph(feeds)]
    assert [n for n in steps if n.startswith("silver.")] == ["silver.customers", "silver.meter_reads"]
    with pytest.raises(UtilityFlowError, match="UF-1004"):
        select(graph(feeds), ["silver.payments"])
    assert len(tables_of(feeds)) == len(set(tables_of(feeds)))
    others = {c.name for c in load_contracts().values() if c.layer != "silver"}
    assert others - set(tables_of(feeds)) == OPTIONAL
    assert not OPTIONAL & set(steps)


@pytest.mark.parametrize("entity", RARE)
def test_a_feed_brings_step_table_and_quarantine_of_its_entity_alone(entity: str) -> None:
    feed = feed_of(entity)
    more = silver(tables_of({feed.feed: feed})) - silver(tables_of({}))
    assert more == {n for e in group(entity) for n in tables_of_entity(e)}
    steps = {step.name: step for step in graph({feed.feed: feed})}
    assert steps[f"silver.{entity}"].inputs == (f"bronze.{feed.feed}",)
    assert list(steps).index(f"bronze.{feed.feed}") < list(steps).index(f"silver.{entity}")


@pytest.mark.parametrize("entity", sorted(NETWORK))
def test_a_feed_of_the_network_brings_the_tables_and_steps_of_reliability(entity: str) -> None:
    feed = feed_of(entity)
    steps = graph({feed.feed: feed})
    assert [step.name for step in steps if step.name in RELIABILITY] == RELIABILITY
    assert {c for c in tables_of({feed.feed: feed}) if c in RELIABILITY} == set(RELIABILITY)
    assert set(select(steps, ["+gold.kpi_regulatory_scorecard"])) == {
        f"bronze.some_{entity}", "silver.outages", "silver.service_points", "gold.dim_date", *RELIABILITY,
    }  # fmt: skip


@pytest.mark.parametrize("entity", sorted(OF_EVENTS))
def test_a_feed_of_events_brings_its_facts_and_is_read_by_the_customers(entity: str) -> None:
    feed = feed_of(entity)
    steps = {step.name: step for step in graph({feed.feed: feed})}
    assert OPTIONAL & set(steps) == OF_EVENTS[entity] | OF_ANY | ACROSS
    assert OPTIONAL & set(tables_of({feed.feed: feed})) == OF_EVENTS[entity] | OF_ANY | ACROSS
    assert f"silver.{entity}" in steps["gold.dim_customer"].inputs
    assert f"silver.{entity}" not in steps["gold.dim_meter"].inputs


def steps_of(*entities: str) -> dict[str, tuple[str, ...]]:
    """The steps of a home with feeds of these entities, and what they read."""
    feeds = {f.feed: f for f in map(feed_of, entities)}
    return {step.name: step.inputs for step in graph(feeds)}


def test_meters_and_rate_schedules_bring_their_events_to_dimensions() -> None:
    assert steps_of()["gold.dim_meter"] == ("silver.meter_reads",)
    assert steps_of("meters")["gold.dim_meter"] == ("silver.meters", "silver.meter_reads")
    assert not OPTIONAL & set(steps_of("meters"))
    assert steps_of("rate_schedules")["gold.dim_rate_schedule"] == ("silver.rate_schedules", "silver.meter_reads")
    assert steps_of("rate_schedules", "bills")["gold.dim_rate_schedule"][1:] == ("silver.meter_reads", "silver.bills")


def test_bills_bring_the_dimensions_of_which_their_fact_has_the_keys() -> None:
    both = ("gold.dim_service_point", "gold.dim_rate_schedule")
    alone = steps_of("bills")
    assert alone["gold.fact_billing"] == ("silver.bills", "gold.dim_customer", ACCOUNTS, *both, "gold.dim_date")
    assert [alone[n] for n in both] == [("silver.bills",), ("silver.meter_reads", "silver.bills")], "inferred members alone"
    assert [list(alone).index(n) < list(alone).index("gold.fact_billing") for n in both] == [True, True]
    every = steps_of("bills", "service_points", "rate_schedules")
    assert every["gold.dim_service_point"] == ("silver.service_points", "silver.bills", "silver.outages")
    assert every["gold.dim_rate_schedule"] == ("silver.rate_schedules", "silver.meter_reads", "silver.bills")
    assert not set(both) & set(steps_of("payments", "service_requests", "accounts", "meters"))


@pytest.mark.parametrize("entity", sorted(OF_EVENTS))
def test_facts_that_name_accounts_bring_their_dimension(entity: str) -> None:
    """With inferred members alone where no feed tells of accounts; it is made before the fact that has its key."""
    alone = steps_of(entity)
    (fact,) = (name for name in alone if name.startswith("gold.fact_") and f"silver.{entity}" in alone[name])
    assert alone[ACCOUNTS] == (f"silver.{entity}",)
    assert ACCOUNTS in alone[fact] and list(alone).index(ACCOUNTS) < list(alone).index(fact)
    told = steps_of(entity, "accounts")
    assert (told[ACCOUNTS], told[fact]) == (("silver.accounts", f"silver.{entity}"), alone[fact])


@pytest.mark.parametrize(("entity", "dimension"), OF_CHANGES.items())
def test_some_dimensions_come_with_their_change_events_alone(entity: str, dimension: str) -> None:
    assert OPTIONAL & set(steps_of(entity)) - {IDENTITY} == {dimension}


@pytest.mark.parametrize("entity", ["accounts", "service_agreements"])
def test_the_crosswalk_comes_with_them_and_reads_what_names_accounts(entity: str) -> None:
    assert steps_of(entity)[IDENTITY] == ("silver.customers", f"silver.{entity}")
    everything = ("accounts", "service_agreements", "service_points", "bills", "payments", "service_requests")
    assert steps_of(*everything)[IDENTITY] == ("silver.customers", *(f"silver.{e}" for e in everything))
    assert IDENTITY not in steps_of("bills", "payments", "service_points")
    bills = {"some_bills": feed_of("bills")}
    assert IDENTITY in {step.name for step in graph(bills, None, [IDENTITY])}, "asked for"
    assert IDENTITY not in {step.name for step in graph({}, None, [IDENTITY])}, "nothing names an account"


def test_accounts_are_named_by_bills_payments_and_requests_and_agreements_by_nobody() -> None:
    naming = ("bills", "payments", "service_requests")
    assert steps_of("accounts")[ACCOUNTS] == ("silver.accounts",)
    assert steps_of("accounts", *naming)[ACCOUNTS] == ("silver.accounts", *(f"silver.{n}" for n in naming))
    assert steps_of(*naming)[ACCOUNTS] == tuple(f"silver.{n}" for n in naming)
    assert ACCOUNTS not in steps_of("meters", "service_points", "service_agreements", "outages"), "no fact of these has its key"
    every = steps_of("accounts", "service_agreements", "service_points", *naming)
    assert every["gold.dim_service_agreement"] == ("silver.service_agreements",)


@pytest.mark.parametrize("entity", sorted(OF_FORMS))
def test_a_form_that_a_regulator_publishes_brings_its_table_alone(entity: str) -> None:
    feed = feed_of(entity)
    steps = {step.name: step.inputs for step in graph({feed.feed: feed})}
    assert OPTIONAL & set(steps) == {OF_FORMS[entity]}
    assert steps[OF_FORMS[entity]] == (f"silver.{entity}",)
    assert f"silver.{entity}" not in steps["gold.dim_customer"]


@pytest.mark.parametrize("entity", sorted(COMPLIANCE))
def test_a_feed_of_filings_or_of_the_audit_trail_brings_their_fact(entity: str) -> None:
    feed = feed_of(entity)
    steps = {step.name: step for step in graph({feed.feed: feed})}
    assert OPTIONAL & set(steps) == {"gold.fact_compliance", "gold.kpi_regulatory_scorecard"}
    assert set(steps["gold.fact_compliance"].inputs) == {f"silver.{e}" for e in COMPLIANCE} | {"gold.dim_date"}
    assert {f"silver.{e}" for e in COMPLIANCE}.isdisjoint(steps["gold.dim_customer"].inputs)


def test_a_mart_of_several_facts_needs_them_all() -> None:
    feeds = {f.feed: f for f in map(feed_of, OF_EVENTS)}
    others = {IDENTITY, *RELIABILITY, *OF_CHANGES.values(), *OF_FORMS.values(), "gold.fact_compliance"}
    others -= OF_ANY.union(*OF_EVENTS.values())
    assert OPTIONAL & {step.name for step in graph(feeds)} == OPTIONAL - others


@pytest.mark.parametrize("table", sorted(OPTIONAL))
def test_gold_tables_that_exist_are_looked_after_without_their_feeds(tmp_path: Path, table: str) -> None:
    (tmp_path / table.replace(".", "/") / "_delta_log").mkdir(parents=True)
    made_of = {"gold.agg_usage_monthly"} if table == "gold.customer_360" else set()
    assert set(tables_of({}, tmp_path)) - set(tables_of({})) == {table} | made_of
    assert table not in {step.name for step in graph({})}


@pytest.mark.parametrize("word", sorted(ACROSS))
def test_a_mart_across_systems_comes_where_it_is_asked_for_and_stays(tmp_path: Path, word: str) -> None:
    plain = [step.name for step in graph({})]
    more = [f"gold.{n}" for n in ("agg_usage_monthly", "customer_360")][: 1 if word == "gold.agg_usage_monthly" else 2]
    for asked in (word, f"+{word}", f"{word}+", f"1+{word}", f"{word}+1", f"2+{word}+1", f"{word[:-2]}*"):
        assert [step.name for step in graph({}, None, [asked])] == plain + more
        assert set(tables_of({}, None, [asked])) - set(tables_of({})) == set(more)
    assert [step.name for step in graph({}, None, ["gold.fact_usage+", "gold"])] == plain
    (tmp_path / word.replace(".", "/") / "_delta_log").mkdir(parents=True)
    assert [step.name for step in graph({}, tmp_path)] == plain + more


def test_the_view_of_customers_reads_what_there_is() -> None:
    def inputs(*entities: str) -> tuple[str, ...]:
        feeds = {f.feed: f for f in map(feed_of, entities)}
        return next(step.inputs for step in graph(feeds) if step.name == "gold.customer_360")

    always = ("gold.dim_customer", "gold.agg_usage_monthly")
    assert inputs("payments") == (*always, "gold.fact_payment")
    assert inputs("service_points") == (*always, "gold.fact_outage", "gold.dim_service_point")
    assert set(inputs("bills", "payments", "service_requests")) == {
        *always, "gold.receivables_ageing", "gold.fact_billing", "gold.fact_payment", "gold.fact_service_request",
        "gold.dim_request_type",
    }  # fmt: skip


@pytest.mark.parametrize("table", [name for entity in RARE for name in tables_of_entity(entity)])
def test_tables_that_exist_are_looked_after_without_their_feed(tmp_path: Path, table: str) -> None:
    """One of the two is enough: a run that died between them made the first alone."""
    (tmp_path / table.replace(".", "/") / "_delta_log").mkdir(parents=True)
    entity = table.removeprefix("silver.").removesuffix("__quarantine")
    together = {entity} if table.endswith("__quarantine") else group(entity)
    more = {name for one in together for name in tables_of_entity(one)}
    assert silver(tables_of({}, tmp_path)) - silver(tables_of({})) == more
    assert f"silver.{entity}" not in {step.name for step in graph({})}


def test_facts_that_stand_follow_their_customers_without_their_feed(tmp_path: Path) -> None:
    (tmp_path / "silver" / "payments" / "_delta_log").mkdir(parents=True)
    steps = {step.name for step in graph({}, tmp_path)}
    assert {"silver.payments", "gold.dim_payment_method", "gold.fact_payment"} <= steps
    assert "gold.fact_service_request" not in steps


def test_maintain_arranges_them_too(tmp_path: Path) -> None:
    class Home:
        lakehouse = tmp_path

    (tmp_path / "silver" / "payments" / "_delta_log").mkdir(parents=True)
    scene = Scene(load_settings(environ={}), Home(), None)  # type: ignore[arg-type]
    assert {"silver.payments", "silver.payments__quarantine"} <= set(_names(scene))


def test_plan_tells_of_the_tables_that_a_first_run_makes(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    given = {"home": str(tmp_path / "home"), "landing": str(tmp_path / "landing"), "feeds": str(feeds)}
    text = "feed: cash\nsystem: payment_processing\nentity: payments\nformat: csv\npath: x/*.csv\ncolumns: {payment_id: id}\n"
    (feeds / "cash.yaml").write_text(text)
    told = plan(load_settings(given, environ={}))
    assert {"create silver.payments", "create silver.payments__quarantine"} <= set(told["tables"])
    assert not [line for line in told["tables"] if "service_requests" in line]
    assert "silver.payments" in [step["step"] for step in told["steps"]]


@pytest.mark.parametrize("entity", sorted(e for e in RARE if not load_contracts()[f"silver.{e}"].property("history")))
def test_an_entity_without_history_takes_no_snapshots(entity: str) -> None:
    feed = feed_of(entity, "mode: snapshot\nsnapshot_time: to_date(day)\n")
    with pytest.raises(UtilityFlowError, match="has no history, so 'mode: snapshot' does not apply") as caught:
        check_feeds({feed.feed: feed}, load_contracts())
    assert caught.value.code == "UF-1012"
    assert "f.yaml" in str(caught.value)


def test_personal_columns_are_tagged_and_amounts_are_exact() -> None:
    catalog = load_contracts()
    personal = {e: {c.name for c in catalog[f"silver.{e}"].columns if c.private} for e in RARE}
    assert personal == {
        "accounts": {"account_id", "customer_id"},
        "service_agreements": {"agreement_id", "account_id", "customer_id", "service_point_id"},
        "audit_events": {"actor_id", "subject_id", "remarks"},
        "compliance_filings": set(),
        "bills": {"account_id", "customer_id", "service_point_id", "meter_id"},
        "meters": {"meter_id", "serial_number", "service_point_id", "premise_id"},
        "rate_schedules": set(),
        "reliability_filings": set(),
        "utilities": set(),
        "outages": {"element_id", "service_point_id"},
        "service_points": {"service_point_id", "premise_id", "account_id", "customer_id"},
        "payments": {"account_id", "customer_id"},
        "service_requests": {
            "customer_id", "account_id", "service_point_id", "premise_id", "resolution", "address", "city", "zip_code",
            "latitude", "longitude",
        },
    }  # fmt: skip
    types = {c.type for e in RARE for c in catalog[f"silver.{e}"].columns}
    assert not types & {"double", "float"}
    assert catalog["silver.payments"].column("amount").type == "decimal(18,4)"


def test_shipped_feeds_of_a_database_sleep_until_it_is_said_which_one(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=str(tmp_path / "home"))
    asked = {f"cis_database_{name}" for name in ("customers", "accounts", "agreements", "service_points", "meters", "rates")}
    for value in (None, ""):
        monkeypatch.delenv(URL, raising=False) if value is None else monkeypatch.setenv(URL, value)
        assert set(pipeline.read_feeds(settings)) == {"ami_daily_reads", "cis_customers"}
    assert asked < set(pipeline.read_feeds(settings, whole=True))
    own = replace(settings, feeds=str(repository / "conf" / "feeds"))
    assert asked < set(pipeline.read_feeds(own)), "a folder of one's own is taken as it is"
    monkeypatch.setenv(URL, f"jdbc:sqlite:{tmp_path / 'cis.sqlite'}")
    feeds = pipeline.read_feeds(settings)
    assert set(feeds) == {"ami_daily_reads", *asked}, "customers come from there, so the feed of files sleeps on"
    steps = [s.name for s in graph(feeds)]
    gold = {f"gold.dim_{name}" for name in ("rate_schedule", "account", "service_agreement", "service_point")}
    assert {f"extract.{n}" for n in asked} | {"silver.meters", "silver.rate_schedules"} | gold < set(steps)
    # what has landed once is asked on: that nobody says where is then an error, not silence
    monkeypatch.delenv(URL)
    (tmp_path / "home" / "lakehouse" / "bronze" / "cis_database_meters").mkdir(parents=True)
    assert "cis_database_meters" in pipeline.read_feeds(settings)


def test_the_shipped_feed_of_the_service_desk_sleeps_until_it_is_said_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then requests come from there, and those who bring them as files have another feed, which sleeps on."""
    settings = Settings(home=str(tmp_path / "home"))
    for value in (None, ""):
        monkeypatch.delenv(DESK_URL, raising=False) if value is None else monkeypatch.setenv(DESK_URL, value)
        assert set(pipeline.read_feeds(settings)) == {"ami_daily_reads", "cis_customers"}
    monkeypatch.setenv(DESK_URL, "http://127.0.0.1:8311/service-requests")
    feeds = pipeline.read_feeds(settings)
    assert set(feeds) == {"ami_daily_reads", "cis_customers", "desk_rest_requests"}
    assert {"extract.desk_rest_requests", "gold.fact_service_request"} < {s.name for s in graph(feeds)}
    monkeypatch.delenv(DESK_URL)
    (tmp_path / "home" / "lakehouse" / "bronze" / "desk_rest_requests").mkdir(parents=True)
    assert "desk_rest_requests" in pipeline.read_feeds(settings)


def test_shipped_feeds_sleep_until_their_first_file_lands(tmp_path: Path, repository: Path) -> None:
    """Of the shipped folder; a folder of one's own is taken as it is."""
    settings = Settings(home=str(tmp_path / "home"))
    assert set(pipeline.read_feeds(settings)) == {"ami_daily_reads", "cis_customers"}, "an empty home: customers and reads"
    whole = pipeline.read_feeds(settings, whole=True)
    assert {"cis_bills", "pay_payments", "desk_requests", "oms_outages", "ev_interval_reads"} < set(whole)
    steps = pipeline.graph(pipeline.read_feeds(settings))
    assert pipeline.chosen(settings, steps, ["bronze.cis_bills", "gold.dim_meter"]) == ["gold.dim_meter"]
    assert pipeline.chosen(settings, steps, ["silver.bills+"]) == [], "not all steps"
    with pytest.raises(UtilityFlowError, match="there is no step 'silver.bils'"):
        pipeline.chosen(settings, steps, ["silver.bils"])
    landed = tmp_path / "home" / "landing" / "cis_bills" / "1.csv"
    landed.parent.mkdir(parents=True)
    landed.write_text("bill_no\n1\n", encoding="utf-8")
    assert set(pipeline.read_feeds(settings)) == {"ami_daily_reads", "cis_bills", "cis_customers"}
    landed.unlink()
    (tmp_path / "home" / "lakehouse" / "bronze" / "pay_payments").mkdir(parents=True)
    assert set(pipeline.read_feeds(settings)) == {"ami_daily_reads", "cis_customers", "pay_payments"}, "its table is there"
    own = tmp_path / "own"
    own.mkdir()
    (own / "cis_bills.yaml").write_text((repository / "conf" / "feeds" / "cis_bills.yaml").read_text("utf-8"), encoding="utf-8")
    assert set(pipeline.read_feeds(replace(settings, feeds=str(own)))) == {"cis_bills"}


def test_the_guides_name_every_entity(repository: Path) -> None:
    for guide in ("feeds.md", "contracts.md"):
        text = (repository / "docs" / guide).read_text(encoding="utf-8")
        assert [entity for entity in ENTITIES if f"\n| `{entity}` |" not in text] == [], guide

"""The indices of IEEE 1366: vectors V1, V2 and V14, who counts to which step, and who is served on which day."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.contracts import load_contracts
from utilityflow.gold import reliability as r
from utilityflow.gold.outages import dated, known_by, moved_points, outage_facts, standing_steps
from utilityflow.gold.scorecard import scorecard, spans
from utilityflow.scd2 import Dimension
from utilityflow.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.engine
CONTRACTS = load_contracts()
POINT = "service_point_key bigint, service_point_id string, transformer_id string, circuit_id string, feeder_id string, " \
        "substation_id string, district string, status string, effective_date date, expiry_date date"  # fmt: skip
OPEN = dt.date(9999, 12, 31)
FIGURES = ("customer_interruptions", "customer_minutes", "momentary_interruptions", "service_points", "service_point_hours",
           "service_points_at_end", "cemi_customers", "celid_customers")  # fmt: skip


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def points(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """(id, transformer, circuit, district[, status, from, to]); feeder F and substation S feed all."""
    filled = []
    for number, (name, transformer, circuit, district, *rest) in enumerate(rows, start=1):
        status, since, until = (*rest, *("active", day("2000-01-01"), OPEN)[len(rest) :])
        filled.append((number, name, transformer, circuit, "F", "S", district, status, since, until))
    return local_frame(spark, filled, POINT)


def states(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Rows of silver.outages; what is not given is as a feed that does not map it would have it."""
    contract = CONTRACTS["silver.outages"]
    default: dict[str, Any] = dict.fromkeys(contract.column_names)
    default |= {"step_id": "1", "storm": False, "planned": False, "loss_of_supply": False, "status": "confirmed",
                "quality_flags": [], "_record_hash": 0, "_feed": "f", "_file_sha256": "a" * 64, "_batch_id": 1}  # fmt: skip
    filled = [default | {"_row_number": n} | row for n, row in enumerate(rows, start=1)]
    ddl = ", ".join(f"{c.name} {c.type}" for c in contract.columns)
    frame = local_frame(spark, [tuple(row.values()) for row in filled], ddl)
    kind = F.when(F.col("element_kind") == "service_point", F.col("element_id"))
    return frame.withColumns({"started_date": F.to_date("started_at"), "service_point_id": kind})


def facts(spark: SparkSession, rows: DataFrame, of: DataFrame) -> DataFrame:
    dimension = Dimension.from_contract(CONTRACTS["gold.dim_service_point"])
    return outage_facts(standing_steps(rows), of, CONTRACTS["gold.fact_outage"], dimension, 5.0)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)


# -- V1: one circuit -----------------------------------------------------------------------------------------------------

V1 = [
    ("12:12:20", "12:20:30", 200), ("18:23:56", "18:24:26", 400), ("00:23:10", "01:34:29", 600),
    ("23:17:00", "23:47:14", 25), ("09:30:10", "09:31:10", 2_000), ("15:45:39", "20:12:50", 90),
    ("08:20:00", "10:20:00", 700), ("17:10:00", "17:20:00", 1_500), ("10:15:00", "10:55:00", 100),
]  # fmt: skip


def test_v1_a_circuit_by_restoration_steps(spark: SparkSession) -> None:
    rows = [
        {"outage_id": f"O{n}", "element_kind": "circuit", "element_id": "C", "customers_interrupted": customers,
         "started_at": at(f"2025-03-{n:02} {off}"), "restored_at": at(f"2025-03-{n:02} {on}"), "district": "D"}
        for n, (off, on, customers) in enumerate(V1, start=1)
    ]  # fmt: skip
    nobody = points(spark, ("SP", "T", "another", "D"))
    made = facts(spark, states(spark, *rows), nobody)
    told = {row["outage_id"]: row for row in made.collect()}
    assert sorted(n for n, row in told.items() if row["is_momentary"]) == ["O2", "O5"]
    assert {row["minutes"] for row in told.values()} >= {Decimal("8.166667"), Decimal("71.316667"), Decimal("267.183333")}
    assert {tuple(row["quality_flags"]) for row in told.values()} == {("unknown_element",)}
    columns = ("outage_id", "step_id", "service_point_id", *r.PLACE)
    no_hit = local_frame(spark, [], ", ".join(f"{n} string" for n in columns))
    parts = r.shared_out(dated(made), r.merged(no_hit, dated(made), 5.0))
    sums = r.numerators(parts.withColumn("is_major", F.lit(False))).where("exclusions = 'none'").drop("exclusions")
    served = {"service_points": 2_000, "service_point_hours": 2_000 * 8_760, "service_points_at_end": 2_000, "cemi_customers": 0,
              "celid_customers": 0}  # fmt: skip
    found = r.indices(sums.withColumns({n: F.lit(v) for n, v in served.items()})).collect()
    assert [(row["month"], row["district"], row["circuit_id"]) for row in found] == [(day("2025-03-01"), "D", "C")]
    one = found[0]
    assert (one["customer_interruptions"], round(one["customer_minutes"], 4)) == (3_215, Decimal("172225.6667"))
    wanted = {"saifi": "1.6075", "saidi": "86.112833", "caidi": "53.569414", "maifi": "1.2"}
    assert {n: one[n] for n in wanted} == {n: Decimal(v) for n, v in wanted.items()}
    assert round(one["asai"], 8) == Decimal("0.99983616")


# -- V2: published figures -----------------------------------------------------------------------------------------------


def ratios(spark: SparkSession, *rows: tuple[Any, ...]) -> list[Any]:
    """Indices of (customer interruptions, minutes, momentary, customers)."""
    filled = [(float(ci), float(cmi), float(mi), n, n * 8_760, n, 0, 0) for ci, cmi, mi, n in rows]
    return r.indices(local_frame(spark, filled, ", ".join(f"{n} double" for n in FIGURES))).collect()


def test_v2_published_frequencies(spark: SparkSession) -> None:
    other, urban = 137_880, 2_051_881
    given = [
        (224_651, 137_874, "1.6294"), (203_860, 137_879, "1.4785"), (236_284, other, "1.7137"), (664_795, other, "4.8215"),
        (7_947_800, 2_050_814, "3.8754"), (5_179_292, 2_051_227, "2.5250"), (4_501_001, urban, "2.1936"),
        (17_628_093, urban, "8.5912"), (9_677_909, 1_142_486, "8.4709"),
    ]  # fmt: skip
    found = ratios(spark, *[(ci, 0, ci, n) for ci, n, _ in given])
    assert [str(round(row["saifi"], 4)) for row in found] == [text for *_, text in given]
    assert all(row["maifi"] == row["saifi"] for row in found)
    momentary = [(300_533, 137_874), (303_974, 137_879), (294_736, other), (899_243, other)]
    told = ratios(spark, *[(0, 0, mi, n) for mi, n in momentary])
    assert [str(round(row["maifi"], 2)) for row in told] == ["2.18", "2.20", "2.14", "6.52"]


def test_v2_published_durations_come_in_customer_days(spark: SparkSession) -> None:
    other, urban = 137_880, 2_051_881
    given = [
        ("13129.53", 137_874, "137.13", "2:17"), ("15071.60", 137_879, "157.41", "2:37"), ("10198.94", other, "106.52", "1:46"),
        ("38400.07", other, "401.05", "6:41"), ("436429.10", 2_050_814, "306.44", "5:06"),
        ("322213.58", 2_051_227, "226.20", "3:46"), ("168245.75", urban, "118.07", "1:58"),
        ("926888.44", urban, "650.49", "10:50"),
    ]  # fmt: skip
    found = ratios(spark, *[(1, float(days) * 1_440, 0, n) for days, n, *_ in given])
    assert [str(round(row["saidi"], 2)) for row in found] == [minutes for _, _, minutes, _ in given]
    clock = [f"{int(row['saidi'] // 60)}:{int(row['saidi'] % 60):02}" for row in found]
    assert clock == [text for *_, text in given], "published with the minutes cut off"


def test_nobody_served_gives_null_and_nothing_interrupted_gives_zero(spark: SparkSession) -> None:
    nobody, nothing = ratios(spark, (10, 100, 5, 0), (0, 0, 0, 50))
    names = ("saidi", "saifi", "asai", "maifi", "cemi", "celid")
    assert [nobody[n] for n in names] == [None] * 6
    assert (nobody["caidi"], nothing["caidi"]) == (Decimal(10), None)
    assert [nothing[n] for n in names] == [0, 0, 1, 0, 0, 0]


# -- V14: major event days -----------------------------------------------------------------------------------------------

V14 = [26.974, 0.956, 0.131, 1.292, 4.250, 0.119, 0.130, 12.883, 0.226, 13.864, 0.015, 1.788, 0.410, 0.007, 1.124, 1.951, 1.502]


def history(spark: SparkSession, values: list[float], first: str = "2024-01-01") -> DataFrame:
    return local_frame(spark, [(day(first) + dt.timedelta(days=n), v) for n, v in enumerate(values)], "day date, saidi double")


def test_v14_the_deviation_is_that_of_a_sample_and_zeros_do_not_count(spark: SparkSession) -> None:
    one = r.threshold(history(spark, V14), 2.5).collect()[0]
    assert [round(one[n], 6) for n in ("alpha", "beta")] == [-0.342968, 2.284680]
    assert round(one["threshold_saidi"], 4) == 214.5905  # of the population it would be 180.9453
    assert (one["days"], one["first_date"], one["last_date"]) == (17, day("2024-01-01"), day("2024-01-17"))
    assert r.threshold(history(spark, [*V14, 0.0]), 2.5).collect()[0] == one
    assert r.threshold(history(spark, [1.0]), 2.5).collect()[0]["threshold_saidi"] is None
    # exp(-0.555 + 2.5 x 1.90): two days whose logarithms have that mean and that deviation
    apart = 1.90 / 2**0.5
    pair = history(spark, [2.718281828459045 ** (-0.555 + s * apart) for s in (1, -1)])
    assert round(r.threshold(pair, 2.5).collect()[0]["threshold_saidi"], 4) == 66.3537


def test_a_day_is_major_above_the_threshold_of_its_own_year(spark: SparkSession) -> None:
    days = history(spark, [10.0, 10.1, 300.0], "2024-12-30")
    limits = local_frame(spark, [(2023, 1.0), (2024, 10.0), (2026, 1.0)], "year int, threshold_saidi double")
    assert [row["day"] for row in r.major_days(days, limits).collect()] == [day("2024-12-31")], "2025 has no threshold"


# -- who was interrupted -------------------------------------------------------------------------------------------------


def step(outage: str, number: str, kind: str, element: str, off: str, on: str | None, **more: Any) -> dict[str, Any]:
    return {"outage_id": outage, "step_id": number, "element_kind": kind, "element_id": element, "started_at": at(off),
            "restored_at": at(on) if on else None, **more}  # fmt: skip


def whole(told: DataFrame, network: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Steps shared out, and the interruptions of each point, of states."""
    made = dated(facts(told.sparkSession, told, network))
    hit = r.merged(r.interrupted(made, network), made, 5.0)
    return r.shared_out(made, hit), hit.where("is_first")


def test_a_point_belongs_to_the_step_of_its_smallest_element(spark: SparkSession) -> None:
    network = points(
        spark, ("S1", "T1", "C1", "N"), ("S2", "T1", "C1", "N"), ("S3", "T2", "C1", "N"), ("S4", "T3", "C2", "N"),
        ("S5", "T2", "C1", "N", "inactive"), ("S6", "T2", "C1", "N", "active", day("2025-03-02")),
    )  # fmt: skip
    told = states(
        spark,
        step("O1", "1", "circuit", "C1", "2025-03-01 10:00", "2025-03-01 11:00"),
        step("O1", "2", "transformer", "T1", "2025-03-01 10:00", "2025-03-01 12:00"),
        step("O1", "3", "service_point", "S2", "2025-03-01 10:00", None),
        step("O2", "1", "feeder", "F", "2025-03-02 10:00", "2025-03-02 10:05", customers_interrupted=10),
        step("O3", "1", "transformer", "T9", "2025-03-02 10:00", "2025-03-02 10:05:01"),
    )
    hit = r.interrupted(standing_steps(told), network).collect()
    assert sorted((h["outage_id"], h["step_id"], h["service_point_id"]) for h in hit) == [
        ("O1", "1", "S3"), ("O1", "2", "S1"), ("O1", "3", "S2"),
        ("O2", "1", "S1"), ("O2", "1", "S2"), ("O2", "1", "S3"), ("O2", "1", "S4"), ("O2", "1", "S6"),
    ]  # fmt: skip
    made = facts(spark, told, network)
    rows = {(f["outage_id"], f["step_id"]): f for f in made.collect()}
    figures = {k: (f["service_points"], f["customers_interrupted"], f["is_open"], f["is_momentary"]) for k, f in rows.items()}
    assert figures == {
        ("O1", "1"): (1, 1, False, False), ("O1", "2"): (1, 1, False, False), ("O1", "3"): (1, 1, True, False),
        ("O2", "1"): (5, 10, False, True), ("O3", "1"): (0, 0, False, False),
    }  # fmt: skip
    flags = {k: list(f["quality_flags"]) for k, f in rows.items() if f["quality_flags"]}
    assert flags == {("O2", "1"): ["customers_differ", "several_circuits"], ("O3", "1"): ["unknown_element"]}
    assert {k: f["circuit_id"] for k, f in rows.items()} == {
        ("O1", "1"): "C1", ("O1", "2"): "C1", ("O1", "3"): "C1", ("O2", "1"): None, ("O3", "1"): None
    }  # fmt: skip
    assert {k: f["service_point_key"] for k, f in rows.items()} == {k: 2 if k == ("O1", "3") else -1 for k in rows}
    assert rows["O1", "3"]["customer_minutes"] is None
    # four of the five on the feeder hang on C1
    parts = whole(told, network)[0].where("outage_id = 'O2'").collect()
    assert {(p["circuit_id"], p["customers"], p["customer_minutes"]) for p in parts} == {
        ("C1", Decimal(8), Decimal(40)), ("C2", Decimal(2), Decimal(10))
    }  # fmt: skip


def test_the_final_state_counts_and_a_cancelled_one_takes_the_outage_back(spark: SparkSession) -> None:
    network = points(spark, ("S1", "T1", "C1", "N"))
    began, end = "2025-03-01 10:00", "2025-03-01 11:00"
    told = states(
        spark,
        step("O1", "1", "circuit", "C1", began, end, updated_at=at("2025-03-01 11:05")),
        step("O1", "1", "circuit", "C1", began, None),
        step("O1", "1", "circuit", "C1", began, "2025-03-01 11:30", updated_at=at("2025-03-02 08:00")),
        step("O2", "1", "circuit", "C1", "2025-03-03 10:00", "2025-03-03 11:00", _batch_id=2),
        step("O2", "1", "circuit", "C1", "2025-03-03 10:00", "2025-03-03 12:00"),
        step("O3", "1", "circuit", "C1", "2025-03-04 10:00", None),
        step("O3", "1", "circuit", "C1", "2025-03-04 10:00", None, status="cancelled"),
        step("O4", "1", "circuit", "C1", "2025-03-01 11:29", "2025-03-01 11:40"),
        step("O5", "1", "circuit", "C1", "2025-03-01 11:40", "2025-03-01 11:50"),
    )
    rows = {f["outage_id"]: f for f in facts(spark, told, network).collect()}
    assert {k: f["minutes"] for k, f in rows.items()} == {"O1": 90, "O2": 60, "O4": 11, "O5": 10}
    assert {k for k, f in rows.items() if "overlapping" in f["quality_flags"]} == {"O1", "O4"}


def sums(parts: DataFrame) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Measures by month and circuit, nothing left out."""
    rows = r.numerators(parts.withColumn("is_major", F.lit(False))).where("exclusions = 'none'").collect()
    return {(str(row["month"])[:7], row["circuit_id"]): tuple(float(row[n]) for n in r.MEASURES) for row in rows}


def test_who_is_out_already_is_not_interrupted_again(spark: SparkSession) -> None:
    """A feeder is out from 10 to 14, a transformer on it from 12 to 16: its two points are out once, for six hours."""
    network = points(spark, ("S1", "T1", "C1", "N"), ("S2", "T1", "C1", "N"), ("S3", "T2", "C1", "N"), ("S4", "T3", "C2", "N"))
    feeder = step("O1", "1", "feeder", "F", "2025-03-31 10:00", "2025-03-31 14:00")
    nested = step("O2", "1", "transformer", "T1", "2025-03-31 12:00", "2025-03-31 16:00")
    parts, hit = whole(states(spark, feeder, nested), network)
    assert sums(parts) == {("2025-03", "C1"): (3, 240 + 2 * 360, 0, 0), ("2025-03", "C2"): (1, 240, 0, 0)}
    rows = {h["service_point_id"]: (h["outage_id"], h["minutes"], h["is_momentary"]) for h in hit.collect()}
    assert rows == {"S1": ("O1", 360, False), "S2": ("O1", 360, False), "S3": ("O1", 240, False), "S4": ("O1", 240, False)}
    days = r.daily_saidi(parts, r.served_by_day(network, day("2025-03-31"), day("2025-04-01"))).collect()
    assert [d["saidi"] for d in days] == [(2 * 240 + 2 * 360) / 4]
    # the customers that the source states are shared out over those who were not out yet: two thirds of nine on the circuit
    stated = step("O3", "1", "circuit", "C1", "2025-03-31 15:00", "2025-03-31 17:00", customers_interrupted=9)
    alone = step("O2", "1", "transformer", "T2", "2025-03-31 14:30", "2025-03-31 16:00")
    parts, _ = whole(states(spark, alone, stated), network)
    assert sums(parts) == {("2025-03", "C1"): (1 + 6, 150 + 6 * 120, 0, 0)}


def test_an_interruption_belongs_to_the_step_that_began_it(spark: SparkSession) -> None:
    """Over the end of a month, by way of a third outage; touching is no overlap; two momentary ones may be a sustained one."""
    network = points(spark, ("S1", "T1", "C1", "N"), ("S2", "T2", "C2", "S"))
    told = states(
        spark,
        step("O1", "1", "circuit", "C1", "2025-03-31 23:00", "2025-04-01 02:00", planned=True),
        step("O2", "1", "transformer", "T1", "2025-04-01 01:00", "2025-04-01 04:00"),
        step("O3", "1", "service_point", "S1", "2025-04-01 03:00", "2025-04-01 03:02"),
        step("O4", "1", "feeder", "F", "2025-04-01 03:30", "2025-04-01 05:00"),
        step("O5", "1", "circuit", "C1", "2025-04-01 05:00", "2025-04-01 05:10"),
        step("O6", "1", "circuit", "C2", "2025-04-02 10:00", "2025-04-02 10:04"),
        step("O7", "1", "transformer", "T2", "2025-04-02 10:03", "2025-04-02 10:07"),
    )
    parts, hit = whole(told, network)
    assert sums(parts) == {
        ("2025-03", "C1"): (1, 360, 0, 0), ("2025-04", "C1"): (1, 10, 0, 0), ("2025-04", "C2"): (2, 90 + 7, 0, 0)
    }  # fmt: skip
    rows = sorted((h["service_point_id"], h["outage_id"], h["minutes"], h["planned"]) for h in hit.collect())
    assert rows == [("S1", "O1", 360, True), ("S1", "O5", 10, False), ("S2", "O4", 90, False), ("S2", "O6", 7, False)]


def test_one_that_nobody_closed_does_not_swallow_what_follows(spark: SparkSession) -> None:
    """What begins during another and is open makes the whole open; what is open lasts until its points are interrupted again."""
    network = points(spark, ("S1", "T1", "C1", "N"), ("S2", "T2", "C1", "N"))
    told = states(
        spark,
        step("O1", "1", "circuit", "C1", "2025-03-01 10:00", "2025-03-01 14:00"),
        step("O2", "1", "transformer", "T1", "2025-03-01 12:00", None),
        step("O3", "1", "transformer", "T1", "2025-03-20 12:00", "2025-03-20 13:00"),
    )
    assert sums(whole(told, network)[0]) == {("2025-03", "C1"): (3, 240 + 60, 1, 0)}


def test_an_estimated_restoration_is_none(spark: SparkSession) -> None:
    """One that ended, one that was expected to end, by a state told before; one that would have been momentary."""
    network = points(spark, ("S1", "T1", "C1", "N"))
    guessed = {"quality_flags": ["estimated_restoration"]}
    told = states(
        spark,
        step("O1", "1", "circuit", "C1", "2025-03-01 10:00", "2025-03-01 11:00", quality_flags=["no_cause"]),
        step("O2", "1", "circuit", "C1", "2025-03-02 10:00", "2025-03-02 13:00", **guessed),
        step("O3", "1", "circuit", "C1", "2025-03-03 10:00", "2025-03-03 10:05", **guessed),
    )
    made = facts(spark, told, network)
    rows = {f["outage_id"]: (f["is_open"], f["is_momentary"], f["minutes"], f["customer_minutes"]) for f in made.collect()}
    assert rows == {"O1": (False, False, 60, 60), "O2": (True, False, None, None), "O3": (True, False, None, None)}
    assert {f["outage_id"] for f in made.where("restored_at IS NOT NULL").collect()} == set(rows), "when it is expected stays"
    days = r.daily_saidi(dated(made), r.served_by_day(network, day("2025-03-01"), day("2025-03-04"))).collect()
    assert [(d["day"], d["saidi"]) for d in days] == [(day("2025-03-01"), 60.0)]


def test_what_is_restored_after_the_day_is_open_as_of_it(spark: SparkSession) -> None:
    """The first of March ends at 05:00 UTC in New York; a momentary one lies over its end, one begins after it."""
    network = points(spark, ("S1", "T1", "C1", "N"))
    told = states(
        spark,
        step("O1", "1", "circuit", "C1", "2025-03-01 10:00", "2025-03-02 05:00"),
        step("O2", "1", "circuit", "C1", "2025-03-01 11:00", "2025-03-02 05:30"),
        step("O3", "1", "circuit", "C1", "2025-03-01 12:58", "2025-03-01 13:02"),
        step("O4", "1", "circuit", "C1", "2025-03-01 23:58", "2025-03-02 05:00:01"),
        step("O5", "1", "circuit", "C1", "2025-03-02 10:00", "2025-03-02 11:00"),
        step("O6", "1", "circuit", "C1", "2025-03-01 14:00", None),
    )
    made = facts(spark, told, network)

    def known(date: str) -> dict[str, tuple[bool, bool, Any, Any]]:
        rows = known_by(made, day(date), "America/New_York").collect()
        return {f["outage_id"]: (f["is_open"], f["is_momentary"], f["minutes"], f["customer_minutes"]) for f in rows}

    still = (True, False, None, None)
    ended = {"O1": (False, False, 1140, 1140), "O3": (False, True, 4, 4)}
    assert known("2025-03-01") == ended | {"O2": still, "O4": still, "O6": still}
    later = known("2025-03-02")
    assert {n for n, row in later.items() if row == still} == {"O6"} and set(later) == {f"O{n}" for n in range(1, 7)}


# -- the scorecard -------------------------------------------------------------------------------------------------------


def test_the_scorecard_adds_up_numerators_and_denominators(spark: SparkSession) -> None:
    """Two circuits, thirteen months of 100 minutes each and 30 days; the running month has two days."""
    names = ("period", "date_key", "exclusions", "days", "customer_interruptions", "customer_minutes", "momentary_interruptions",
             "service_point_days", "service_point_hours", "service_points_at_end", "cemi_customers",
             "celid_customers")  # fmt: skip
    months = [(f"{2024 + n // 12}-{n % 12 + 1:02}", (2024 + n // 12) * 10_000 + (n % 12 + 1) * 100 + 1) for n in range(13)]
    rows = [(*m, "none", d, 1, 100, 2, d * points, d * points * 24, points, 1, 0)
            for m, d in zip(months, [30] * 12 + [2], strict=True) for points in (4, 6)]  # fmt: skip
    kinds = ("string", "int", "string", *["int"] * 9)
    frame = local_frame(spark, rows, ", ".join(f"{n} {k}" for n, k in zip(names, kinds, strict=True)))
    found = scorecard(spans(frame), {"saidi": 239.0, "asai": 0.9}, "none", day("2025-01-31")).collect()
    told = {(f["metric_code"], f["span"]): (f["numerator"], f["denominator"], f["value"], f["target"], f["met"], f["months"])
            for f in found if f["period"] == "2025-01"}  # fmt: skip
    assert told["saidi", "month"] == (200, 10, 20, None, None, 1)
    assert told["saidi", "twelve_months"] == (2_400, 10, 240, 239, False, 12)
    assert told["saifi", "twelve_months"][:3] == (24, 10, Decimal("2.4"))
    assert told["caidi", "twelve_months"][:3] == (2_400, 24, 100)
    hours = (11 * 30 + 2) * 10 * 24
    assert told["asai", "twelve_months"][:2] == (hours - 40, hours) and told["asai", "twelve_months"][4] is True
    assert told["cemi", "twelve_months"][:3] == (2, 10, Decimal("0.2")) and ("cemi", "month") not in told
    running = scorecard(spans(frame), {"saidi": 239.0}, "none", day("2025-01-02")).where("target IS NOT NULL").collect()
    assert {f["period"]: f["met"] for f in running if f["months"] == 12} == {"2024-12": False, "2025-01": None}, "not over yet"
    assert {f["met"] for f in running if f["months"] < 12} == {None}, "judged would be one month as a year"


def test_a_service_point_that_moves_is_looked_at_from_its_move_on(spark: SparkSession) -> None:
    old = points(spark, ("S1", "T1", "C1", "N"), ("S2", "T1", "C1", "N"), ("S3", "T1", "C1", "N"))
    moved = day("2025-03-15")
    new = points(
        spark, ("S1", "T1", "C1", "N"), ("S2", "T1", "C1", "N", "active", day("2000-01-01"), moved), ("S3", "T1", "C1", "S"),
        ("S2", "T1", "C2", "N", "active", moved, OPEN),
    )  # fmt: skip
    rows = {(f["service_point_id"], f["circuit_id"], f["district"]): (f["effective_date"], f["expiry_date"])
            for f in moved_points(old, new).collect()}  # fmt: skip
    always = (day("2000-01-01"), OPEN)
    assert rows == {("S2", "C1", "N"): (moved, OPEN), ("S2", "C2", "N"): (moved, OPEN), ("S3", "C1", "N"): always,
                    ("S3", "C1", "S"): always}  # fmt: skip
    assert moved_points(old, old).isEmpty()


# -- who was served ------------------------------------------------------------------------------------------------------


def test_served_by_month_on_days_of_23_hours_and_between_circuits(spark: SparkSession) -> None:
    network = points(
        spark, ("S1", "T1", "C1", "N", "active", day("2025-01-01"), day("2025-03-11")),
        ("S1", "T1", "C2", "N", "active", day("2025-03-11"), OPEN), ("S2", "T1", "C2", None),
        ("S3", "T1", "C1", "N", "active", day("2025-03-31"), OPEN), ("S4", "T1", "C1", "N", "disconnected"),
    )  # fmt: skip
    found = r.served_by_month(network, day("2025-02-01"), day("2025-04-01"), "America/New_York").collect()
    rows = {(str(f["month"])[:7], f["district"], f["circuit_id"]):
            (f["service_point_days"], float(f["service_point_hours"]), f["service_points_at_end"]) for f in found}  # fmt: skip
    assert rows == {
        ("2025-02", "N", "C1"): (28, 672.0, 1), ("2025-02", "?", "C2"): (28, 672.0, 1),
        ("2025-03", "N", "C1"): (11, 263.0, 1), ("2025-03", "N", "C2"): (21, 504.0, 1),
        ("2025-03", "?", "C2"): (31, 743.0, 1),
    }  # fmt: skip
    daily = {f["day"]: f["points"] for f in r.served_by_day(network, day("2025-03-30"), day("2025-04-01")).collect()}
    assert daily == {day("2025-03-30"): 2, day("2025-03-31"): 3}


def test_cemi_and_celid_look_back_over_twelve_months(spark: SparkSession) -> None:
    network = points(spark, ("S1", "T1", "C1", "N", "active", day("2020-01-01"), day("2025-03-15")),
                     ("S1", "T1", "C2", "N", "active", day("2025-03-15"), OPEN), ("S2", "T1", "C1", "N"))  # fmt: skip
    rows = [("S1", "2024-03-31", 60, False), ("S1", "2024-04-01", 60, False), ("S1", "2025-03-02", 60, False),
            ("S2", "2025-03-02", 419, False), ("S2", "2025-03-03", 420, True), ("S2", "2025-02-03", None, False)]  # fmt: skip
    hit = local_frame(spark, [(p, day(d), m, major) for p, d, m, major in rows],
                      "service_point_id string, started_date date, minutes int, is_major boolean")  # fmt: skip
    hit = hit.withColumns({n: F.lit(False) for n in ("is_momentary", "planned", "loss_of_supply")})
    months = local_frame(spark, [(day("2025-02-01"), day("2025-02-28")), (day("2025-03-01"), day("2025-03-31"))],
                         "month date, last_day date")  # fmt: skip
    found = r.worst_served(hit, network, months, cemi=2, celid_hours=7.0).collect()
    rows_told = {
        (str(f["month"])[:7], f["circuit_id"], f["exclusions"]): (f["cemi_customers"], f["celid_customers"]) for f in found
    }
    everywhere = {("2025-02", "C1"): (1, 0), ("2025-03", "C2"): (1, 0)}  # S1: March 2024 counts in February, no longer in March
    wanted = {(*k, e): v for k, v in everywhere.items() for e in r.EXCLUSIONS}
    wanted |= {("2025-03", "C1", e): (1, 0 if "major" in e else 1) for e in r.EXCLUSIONS}
    assert rows_told == wanted

"""Steps as a graph: what a selection means, what runs at once, how it is drawn."""

from __future__ import annotations

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.graph import PUBLISH, Step, drawn, edges, pattern_of, select, waves


def step(name: str, *inputs: str) -> Step:
    return Step(name, inputs, name, lambda _: None)


STEPS = [
    step("bronze.crm", "landing.crm"), step("bronze.daily", "landing.daily"),
    step("silver.customers", "bronze.crm"), step("silver.reads", "bronze.daily"),
    step("gold.dim_date"), step("gold.dim_customer", "silver.customers", "silver.reads"), step("gold.dim_meter", "silver.reads"),
    step("gold.fact_usage", "silver.reads", "gold.dim_customer", "gold.dim_meter", "gold.dim_date"),
]  # fmt: skip
GOLD = [s.name for s in STEPS if s.name.startswith("gold.")]
ALL = [*(s.name for s in STEPS), PUBLISH]


def chosen(*words: str) -> list[str]:
    return select(STEPS, words, GOLD)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("gold.dim_meter", ["gold.dim_meter"]),
        ("bronze", ["bronze.crm", "bronze.daily"]),
        ("publish", [PUBLISH]),
        ("gold.dim_*", ["gold.dim_date", "gold.dim_customer", "gold.dim_meter"]),
        ("+silver.reads", ["bronze.daily", "silver.reads"]),
        ("+gold.fact_usage", ALL[:-1]),
        ("1+gold.fact_usage", ["silver.reads", *GOLD]),
        ("2+gold.dim_meter", ["bronze.daily", "silver.reads", "gold.dim_meter"]),
        ("silver.customers+", ["silver.customers", "gold.dim_customer", "gold.fact_usage", PUBLISH]),
        ("silver.customers+1", ["silver.customers", "gold.dim_customer"]),
        ("1+gold.dim_meter+1", ["silver.reads", "gold.dim_meter", "gold.fact_usage", PUBLISH]),
        ("+silver+", ALL[:4] + ALL[5:]),  # the calendar needs nothing of silver, and silver nothing of it
    ],
)
def test_a_word_means_steps(word: str, wanted: list[str]) -> None:
    assert chosen(word) == wanted


@pytest.mark.parametrize(
    ("word", "told"),
    [("gold.a", "gold.a"), ("+gold.a", "gold.a"), ("2+gold.a+10", "gold.a"), ("gold.a*+", "gold.a*"), ("gold", "gold"),
     ("0+gold.a", ""), ("a++b", ""), ("", "")],
)  # fmt: skip
def test_what_a_word_names(word: str, told: str) -> None:
    assert pattern_of(word) == told


def test_nothing_wanted_is_everything_and_words_add_up_in_the_order_of_the_steps() -> None:
    assert chosen() == ALL
    assert chosen("gold.dim_meter", "bronze") == ["bronze.crm", "bronze.daily", "gold.dim_meter"]


def test_extracts_are_a_layer_that_need_not_be_there() -> None:
    asking = [Step("extract.crm", (), "landing.crm", lambda _: None), Step("extract.desk", (), "landing.desk", lambda _: None)]
    assert select([*asking, *STEPS], ["extract"], GOLD) == ["extract.crm", "extract.desk"]
    assert select([*asking, *STEPS], ["+bronze.crm"], GOLD) == ["extract.crm", "bronze.crm"]
    assert chosen("extract", "bronze") == ["bronze.crm", "bronze.daily"]
    assert chosen("extract") == []
    assert waves([*asking, *STEPS[:2]]) == [
        {"extract.crm": (), "extract.desk": ()}, {"bronze.crm": ()}, {"bronze.daily": ()},
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["gold.fact_usag", "+gold.fact_usag", "0+gold.fact_usage", "gold.dim_x*", "+", "", "a++b"])
def test_a_word_that_means_nothing_is_an_error(word: str) -> None:
    with pytest.raises(UtilityFlowError, match="UF-1004|there is no step") as wrong:
        chosen(word)
    assert wrong.value.code == "UF-1004"
    if "usag" in word:
        assert "gold.fact_usage" in str(wrong.value.hint)


def test_the_publication_reads_what_is_published_and_bronze_nothing_that_a_step_makes() -> None:
    found = edges(STEPS, ["gold.fact_usage", "gold.elsewhere"])
    assert found[PUBLISH] == ("gold.fact_usage",)
    assert found["bronze.crm"] == ()


def test_steps_wait_for_what_they_read_and_bronze_for_the_step_before() -> None:
    bronze, silver = [{"bronze.crm": ()}, {"bronze.daily": ()}], {"silver.customers": (), "silver.reads": ()}
    dims = {"gold.dim_date": (), "gold.dim_customer": ("silver.customers", "silver.reads"), "gold.dim_meter": ("silver.reads",)}
    fact = ("gold.dim_customer", "gold.dim_meter", "gold.dim_date")
    assert waves(STEPS) == [*bronze, {**silver, **dims, "gold.fact_usage": ("silver.reads", *fact)}]
    alone = {**dict.fromkeys(dims, ()), "gold.fact_usage": fact}
    assert waves(STEPS, apart=False) == [*bronze, {"silver.customers": ()}, {"silver.reads": ()}, alone]


def test_it_is_drawn_as_text_and_as_mermaid() -> None:
    lines = drawn(STEPS, GOLD, "text").splitlines()
    assert lines[0] == "bronze.crm         <- landing.crm"
    assert lines[4] == "gold.dim_date"
    assert lines[-1].split(" <- ")[1] == "gold.dim_date, gold.dim_customer, gold.dim_meter, gold.fact_usage"
    chart = drawn(STEPS, GOLD, "mermaid", ["silver.reads", "gold.dim_meter"]).splitlines()
    assert chart == ["flowchart LR", "  subgraph silver", '    silver__reads["reads"]', "  end",
                     "  subgraph gold", '    gold__dim_meter["dim_meter"]', "  end",
                     "  silver__reads --> gold__dim_meter"]  # fmt: skip

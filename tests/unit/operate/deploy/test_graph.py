"""The jobs of a schedule follow from the declared steps and the job files, and agree with ``plan``."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from utilityflow import pipeline
from utilityflow.errors import UtilityFlowError
from utilityflow.operate import plan
from utilityflow.operate.deploy.expected import Expected
from utilityflow.operate.deploy.graph import chain, in_order, job_files, options, read, reduced
from utilityflow.settings import load_settings

STEPS = pipeline.graph(pipeline.read_feeds(load_settings(environ={})))


def job(words: str) -> str:
    head = '"""A job."""\nimport sys\nfrom utilityflow.cli import main\n'
    return f'{head}if __name__ == "__main__":\n    sys.exit(main([{words}]))\n'


def test_the_chain_is_the_walk(expected: Expected) -> None:
    told = {j.name: expected.chain.waits_for(j.name) for j in expected.chain.jobs}
    assert told == {
        "ingest_bronze": [],
        "conform_silver": ["ingest_bronze"],
        "build_gold": ["conform_silver"],
        "publish_warehouse": ["build_gold"],
        "verify_lakehouse": ["publish_warehouse"],
    }
    assert list(told) == ["ingest_bronze", "conform_silver", "build_gold", "publish_warehouse", "verify_lakehouse"]


def test_every_job_file_is_in_the_chain_but_the_one_that_runs_all(expected: Expected, repository: Path) -> None:
    files = {p.stem: p.read_text("utf-8") for p in (repository / "jobs").glob("*.py")}
    assert job_files() == files
    assert set(files) - {j.name for j in expected.chain.jobs} == {"run_all"}


def test_the_steps_are_those_of_plan(expected: Expected, tmp_path: Path, repository: Path) -> None:
    (tmp_path / "landing").mkdir()
    places = {"home": str(tmp_path / "home"), "landing": str(tmp_path / "landing"), "feeds": str(repository / "conf" / "feeds")}
    settings = load_settings(places, environ={})  # a folder that is named: none of its feeds sleeps
    planned = [s["step"] for s in plan.plan(settings)["steps"]]
    assert [step for j in expected.chain.jobs for step in j.steps] == planned


def test_a_job_comes_after_every_job_that_makes_what_it_reads(expected: Expected) -> None:
    place = {step: number for number, j in enumerate(expected.chain.jobs) for step in j.steps}
    maker = {s.output: s.name for s in STEPS}
    between = 0
    for step in STEPS:
        for name in step.inputs:
            if name in maker:
                assert place[maker[name]] <= place[step.name]
                between += place[maker[name]] < place[step.name]
    assert between > 3, "no step reads over the border of two jobs, so nothing was checked"


def test_another_cut_of_the_same_steps_gives_another_chain(parser: argparse.ArgumentParser) -> None:
    texts = {
        "a": job('"run", "--select", "bronze", "gold.dim_date"'),
        "b": job('"run", "--select", "silver.customers"'),
        "c": job('"run", "--select", "silver.meter_reads"'),
        "d": job('"run", "--select", "gold.dim_customer", "gold.dim_meter", "gold.fact_usage", "publish"'),
    }
    assert chain(STEPS, parser, texts).edges == {("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {
                "a": job('"run", "--select", "bronze", "silver"'),
                "b": job('"run", "--select", "silver", "gold", "publish"'),
            },
            "is run by a, b",
        ),
        (
            {"a": job('"run", "--select", "bronze", "silver"'), "b": job('"run", "--select", "gold"')},
            "publish.duckdb is run by no job",
        ),
        (
            {"a": job('"run", "--select", "bronze", "gold"'), "b": job('"run", "--select", "silver", "publish"')},
            "wait for each other",
        ),
        ({"a": job('"run", "--select", "brnze"')}, "there is no step 'brnze'"),
        ({"a": job('"run", "--selekt", "bronze"')}, "jobs/a.py: .*--selekt"),
        ({"a": job('"maintain"')}, "jobs/a.py runs 'maintain'"),
        ({"a": "print('hello')"}, "jobs/a.py is not one call of main"),
        ({"a": "def ("}, "jobs/a.py is not one call of main"),
    ],
)
def test_jobs_that_do_not_fit_the_steps_are_refused(
    parser: argparse.ArgumentParser, texts: dict[str, str], message: str
) -> None:
    with pytest.raises(UtilityFlowError, match=message):
        chain(STEPS, parser, texts)


def test_edges_that_follow_from_others_are_left_out() -> None:
    assert reduced({("c", "b"), ("b", "a"), ("c", "a")}) == {("c", "b"), ("b", "a")}
    assert reduced({("d", "b"), ("d", "c"), ("b", "a"), ("c", "a"), ("d", "a")}) == {
        ("d", "b"),
        ("d", "c"),
        ("b", "a"),
        ("c", "a"),
    }


def test_a_cycle_has_no_order() -> None:
    assert in_order(["a", "b"], {("a", "b"), ("b", "a")}) is None
    assert in_order(["a", "b"], {("a", "b")}) == ["b", "a"]


def test_options_are_those_of_the_parser(parser: argparse.ArgumentParser) -> None:
    assert options(parser, "run")["--as-of"] is True
    assert "--as-of" not in options(parser, "verify")
    assert options(parser, "verify")["--json"] is False


def test_the_words_and_the_docstring_of_a_job_are_read(parser: argparse.ArgumentParser) -> None:
    one = read("x", job('"run", "--select", "gold.dim_date"'), STEPS, parser)
    assert (one.words, one.about, one.steps) == (("run", "--select", "gold.dim_date"), "A job.", ("gold.dim_date",))
    assert (one.reads, one.writes) == (frozenset(), frozenset({"gold.dim_date"}))

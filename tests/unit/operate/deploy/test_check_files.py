"""Deployment files that are missing, or no longer what their names say, are found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from utilityflow.operate.deploy import deploy
from utilityflow.operate.deploy.expected import Expected

BUNDLE = "databricks/databricks.yml"
JOB = "databricks/resources/utilityflow.job.yml"
SYNAPSE = "synapse/pipeline/utilityflow.json"
SPARK = "synapse/sparkJobDefinition/utilityflow_build_gold.json"
ADF = "adf/pipeline/utilityflow.json"
SERVICE = "adf/linkedService/utilityflow_databricks.json"


def broken(files: dict[str, str]) -> Iterator[tuple[dict[str, str], str, str]]:
    """Files that are missing or no longer what they are called: the files, which is told, and the words."""
    yield {n: t for n, t in files.items() if n != "databricks/jobs/build_gold.py"}, JOB, "jobs/build_gold.py is missing"
    yield (
        {n: t for n, t in files.items() if n != "synapse/jobs/build_gold.py"},
        SYNAPSE,
        "jobs/build_gold.py is missing",
    )
    yield files | {"synapse/jobs/build_gold.py": "print()"}, SYNAPSE, "is not the job file of this version"
    yield {n: t for n, t in files.items() if n != "databricks/run_job.py"}, "databricks/run_job.py", "is missing"
    yield {n: t for n, t in files.items() if n != BUNDLE}, BUNDLE, "the file is missing"
    yield {n: t for n, t in files.items() if n != JOB}, "databricks/resources/", "holds 0 jobs"
    yield (
        {n: t for n, t in files.items() if n != SPARK},
        SYNAPSE,
        "there is no Spark job definition 'utilityflow_build_gold'",
    )
    yield {n: t for n, t in files.items() if n != SERVICE}, "adf/linkedService/", "holds no file"
    yield files | {"synapse/pipeline/second.json": files[SYNAPSE]}, "synapse/pipeline/", "more than one pipeline"
    yield files | {"adf/dataset/x.json": "{}"}, "adf/dataset/x.json", "no such kind of file"
    yield files | {ADF: files[ADF].replace("{", "", 1)}, ADF, "not valid JSON"
    yield files | {ADF: files[ADF].replace('"name"', '"name": "x", "name"', 1)}, ADF, "key 'name' stands twice"
    yield files | {JOB: files[JOB] + "\tx: 1\n"}, JOB, "not valid YAML"
    yield files | {JOB: files[JOB] + "# dapi" + "0123456789abcdef" * 2 + "\n"}, JOB, "looks like a Databricks token"
    yield (
        files | {"databricks/jobs/build_gold.py": "K = 'AccountKey" + "=abc'"},
        "databricks/jobs/build_gold.py",
        "looks like an account key",
    )


def test_files_that_are_missing_or_broken_are_found(files: dict[str, str], expected: Expected) -> None:
    for number, (changed_files, name, message) in enumerate(broken(files)):
        found = deploy.findings(changed_files, expected)
        assert any(f.file == name and message in f.message for f in found), (number, [str(f) for f in found])


def test_each_platform_can_be_checked_alone(files: dict[str, str], expected: Expected) -> None:
    for platform in ("databricks", "synapse", "adf"):
        own = {n: t for n, t in files.items() if n.startswith(f"{platform}/")}
        assert deploy.findings(own, expected) == []


@pytest.mark.parametrize("seed", range(2))
def test_whatever_stands_in_a_file_is_judged_and_never_a_crash(
    changed: Callable[[str, Callable[[Any], Any]], dict[str, str]], files: dict[str, str], expected: Expected, seed: int
) -> None:
    chance = random.Random(seed)
    odd: list[Any] = [None, [], {}, "x", 7, True, [{}], {"a": None}]

    def spoil(value: Any) -> None:
        while True:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            key = chance.choice(keys)
            if not isinstance(value[key], dict | list) or not value[key] or chance.random() < 0.2:
                value[key] = chance.choice(odd)
                return
            value = value[key]

    names = [name for name in files if name.endswith((".yml", ".json"))]
    for _ in range(15):
        deploy.findings(changed(chance.choice(names), spoil), expected)


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "x", "{}"])
def test_a_file_of_another_kind_is_told(files: dict[str, str], expected: Expected, text: str) -> None:
    for name in (BUNDLE, JOB, SYNAPSE, SPARK, ADF, SERVICE):
        assert any(f.file == name for f in deploy.findings(files | {name: text}, expected)), (name, text)

"""What is rendered: the same each time, complete, and held by its own check."""

from __future__ import annotations

import dataclasses
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from utilityflow import __version__
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.deploy import deploy
from utilityflow.operate.deploy.conf import Deployment, read
from utilityflow.operate.deploy.databricks import STARTER
from utilityflow.operate.deploy.expected import Expected
from utilityflow.operate.deploy.graph import options

CHAIN = ["ingest_bronze", "conform_silver", "build_gold", "publish_warehouse", "verify_lakehouse"]


def changed(conf: Deployment, **sections: dict[str, Any] | str) -> Deployment:
    values = {n: dataclasses.replace(getattr(conf, n), **v) if isinstance(v, dict) else v for n, v in sections.items()}
    return dataclasses.replace(conf, **values)  # type: ignore[arg-type]


def job_of(files: dict[str, str]) -> dict[str, Any]:
    loaded = yaml.safe_load(files["databricks/resources/utilityflow.job.yml"])
    return loaded["resources"]["jobs"]["utilityflow"]  # type: ignore[no-any-return]


def test_rendering_is_deterministic_and_passes_its_own_check(expected: Expected, rendered: dict[str, str]) -> None:
    assert deploy.rendered(read(), expected) == rendered
    assert deploy.findings(rendered, expected) == []
    assert {name.partition("/")[0] for name in rendered} == {"databricks", "synapse", "adf"}


def test_all_platforms_have_the_same_graph(expected: Expected, rendered: dict[str, str]) -> None:
    tasks = {t["task_key"]: [d["task_key"] for d in t.get("depends_on", [])] for t in job_of(rendered)["tasks"]}
    synapse = json.loads(rendered["synapse/pipeline/utilityflow.json"])["properties"]["activities"]
    activities = {a["name"]: [d["activity"] for d in a["dependsOn"]] for a in synapse}
    declared = {j.name: expected.chain.waits_for(j.name) for j in expected.chain.jobs}
    assert tasks == activities == declared
    assert list(tasks) == list(activities) == CHAIN
    (only,) = json.loads(rendered["adf/pipeline/utilityflow.json"])["properties"]["activities"]
    assert only["type"] == "DatabricksJob"  # its graph is the job's


def test_one_run_at_a_time_and_one_scheduler(rendered: dict[str, str]) -> None:
    job = job_of(rendered)
    assert (job["max_concurrent_runs"], job["queue"], job["schedule"]["pause_status"]) == (
        1,
        {"enabled": False},
        "UNPAUSED",
    )
    bundle = yaml.safe_load(rendered["databricks/databricks.yml"])
    assert bundle["targets"]["dev"]["presets"] == {"jobs_max_concurrent_runs": 1}
    for platform in ("synapse", "adf"):
        assert json.loads(rendered[f"{platform}/pipeline/utilityflow.json"])["properties"]["concurrency"] == 1
        trigger = json.loads(rendered[f"{platform}/trigger/utilityflow_schedule.json"])["properties"]
        assert trigger["runtimeState"] == "Stopped"
        assert trigger["typeProperties"]["recurrence"]["timeZone"] == "Eastern Standard Time"


def test_the_date_goes_to_every_job_that_takes_one(expected: Expected, rendered: dict[str, str]) -> None:
    takes = {j.name for j in expected.chain.jobs if "--as-of" in options(expected.parser, j.command)}
    assert takes == set(CHAIN) - {"verify_lakehouse"}
    words = {t["task_key"]: t["spark_python_task"]["parameters"] for t in job_of(rendered)["tasks"]}
    assert {name for name, given in words.items() if "--as-of" in given} == takes
    assert all(
        given[given.index("--as-of") + 1] == "{{job.parameters.as_of}}" for n, given in words.items() if n in takes
    )
    activities = json.loads(rendered["synapse/pipeline/utilityflow.json"])["properties"]["activities"]
    assert {a["name"] for a in activities if "--as-of" in a["typeProperties"]["args"]} == takes


def test_what_writes_nothing_is_not_tried_again(rendered: dict[str, str]) -> None:
    assert {t["task_key"]: t["max_retries"] for t in job_of(rendered)["tasks"]} == dict.fromkeys(CHAIN, 1) | {
        "verify_lakehouse": 0
    }


def test_files_hold_no_path_of_this_machine_and_name_this_version(repository: Path, rendered: dict[str, str]) -> None:
    text = "\n".join(rendered.values())
    assert str(repository) not in text
    assert str(Path.home()) + "/" not in text.replace("/root_path", "")
    assert f"utilityflow-{__version__}-py3-none-any.whl" in text
    assert f"utilityflow-{__version__}.zip" in text


def test_another_scheduler(expected: Expected) -> None:
    files = deploy.rendered(changed(read(), scheduler="adf"), expected)
    assert job_of(files)["schedule"]["pause_status"] == "PAUSED"
    assert json.loads(files["adf/trigger/utilityflow_schedule.json"])["properties"]["runtimeState"] == "Started"


def test_a_trigger_for_a_home_that_is_an_address_is_refused(expected: Expected) -> None:
    with pytest.raises(UtilityFlowError, match="UF-1020: synapse/.*is an address"):
        deploy.rendered(changed(read(), scheduler="synapse"), expected)
    lake = {"home": "abfss://lake@x.dfs.core.windows.net/home", "landing": "/Volumes/landing"}
    conf = read()
    afar = dataclasses.replace(conf.databricks.prod, **lake)
    with pytest.raises(
        UtilityFlowError, match=r"UF-1020: databricks/databricks.yml:\d+ targets.prod.variables.home: .*is an address"
    ):
        deploy.rendered(changed(conf, scheduler="adf", databricks={"prod": afar}), expected)
    paths = changed(read(), scheduler="synapse", synapse={"home": "/lake/home", "landing": "/lake/landing"})
    assert deploy.rendered(paths, expected, ["synapse"])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"cron": "0 30 4 * *"}, "'0 30 4 * *' is no Quartz expression: has 5 fields"),
        (
            {"cron": "0 30 4 * * ?", "time_zone": "Australia/Sydney"},
            "at 04:30 in Australia/Sydney UTC has another date",
        ),
    ],
)
def test_a_schedule_that_databricks_cannot_keep_is_refused(
    expected: Expected, section: dict[str, str], message: str
) -> None:
    with pytest.raises(UtilityFlowError) as failure:
        deploy.rendered(changed(read(), schedule=section), expected, ["databricks"])
    assert failure.value.code == "UF-1020"
    assert message in str(failure.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"cron": "0 0 4 15W * ?"}, "a recurrence has no form for '15W'"),
        ({"cron": "10 0 4 * * ?"}, "full minutes"),
        ({"cron": "0 30 2 * * ?"}, "America/New_York has no 2020-03-08 02:30"),
        ({"time_zone": "Antarctica/Troll"}, "Antarctica/Troll has no Windows name"),
    ],
)
def test_a_schedule_that_azure_cannot_say_is_refused(expected: Expected, section: dict[str, str], message: str) -> None:
    with pytest.raises(UtilityFlowError, match=message):
        deploy.rendered(changed(read(), schedule=section), expected, ["adf"])


def test_sydney_is_no_trouble_for_azure(expected: Expected) -> None:
    files = deploy.rendered(changed(read(), schedule={"time_zone": "Australia/Sydney"}), expected, ["adf"])
    assert "'AUS Eastern Standard Time', 'yyyy-MM-dd'" in files["adf/trigger/utilityflow_schedule.json"]


@pytest.mark.parametrize(("end", "fails"), [("sys.exit(0)", False), ("sys.exit(None)", False), ("pass", False),
                                            ("sys.exit(3)", True), ("sys.exit('words')", True), ("1 / 0", True)])  # fmt: skip
def test_the_starter_lets_only_failures_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, fails: bool
) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        f"import sys\nfrom pathlib import Path\nPath(sys.argv[0] + '.args').write_text(' '.join(sys.argv[1:]))\n{end}\n"
    )
    starter = tmp_path / "run_job.py"
    starter.write_text(STARTER)
    monkeypatch.setattr(sys, "argv", ["run_job.py", str(job), "--home", "h"])
    if fails:
        with pytest.raises((RuntimeError, ZeroDivisionError)):
            runpy.run_path(str(starter), run_name="__main__")
    else:
        runpy.run_path(str(starter), run_name="__main__")
    assert (tmp_path / "job.py.args").read_text() == "--home h"

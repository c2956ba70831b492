"""Each guard of the bundle's check is shown to fail: one change of a good file, one finding that names file and place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from utilityflow.operate.deploy import deploy
from utilityflow.operate.deploy.expected import Expected

BUNDLE = "databricks/databricks.yml"
JOB = "databricks/resources/utilityflow.job.yml"
Change = Callable[[Any], Any]
Found = Callable[[str, Change, str, str], None]


def job(of: Any) -> Any:
    return of["resources"]["jobs"]["utilityflow"]


def task(of: Any, number: int) -> Any:
    return job(of)["tasks"][number]


def words(of: Any, number: int) -> Any:
    return task(of, number)["spark_python_task"]["parameters"]


def put(at: Any, **values: Any) -> None:
    at.update(values)


# what is changed, how, in which file and at which key it is found, with which words
MUTATIONS: dict[str, tuple[str, Change, str, str]] = {
    # -- Databricks: the graph
    "dangling depends_on": (
        JOB,
        lambda f: put(task(f, 2), depends_on=[{"task_key": "conform_sliver"}]),
        "tasks[2].depends_on[0].task_key",
        "waits for 'conform_sliver', which is not there (did you mean 'conform_silver'?)",
    ),
    "cycle": (
        JOB,
        lambda f: put(task(f, 0), depends_on=[{"task_key": "verify_lakehouse"}]),
        "tasks",
        "there is a cycle",
    ),
    "missing edge": (
        JOB,
        lambda f: task(f, 2).pop("depends_on"),
        "tasks[2].task_key",
        "'build_gold' must wait for 'conform_silver'",
    ),
    "extra edge": (
        JOB,
        lambda f: task(f, 3)["depends_on"].append({"task_key": "ingest_bronze"}),
        "tasks[3].depends_on[1].task_key",
        "need not wait for 'ingest_bronze'",
    ),
    "missing task": (JOB, lambda f: job(f)["tasks"].pop(), "tasks", "job 'verify_lakehouse' is missing"),
    "task twice": (
        JOB,
        lambda f: job(f)["tasks"].append(dict(task(f, 0))),
        "tasks[5].task_key",
        "'ingest_bronze' stands twice",
    ),
    "task of no job": (
        JOB,
        lambda f: put(task(f, 0), task_key="run_all"),
        "tasks[0].task_key",
        "there is no job 'run_all'",
    ),
    # -- Databricks: what is referred to
    "job file of another task": (
        JOB,
        lambda f: words(f, 0).__setitem__(0, "${workspace.file_path}/jobs/ingest.py"),
        "tasks[0].spark_python_task.parameters[0]",
        "must be ${workspace.file_path}/jobs/ingest_bronze.py",
    ),
    "no starter": (
        JOB,
        lambda f: put(task(f, 0)["spark_python_task"], python_file="../jobs/ingest_bronze.py"),
        "tasks[0].spark_python_task.python_file",
        "must be ../run_job.py",
    ),
    "unknown flag": (
        JOB,
        lambda f: words(f, 0).__setitem__(1, "--hom"),
        "tasks[0]",
        "'run' has no option --hom (did you mean '--home'?)",
    ),
    "flag of another command": (
        JOB,
        lambda f: words(f, 4).extend(["--as-of", "2026-01-01"]),
        "tasks[4]",
        "'verify' has no option --as-of",
    ),
    "value that the flag does not take": (
        JOB,
        lambda f: words(f, 0).__setitem__(6, "tomorrow"),
        "tasks[0]",
        "does not take these arguments",
    ),
    "flag without a value": (JOB, lambda f: words(f, 0).pop(), "tasks[0]", "does not take these arguments"),
    "date not passed": (JOB, lambda f: words(f, 1).__delitem__(slice(5, 7)), "tasks[1]", "--as-of is not passed"),
    "undeclared job parameter": (
        JOB,
        lambda f: job(f)["parameters"].pop(2),
        "tasks[0].spark_python_task.parameters[6]",
        "the job has no parameter 'as_of'",
    ),
    "undeclared variable": (
        JOB,
        lambda f: put(job(f)["job_clusters"][0]["new_cluster"], node_type_id="${var.node_typ}"),
        "job_clusters[0].new_cluster.node_type_id",
        "variable 'node_typ' is not declared (did you mean 'node_type'?)",
    ),
    "undeclared variable of a target": (
        BUNDLE,
        lambda f: put(f["targets"]["dev"]["variables"], hom="x"),
        "targets.dev.variables.hom",
        "variable 'hom' is not declared",
    ),
    "variable without a value": (
        BUNDLE,
        lambda f: f["targets"]["dev"]["variables"].pop("home"),
        "targets.dev",
        "variable 'home' has neither a default nor a value here",
    ),
    "dangling cluster": (
        JOB,
        lambda f: put(task(f, 1), job_cluster_key="mian"),
        "tasks[1].job_cluster_key",
        "there is no job cluster 'mian' (did you mean 'main'?)",
    ),
    "file that is not included": (BUNDLE, lambda f: put(f, include=["resources/*.yaml"]), "include[0]", "no file fits"),
    "wrong wheel": (
        JOB,
        lambda f: put(task(f, 1)["libraries"][0], whl="../dist/utilityflow-9.9.9-py3-none-any.whl"),
        "tasks[1].libraries[0].whl",
        "is version 9.9.9",
    ),
    "another wheel": (
        JOB,
        lambda f: put(task(f, 1)["libraries"][0], whl="../dist/other-1.0-py3-none-any.whl"),
        "tasks[1].libraries[0].whl",
        "is neither a wheel nor a zip of utilityflow",
    ),
    "another parameter": (
        JOB,
        lambda f: words(f, 0).__setitem__(2, "{{job.parameters.landing}}"),
        "tasks[0]",
        "which is another parameter",
    ),
    "a date that never moves": (
        JOB,
        lambda f: words(f, 0).__setitem__(6, "2026-01-01"),
        "tasks[0]",
        "must be the run's parameter",
    ),
    "a home for one task alone": (
        JOB,
        lambda f: words(f, 0).__setitem__(2, "/Volumes/other"),
        "tasks[0]",
        "--home is given '/Volumes/other'",
    ),
    "a default of another kind": (
        BUNDLE,
        lambda f: put(f["variables"]["workers"], default={}),
        "variables.workers.default",
        "must be a text or a number",
    ),
    "a default date that never moves": (
        JOB,
        lambda f: put(job(f)["parameters"][2], default="2026-01-01"),
        "parameters[2].default",
        "must be {{job.trigger.time.iso_date}}",
    ),
    "a date of another zone": (
        JOB,
        lambda f: put(job(f)["schedule"], timezone_id="America/Chicago"),
        "schedule.timezone_id",
        "is not America/New_York, the zone of the home",
    ),
    # -- Databricks: time, bounds, one run at a time
    "bad cron": (
        JOB,
        lambda f: put(job(f)["schedule"], quartz_cron_expression="30 4 * * *"),
        "schedule.quartz_cron_expression",
        "has 5 fields",
    ),
    "bad zone": (
        JOB,
        lambda f: put(job(f)["schedule"], timezone_id="America/Newyork"),
        "schedule.timezone_id",
        "is no IANA time zone",
    ),
    "Windows zone on Databricks": (
        JOB,
        lambda f: put(job(f)["schedule"], timezone_id="Eastern Standard Time"),
        "schedule.timezone_id",
        "is no IANA",
    ),
    "date of another day": (
        JOB,
        lambda f: put(job(f)["schedule"], quartz_cron_expression="0 30 22 * * ?"),
        "schedule.quartz_cron_expression",
        "UTC has another date",
    ),
    "time that a day in spring has not": (
        JOB,
        lambda f: put(job(f)["schedule"], quartz_cron_expression="0 30 2 * * ?"),
        "schedule.quartz_cron_expression",
        "America/New_York has no 2020-03-08 02:30",
    ),
    "neither workers nor autoscale": (
        JOB,
        lambda f: job(f)["job_clusters"][0]["new_cluster"].pop("num_workers"),
        "job_clusters[0].new_cluster",
        "needs num_workers or autoscale",
    ),
    "another environment": (
        JOB,
        lambda f: put(job(f)["job_clusters"][0]["new_cluster"], spark_env_vars={"UTILITYFLOW_ENV": "local"}),
        "spark_env_vars.UTILITYFLOW_ENV",
        "must be databricks",
    ),
    "no environment": (
        JOB,
        lambda f: put(job(f)["job_clusters"][0]["new_cluster"], spark_env_vars={"X": "y"}),
        "new_cluster.spark_env_vars",
        "key 'UTILITYFLOW_ENV' is missing",
    ),
    "no zone": (JOB, lambda f: job(f)["schedule"].pop("timezone_id"), "schedule", "key 'timezone_id' is missing"),
    "concurrency raised": (JOB, lambda f: put(job(f), max_concurrent_runs=2), "max_concurrent_runs", "must be 1"),
    "concurrency left out": (
        JOB,
        lambda f: job(f).pop("max_concurrent_runs"),
        "utilityflow",
        "key 'max_concurrent_runs' is missing",
    ),
    "queue on": (JOB, lambda f: put(job(f)["queue"], enabled=True), "queue.enabled", "must be false"),
    "four runs in development": (
        BUNDLE,
        lambda f: f["targets"]["dev"].pop("presets"),
        "targets.dev",
        "presets.jobs_max_concurrent_runs must be 1",
    ),
    "preset raised": (
        BUNDLE,
        lambda f: put(f["targets"]["prod"], presets={"jobs_max_concurrent_runs": 4}),
        "targets.prod.presets.jobs_max_concurrent_runs",
        "must be 1",
    ),
    "one home for two targets": (
        BUNDLE,
        lambda f: put(f["targets"]["dev"]["variables"], home="/Volumes/prod/utilityflow/home"),
        "targets.prod.variables.home",
        "is also the home of target 'dev'",
    ),
    "second job": (JOB, lambda f: f["resources"]["jobs"].update(other=dict(job(f))), "", "holds 2 jobs"),
    # -- Databricks: form
    "missing field": (JOB, lambda f: task(f, 0).pop("job_cluster_key"), "tasks[0]", "key 'job_cluster_key' is missing"),
    "unknown key": (
        JOB,
        lambda f: put(task(f, 0), max_retrys=3),
        "tasks[0].max_retrys",
        "unknown key 'max_retrys' (did you mean 'max_retries'?)",
    ),
    "wrong type": (
        JOB,
        lambda f: put(task(f, 0), max_retries="many"),
        "tasks[0].max_retries",
        "must be a whole number from 0 to 10",
    ),
    "bad mode": (
        BUNDLE,
        lambda f: put(f["targets"]["prod"], mode="prod"),
        "targets.prod.mode",
        "must be one of development, production",
    ),
    "list for a mapping": (BUNDLE, lambda f: put(f, targets=[]), "targets", "must be a mapping"),
    "secret": (
        JOB,
        lambda f: put(job(f)["job_clusters"][0]["new_cluster"], spark_conf={"x": "dapi" + "0123456789abcdef" * 2}),
        "",
        "looks like a Databricks token",
    ),
    "key by its name": (
        JOB,
        lambda f: put(job(f)["job_clusters"][0]["new_cluster"], spark_conf={"my.password": "hunter2"}),
        "new_cluster.spark_conf.my.password",
        "holds a text under the name of a secret",
    ),
}


@pytest.mark.parametrize("case", MUTATIONS)
def test_a_change_for_the_worse_is_found(found: Found, case: str) -> None:
    found(*MUTATIONS[case])


HARMLESS: dict[str, tuple[str, Change]] = {
    "a secret by reference": (
        JOB,
        lambda f: put(job(f)["job_clusters"][0]["new_cluster"]["spark_env_vars"], CIS_PASSWORD="{{secrets/uf/cis}}"),
    ),
    "permissions": (JOB, lambda f: put(job(f), permissions=[{"level": "CAN_VIEW", "group_name": "users"}])),
    "more workers": (JOB, lambda f: put(job(f)["job_clusters"][0]["new_cluster"], num_workers=8)),
    "more retries": (JOB, lambda f: put(task(f, 0), max_retries=3)),
    "a workspace": (BUNDLE, lambda f: put(f["targets"]["prod"]["workspace"], host="https://adb-1.azuredatabricks.net")),
    "a password by reference": (
        JOB,
        lambda f: put(job(f)["job_clusters"][0]["new_cluster"], spark_conf={"my.password": "{{secrets/a/b}}"}),
    ),
    "an instance pool": (JOB, lambda f: put(job(f)["job_clusters"][0]["new_cluster"], instance_pool_id="1-2-pool")),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_a_user_may_change_passes(
    changed: Callable[[str, Change], dict[str, str]], expected: Expected, case: str
) -> None:
    assert deploy.findings(changed(*HARMLESS[case]), expected) == []


def test_writing_a_file_anew_alone_changes_nothing(
    changed: Callable[[str, Change], dict[str, str]], expected: Expected
) -> None:
    for name in {name for name, *_ in MUTATIONS.values()}:
        assert deploy.findings(changed(name, lambda _: None), expected) == []

"""Each guard of the checks of Synapse and Data Factory is shown to fail: one change, one finding that names file and place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from utilityflow.operate.deploy import deploy
from utilityflow.operate.deploy.expected import Expected

SYNAPSE = "synapse/pipeline/utilityflow.json"
SPARK = "synapse/sparkJobDefinition/utilityflow_build_gold.json"
SYNAPSE_TRIGGER = "synapse/trigger/utilityflow_schedule.json"
ADF = "adf/pipeline/utilityflow.json"
ADF_TRIGGER = "adf/trigger/utilityflow_schedule.json"
SERVICE = "adf/linkedService/utilityflow_databricks.json"
Change = Callable[[Any], Any]
Found = Callable[[str, Change, str, str], None]


def activity(of: Any, number: int = 0) -> Any:
    return of["properties"]["activities"][number]


def recurrence(of: Any) -> Any:
    return of["properties"]["typeProperties"]["recurrence"]


def given(of: Any) -> Any:
    return of["properties"]["pipelines"][0]["parameters"]


def put(at: Any, **values: Any) -> None:
    at.update(values)


# what is changed, how, in which file and at which key it is found, with which words
MUTATIONS: dict[str, tuple[str, Change, str, str]] = {
    # -- Synapse
    "Synapse: dangling dependsOn": (
        SYNAPSE,
        lambda f: put(activity(f, 2)["dependsOn"][0], activity="conform"),
        "activities[2].dependsOn[0].activity",
        "waits for 'conform', which is not there",
    ),
    "Synapse: cycle": (
        SYNAPSE,
        lambda f: put(activity(f, 0), dependsOn=[{"activity": "build_gold", "dependencyConditions": ["Succeeded"]}]),
        "activities",
        "there is a cycle",
    ),
    "Synapse: missing edge": (
        SYNAPSE,
        lambda f: put(activity(f, 1), dependsOn=[]),
        "activities[1].name",
        "must wait for 'ingest_bronze'",
    ),
    "Synapse: extra edge": (
        SYNAPSE,
        lambda f: activity(f, 4)["dependsOn"].append({"activity": "build_gold", "dependencyConditions": ["Succeeded"]}),
        "activities[4].dependsOn[1].activity",
        "need not wait for 'build_gold'",
    ),
    "Synapse: misspelt condition": (
        SYNAPSE,
        lambda f: put(activity(f, 1)["dependsOn"][0], dependencyConditions=["Succeded"]),
        "activities[1].dependsOn[0].dependencyConditions[0]",
        "must be Succeeded",
    ),
    "Synapse: also after a failure": (
        SYNAPSE,
        lambda f: put(activity(f, 1)["dependsOn"][0], dependencyConditions=["Completed"]),
        "dependencyConditions[0]",
        "must be Succeeded",
    ),
    "Synapse: concurrency raised": (
        SYNAPSE,
        lambda f: put(f["properties"], concurrency=2),
        "properties.concurrency",
        "must be 1",
    ),
    "Synapse: concurrency left out": (
        SYNAPSE,
        lambda f: f["properties"].pop("concurrency"),
        "properties",
        "key 'concurrency' is missing",
    ),
    "Synapse: unknown activity": (
        SYNAPSE,
        lambda f: put(activity(f), type="SparkJobs"),
        "activities[0].type",
        "must be SparkJob",
    ),
    "Synapse: no definition": (
        SYNAPSE,
        lambda f: put(activity(f)["typeProperties"]["sparkJob"], referenceName="utilityflow_ingest"),
        "sparkJob.referenceName",
        "there is no Spark job definition 'utilityflow_ingest'",
    ),
    "Synapse: another job's definition": (
        SYNAPSE,
        lambda f: put(activity(f)["typeProperties"]["sparkJob"], referenceName="utilityflow_build_gold"),
        "properties.jobProperties.file",
        "must end in /jobs/ingest_bronze.py",
    ),
    "Synapse: unknown flag": (
        SYNAPSE,
        lambda f: activity(f)["typeProperties"]["args"].__setitem__(0, "--homes"),
        "activities[0]",
        "has no option --homes",
    ),
    "Synapse: undeclared parameter": (
        SYNAPSE,
        lambda f: f["properties"]["parameters"].pop("home"),
        "typeProperties.args[1].value",
        "the pipeline has no parameter 'home'",
    ),
    "Synapse: parameter that nobody uses": (
        SYNAPSE,
        lambda f: f["properties"]["parameters"].update(zone={"type": "string"}),
        "parameters.zone",
        "is declared and never used",
    ),
    "Synapse: wrong zip": (
        SYNAPSE,
        lambda f: put(activity(f)["typeProperties"], pythonCodeReference=["abfss://c@a/utilityflow-0.0.1.zip"]),
        "pythonCodeReference[0]",
        "is version 0.0.1",
    ),
    "Synapse: wheel that is no zip": (
        SPARK,
        lambda f: f["properties"]["jobProperties"]["conf"].pop("spark.submit.pyFiles"),
        "jobProperties.conf",
        "must name the zip",
    ),
    "Synapse: environment": (
        SPARK,
        lambda f: put(f["properties"]["jobProperties"]["conf"], **{"spark.yarn.appMasterEnv.UTILITYFLOW_ENV": "local"}),
        "UTILITYFLOW_ENV",
        "must be synapse",
    ),
    "Synapse: definition that nothing runs": (
        SYNAPSE,
        lambda f: f["properties"]["activities"].pop(),
        "1",
        "no activity runs it",
    ),
    "Synapse: unknown flag of a definition": (
        SPARK,
        lambda f: f["properties"]["jobProperties"]["args"].append("--quick"),
        "jobProperties.args",
        "'run' has no option --quick",
    ),
    "Synapse: no pool": (
        SPARK,
        lambda f: f["properties"].pop("targetBigDataPool"),
        "properties",
        "key 'targetBigDataPool' is missing",
    ),
    "Synapse: bad number": (
        SPARK,
        lambda f: put(f["properties"]["jobProperties"], numExecutors="two"),
        "numExecutors",
        "must be a whole number",
    ),
    "Synapse: name is not the file's": (
        SPARK,
        lambda f: put(f, name="gold"),
        "name",
        "the name is not that of the file",
    ),
    "Synapse: IANA zone": (
        SYNAPSE_TRIGGER,
        lambda f: put(recurrence(f), timeZone="America/New_York"),
        "recurrence.timeZone",
        "'America/New_York' is no Windows time zone",
    ),
    "Synapse: Z with a zone": (
        SYNAPSE_TRIGGER,
        lambda f: put(recurrence(f), startTime="2026-01-01T00:00:00Z"),
        "recurrence.startTime",
        "ends in Z",
    ),
    "Synapse: no start": (
        SYNAPSE_TRIGGER,
        lambda f: recurrence(f).pop("startTime"),
        "recurrence",
        "key 'startTime' is missing",
    ),
    "Synapse: other times than Databricks": (
        SYNAPSE_TRIGGER,
        lambda f: put(recurrence(f)["schedule"], hours=[5]),
        "recurrence",
        "fires at other times than databricks/resources/utilityflow.job.yml",
    ),
    "Synapse: date of another zone": (
        SYNAPSE_TRIGGER,
        lambda f: put(given(f), as_of="@utcNow('yyyy-MM-dd')"),
        "parameters.as_of",
        "must be @convertFromUtc(trigger().scheduledTime, 'Eastern Standard Time', 'yyyy-MM-dd')",
    ),
    "Synapse: date not given": (
        SYNAPSE_TRIGGER,
        lambda f: given(f).pop("as_of"),
        "pipelines[0]",
        "parameter 'as_of' has no default and is not given",
    ),
    "Synapse: unknown parameter given": (
        SYNAPSE_TRIGGER,
        lambda f: put(given(f), asof="x"),
        "parameters.asof",
        "has no parameter 'asof'",
    ),
    "Synapse: no such pipeline": (
        SYNAPSE_TRIGGER,
        lambda f: put(f["properties"]["pipelines"][0]["pipelineReference"], referenceName="utility"),
        "pipelineReference.referenceName",
        "there is no pipeline 'utility'",
    ),
    "Synapse: fires beside Databricks": (
        SYNAPSE_TRIGGER,
        lambda f: put(f["properties"], runtimeState="Started"),
        "properties.runtimeState",
        "fires too",
    ),
    "Synapse: fires for an address": (
        SYNAPSE_TRIGGER,
        lambda f: put(f["properties"], runtimeState="Started"),
        "properties.parameters.home.defaultValue",
        "is an address",
    ),
    "Synapse: secret": (
        SPARK,
        lambda f: put(f["properties"]["jobProperties"]["conf"], x="AccountKey" + "=abcdefgh"),
        "",
        "looks like an account key",
    ),
    "Synapse: another parameter": (
        SYNAPSE,
        lambda f: put(activity(f)["typeProperties"]["args"][1], value="@pipeline().parameters.landing"),
        "activities[0]",
        "which is another parameter",
    ),
    "Synapse: a date that never moves": (
        SYNAPSE,
        lambda f: activity(f)["typeProperties"]["args"].__setitem__(5, "2026-01-01"),
        "activities[0]",
        "must be the run's parameter",
    ),
    "Synapse: a home in another zone": (
        SYNAPSE,
        lambda f: put(f["properties"]["parameters"]["time_zone"], defaultValue="Europe/Paris"),
        "pipelines[0]",
        "the zone of the home is Europe/Paris",
    ),
    "Synapse: neither text nor expression": (
        SYNAPSE,
        lambda f: activity(f)["typeProperties"]["args"].__setitem__(5, 7),
        "args[5]",
        "must be a text or an expression",
    ),
    # -- Data Factory
    "ADF: another date": (
        ADF,
        lambda f: put(activity(f)["typeProperties"]["jobParameters"]["as_of"], value="@utcNow('yyyy-MM-dd')"),
        "jobParameters.as_of",
        "must be @pipeline().parameters.as_of",
    ),
    "ADF: second activity": (
        ADF,
        lambda f: f["properties"]["activities"].append(dict(activity(f), name="again")),
        "activities",
        "must be the one activity",
    ),
    "ADF: waits for nothing there is": (
        ADF,
        lambda f: put(activity(f), dependsOn=[{"activity": "x", "dependencyConditions": ["Succeeded"]}]),
        "dependsOn[0]",
        "waits for 'x', which is not there",
    ),
    "ADF: no linked service": (
        ADF,
        lambda f: put(activity(f)["linkedServiceName"], referenceName="databricks"),
        "linkedServiceName.referenceName",
        "there is no linked service 'databricks'",
    ),
    "ADF: parameter that the job has not": (
        ADF,
        lambda f: put(activity(f)["typeProperties"]["jobParameters"], day=dict(value="@utcNow()", type="Expression")),
        "jobParameters.day",
        "the Databricks job has no parameter 'day'",
    ),
    "ADF: date not passed": (
        ADF,
        lambda f: activity(f)["typeProperties"]["jobParameters"].clear(),
        "activities[0]",
        "as_of is not passed",
    ),
    "ADF: undeclared parameter": (
        ADF,
        lambda f: f["properties"]["parameters"].pop("job_id"),
        "typeProperties.jobId.value",
        "the pipeline has no parameter 'job_id'",
    ),
    "ADF: concurrency raised": (
        ADF,
        lambda f: put(f["properties"], concurrency=3),
        "properties.concurrency",
        "must be 1",
    ),
    "ADF: unknown key": (
        ADF,
        lambda f: put(activity(f), dependOn=[]),
        "activities[0].dependOn",
        "unknown key 'dependOn' (did you mean 'dependsOn'?)",
    ),
    "ADF: bad zone": (
        ADF_TRIGGER,
        lambda f: put(recurrence(f), timeZone="Eastern"),
        "recurrence.timeZone",
        "is no Windows time zone",
    ),
    "ADF: token instead of an identity": (
        SERVICE,
        lambda f: put(f["properties"]["typeProperties"], authentication="Token"),
        "authentication",
        "must be MSI",
    ),
    "ADF: token written out": (
        SERVICE,
        lambda f: put(f["properties"]["typeProperties"], accessToken="hunter2"),
        "typeProperties.accessToken",
        "holds a text under the name of a secret",
    ),
}


@pytest.mark.parametrize("case", MUTATIONS)
def test_a_change_for_the_worse_is_found(found: Found, case: str) -> None:
    found(*MUTATIONS[case])


HARMLESS: dict[str, tuple[str, Change]] = {
    "more executors": (SPARK, lambda f: put(f["properties"]["jobProperties"], numExecutors=9)),
    "a folder": (SYNAPSE, lambda f: put(f["properties"], folder={"name": "nightly"})),
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

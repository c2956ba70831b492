"""Synapse: a Spark job definition per job file, the pipeline that runs them, its trigger; in the layout of its Git mode.

Why definitions and no notebooks: they run the same job files and their parameters are typed. The suite travels as the zip
beside each definition, not as a package of the pool, so that what runs is what the definition names.
"""

from __future__ import annotations

import argparse
from typing import Any

from utilityflow import __version__
from utilityflow.operate.deploy.azure import expression, pipeline, policy, trigger
from utilityflow.operate.deploy.conf import Deployment
from utilityflow.operate.deploy.databricks import retries
from utilityflow.operate.deploy.files import as_json
from utilityflow.operate.deploy.graph import Chain, Job
from utilityflow.operate.deploy.parameters import RUN, arguments, flag

FOLDER = "synapse"
CONF = {
    "spark.yarn.appMasterEnv.UTILITYFLOW_ENV": "synapse",  # conf/synapse.yaml; the driver runs in the application master
    "spark.dynamicAllocation.enabled": "false",
}


def definition_name(conf: Deployment, job: str) -> str:
    """Name of a job's Spark job definition."""
    return f"{conf.name}_{job}"


def render(conf: Deployment, chain: Chain, parser: argparse.ArgumentParser) -> dict[str, str]:
    """Path below the output folder -> content."""
    own = conf.synapse
    defaults = {"home": own.home, "landing": own.landing, "time_zone": conf.schedule.time_zone}
    activities = [_activity(conf, chain, job, parser) for job in chain.jobs]
    name, content = trigger(conf, "synapse")
    files = {
        f"pipeline/{conf.name}.json": as_json(pipeline(conf, activities, defaults)),
        f"trigger/{name}.json": as_json(content),
    }
    for job in chain.jobs:
        words = arguments(job, parser, lambda name: defaults.get(name, ""))
        definition = as_json(_definition(conf, job, _without(words, "as_of")))
        files[f"sparkJobDefinition/{definition_name(conf, job.name)}.json"] = definition
        files[f"jobs/{job.name}.py"] = job.text
    return {f"{FOLDER}/{name}": text for name, text in files.items()}


def _without(words: list[str], name: str) -> list[str]:
    """The words without a parameter: a definition that is started by hand takes today's date."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for pair in pairs if pair[0] != flag(name) for word in pair]


def _definition(conf: Deployment, job: Job, words: list[str]) -> dict[str, Any]:
    own = conf.synapse
    return {
        "name": definition_name(conf, job.name),
        "properties": {
            "description": f"UtilityFlow {__version__}: {job.about}",
            "targetBigDataPool": {"referenceName": own.pool, "type": "BigDataPoolReference"},
            "requiredSparkVersion": own.spark_version,
            "language": "python",
            "jobProperties": {
                "name": definition_name(conf, job.name),
                "file": f"{own.code}/jobs/{job.name}.py",
                "conf": CONF | {"spark.submit.pyFiles": conf.zip},
                "args": words,
                "jars": [],
                "files": [],
                "driverMemory": own.memory,
                "driverCores": own.cores,
                "executorMemory": own.memory,
                "executorCores": own.cores,
                "numExecutors": own.executors,
            },
        },
    }


def _activity(conf: Deployment, chain: Chain, job: Job, parser: argparse.ArgumentParser) -> dict[str, Any]:
    words = arguments(job, parser, lambda name: name)
    args = [expression(word) if word in RUN else word for word in words]
    return {
        "name": job.name,
        "description": job.about,
        "type": "SparkJob",
        "dependsOn": [{"activity": n, "dependencyConditions": ["Succeeded"]} for n in chain.waits_for(job.name)],
        "policy": policy(conf, conf.task.timeout_minutes, retries(conf, job)),
        "userProperties": [],
        "typeProperties": {
            "sparkJob": {"referenceName": definition_name(conf, job.name), "type": "SparkJobDefinitionReference"},
            "args": args,
            "pythonCodeReference": [conf.zip],
        },
    }

"""Azure Data Factory: a pipeline with one activity that starts the whole graph where it lives, and its trigger.

The graph is that of the Databricks job and is not spelled out again: a run is repaired and looked at there. Only the as-of
date is handed over; home and landing are the job's. The factory logs in with its managed identity, so no secret is needed.
"""

from __future__ import annotations

import argparse
from typing import Any

from utilityflow.operate.deploy.azure import expression, pipeline, policy, trigger
from utilityflow.operate.deploy.conf import Deployment
from utilityflow.operate.deploy.files import as_json
from utilityflow.operate.deploy.graph import Chain

FOLDER = "adf"


def linked_service(conf: Deployment) -> str:
    """Name of the linked service of the Databricks workspace."""
    return f"{conf.name}_databricks"


def render(conf: Deployment, chain: Chain, parser: argparse.ArgumentParser) -> dict[str, str]:
    """Path below the output folder -> content."""
    name, content = trigger(conf, "adf")
    files = {
        f"pipeline/{conf.name}.json": as_json(pipeline(conf, [_activity(conf)], {"job_id": conf.adf.job_id})),
        f"trigger/{name}.json": as_json(content),
        f"linkedService/{linked_service(conf)}.json": as_json(_service(conf)),
    }
    return {f"{FOLDER}/{name}": text for name, text in files.items()}


def _activity(conf: Deployment) -> dict[str, Any]:
    return {
        "name": conf.name,
        "description": "the Databricks job with all its tasks",
        "type": "DatabricksJob",
        "dependsOn": [],
        # its tasks have their own further attempts; a second run of all would only wait for the first one's lease
        "policy": policy(conf, conf.run.timeout_minutes, 0),
        "userProperties": [],
        "linkedServiceName": {"referenceName": linked_service(conf), "type": "LinkedServiceReference"},
        "typeProperties": {"jobId": expression("job_id"), "jobParameters": {"as_of": expression("as_of")}},
    }


def _service(conf: Deployment) -> dict[str, Any]:
    return {
        "name": linked_service(conf),
        "properties": {
            "type": "AzureDatabricks",
            "annotations": ["utilityflow"],
            "typeProperties": {
                "domain": conf.adf.workspace_url,
                "authentication": "MSI",
                "workspaceResourceId": conf.adf.workspace_id,
            },
        },
    }

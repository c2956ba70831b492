"""The Databricks bundle: one job, a task per job file, the wheel as its library.

Why script tasks and no wheel tasks: a wheel task calls the entry point and takes any return for success, so a run that
ended with status 3 or 5 would be green. And why a starter in front of the job file: job files end with ``sys.exit``, and a
Python shell may take even ``sys.exit(0)`` for a failure; the starter lets only a status other than 0 through.
"""

from __future__ import annotations

import argparse
from typing import Any

from utilityflow import __version__
from utilityflow.operate.deploy.conf import Deployment
from utilityflow.operate.deploy.files import as_yaml
from utilityflow.operate.deploy.graph import Chain, Job
from utilityflow.operate.deploy.parameters import RUN, arguments

FOLDER, ENTRY, CLUSTER = "databricks", "run_job.py", "main"
JOBS = "${workspace.file_path}/jobs/"
# the UTC date of the moment for which the run was scheduled; retries and repairs of the run keep it
AS_OF = "{{job.trigger.time.iso_date}}"
STARTER = '''"""Run one job file, given as the first argument; only a status other than 0 counts as a failure."""

import runpy
import sys

if __name__ == "__main__":
    job, sys.argv = sys.argv[1], sys.argv[1:]
    try:
        runpy.run_path(job, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{job} ended with status {end.code}") from None
'''


def render(conf: Deployment, chain: Chain, parser: argparse.ArgumentParser) -> dict[str, str]:
    """Path below the output folder -> content."""
    files = {
        "databricks.yml": as_yaml(_bundle(conf)),
        f"resources/{conf.name}.job.yml": as_yaml({"resources": {"jobs": {conf.name: _job(conf, chain, parser)}}}),
        ENTRY: STARTER,
    }
    files |= {f"jobs/{job.name}.py": job.text for job in chain.jobs}
    return {f"{FOLDER}/{name}": text for name, text in files.items()}


def _bundle(conf: Deployment) -> dict[str, Any]:
    own = conf.databricks
    variables = {
        "home": {"description": "folder of the environment; each target has its own, for a home has one writer"},
        "landing": {"description": "where source files arrive"},
        "time_zone": {"description": "the utility's zone", "default": conf.schedule.time_zone},
        "node_type": {"description": "kind of machine", "default": own.node_type},
        "workers": {"description": "number of workers", "default": own.workers},
        "service_principal": {
            "description": "application id that production runs as",
            "default": own.service_principal,
        },
        "failure_destination": {"description": "id of a notification destination", "default": own.failure_destination},
    }
    return {
        "bundle": {"name": conf.name},
        "include": ["resources/*.job.yml"],
        "variables": variables,
        "targets": {
            "dev": {
                "mode": "development",
                "default": True,
                "presets": {"jobs_max_concurrent_runs": 1},  # development mode would make it 4
                "variables": {"home": own.dev.home, "landing": own.dev.landing},
            },
            "prod": {
                "mode": "production",
                "workspace": {"root_path": "/Workspace/Shared/.bundle/${bundle.name}/${bundle.target}"},
                "run_as": {"service_principal_name": "${var.service_principal}"},
                "variables": {"home": own.prod.home, "landing": own.prod.landing},
            },
        },
    }


def _job(conf: Deployment, chain: Chain, parser: argparse.ArgumentParser) -> dict[str, Any]:
    defaults = {name: "${var." + name + "}" for name in RUN} | {"as_of": AS_OF}
    fires = conf.scheduler == "databricks"
    return {
        "name": conf.name,
        "description": f"UtilityFlow {__version__}: landed files to the published warehouse",
        "max_concurrent_runs": 1,
        # a run takes everything that has landed: one that is due during another is skipped and told, not run behind it
        "queue": {"enabled": False},
        "timeout_seconds": conf.run.timeout_minutes * 60,
        "schedule": {
            "quartz_cron_expression": conf.schedule.cron,
            "timezone_id": conf.schedule.time_zone,
            "pause_status": "UNPAUSED" if fires else "PAUSED",
        },
        "health": {
            "rules": [{"metric": "RUN_DURATION_SECONDS", "op": "GREATER_THAN", "value": conf.run.warn_minutes * 60}]
        },
        "webhook_notifications": {
            "on_failure": [{"id": "${var.failure_destination}"}],
            "on_duration_warning_threshold_exceeded": [{"id": "${var.failure_destination}"}],
        },
        "notification_settings": {"no_alert_for_skipped_runs": False},
        "parameters": [{"name": name, "default": defaults[name]} for name in RUN],
        "job_clusters": [{"job_cluster_key": CLUSTER, "new_cluster": _cluster(conf)}],
        "tasks": [_task(conf, chain, job, parser) for job in chain.jobs],
    }


def _cluster(conf: Deployment) -> dict[str, Any]:
    return {
        "spark_version": conf.databricks.spark_version,
        "node_type_id": "${var.node_type}",
        "num_workers": "${var.workers}",
        "data_security_mode": "SINGLE_USER",
        "spark_env_vars": {"UTILITYFLOW_ENV": "databricks"},  # conf/databricks.yaml
    }


def _task(conf: Deployment, chain: Chain, job: Job, parser: argparse.ArgumentParser) -> dict[str, Any]:
    words = arguments(job, parser, lambda name: "{{job.parameters." + name + "}}")
    waits = chain.waits_for(job.name)
    return {
        "task_key": job.name,
        "description": job.about,
        **({"depends_on": [{"task_key": name} for name in waits]} if waits else {}),
        "job_cluster_key": CLUSTER,
        "libraries": [{"whl": conf.wheel}],
        "spark_python_task": {"python_file": f"../{ENTRY}", "parameters": [f"{JOBS}{job.name}.py", *words]},
        "max_retries": retries(conf, job),
        "min_retry_interval_millis": conf.task.retry_minutes * 60_000,
        "retry_on_timeout": False,
        "timeout_seconds": conf.task.timeout_minutes * 60,
    }


def retries(conf: Deployment, job: Job) -> int:
    """Further attempts of a job; what writes nothing would only find the same again."""
    return conf.task.retries if job.writes else 0

"""What Synapse and Data Factory share: pipelines, schedule triggers, expressions.

Why schedule triggers and no tumbling windows: a window is cut in UTC, so a run at half past four would move by an hour with
summer time; and a run takes all that has landed, so windows that were missed have nothing to catch up with.
"""

from __future__ import annotations

from typing import Any

from utilityflow import __version__
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.deploy.conf import Deployment
from utilityflow.operate.deploy.schedule import never, parse, recurrence
from utilityflow.operate.deploy.zones import windows_zone


def expression(name: str) -> dict[str, str]:
    """A reference to a parameter of the pipeline."""
    return {"value": parameter(name), "type": "Expression"}


def parameter(name: str) -> str:
    """The text of a reference to a parameter of the pipeline."""
    return f"@pipeline().parameters.{name}"


def timespan(minutes: int) -> str:
    """Minutes as ``d.hh:mm:ss``."""
    return f"{minutes // 1440}.{minutes // 60 % 24:02}:{minutes % 60:02}:00"


def policy(conf: Deployment, minutes: int, retries: int) -> dict[str, Any]:
    """Bounds of an activity."""
    return {
        "timeout": timespan(minutes),
        "retry": retries,
        "retryIntervalInSeconds": conf.task.retry_minutes * 60,
        "secureInput": False,
        "secureOutput": False,
    }


def pipeline(conf: Deployment, activities: list[dict[str, Any]], defaults: dict[str, str]) -> dict[str, Any]:
    """A pipeline; its as-of date has no default and must be given, by the trigger or by whoever starts it."""
    parameters = {"as_of": {"type": "string"}} | {n: {"type": "string", "defaultValue": v} for n, v in defaults.items()}
    return {
        "name": conf.name,
        "properties": {
            "description": f"UtilityFlow {__version__}: landed files to the published warehouse",
            "activities": activities,
            "parameters": parameters,
            "concurrency": 1,  # a run that is due during another waits for its end
            "annotations": ["utilityflow"],
        },
    }


def trigger(conf: Deployment, scheduler: str) -> tuple[str, dict[str, Any]]:
    """Name and content of the trigger. Only that of the one scheduler is rendered started.

    :raises UtilityFlowError: UF-1020 when the schedule cannot be said to these platforms.
    """
    zone = windows_zone(conf.schedule.time_zone)
    if zone is None:
        raise UtilityFlowError(
            "UF-1020", f"schedule.time_zone: {conf.schedule.time_zone} has no Windows name, as {scheduler} needs"
        )
    try:
        cron = parse(conf.schedule.cron)
        recurring = recurrence(cron, zone, conf.schedule.start)
        gap = never(cron, conf.schedule.time_zone)
        if gap:
            raise ValueError(f"{conf.schedule.time_zone} has no {gap}: no run on that day")
    except ValueError as error:
        raise UtilityFlowError("UF-1020", f"schedule.cron '{conf.schedule.cron}' for {scheduler}: {error}") from None
    name = f"{conf.name}_schedule"
    content = {
        "name": name,
        "properties": {
            "description": f"{conf.schedule.cron} in {conf.schedule.time_zone}",
            "annotations": ["utilityflow"],
            "runtimeState": "Started" if conf.scheduler == scheduler else "Stopped",
            "pipelines": [
                {
                    "pipelineReference": {"referenceName": conf.name, "type": "PipelineReference"},
                    "parameters": {"as_of": as_of(zone)},
                }
            ],
            "type": "ScheduleTrigger",
            "typeProperties": {"recurrence": recurring},
        },
    }
    return name, content


def as_of(zone: str) -> str:
    """The date in the Windows zone of the moment for which the run was scheduled."""
    return f"@convertFromUtc(trigger().scheduledTime, '{zone}', 'yyyy-MM-dd')"

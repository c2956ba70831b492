"""What people set for a deployment: ``conf/deploy.yaml`` or their own copy of it, strict, without secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from utilityflow import __version__
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.deploy.files import scalars
from utilityflow.operate.deploy.secrets import named_secret, written_out
from utilityflow.resources import resource
from utilityflow.settings import Settings, check_zone
from utilityflow.strict import Node, build, load

OPEN = "CHANGE-ME"  # a value that only the user knows
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Schedule:
    """When a run starts: a Quartz expression in an IANA zone; ``start``: first day for Synapse and ADF, YYYY-MM-DD."""

    cron: str
    time_zone: str
    start: str


@dataclass(frozen=True)
class Task:
    """Bounds of one job's attempt, in minutes; ``retries``: further attempts."""

    retries: int
    retry_minutes: int
    timeout_minutes: int


@dataclass(frozen=True)
class Whole:
    """Bounds of a whole run, in minutes."""

    timeout_minutes: int
    warn_minutes: int


@dataclass(frozen=True)
class Place:
    """Home and landing root of one target."""

    home: str
    landing: str


@dataclass(frozen=True)
class Databricks:
    """The bundle's own values; ``wheel`` is relative to its folder ``resources/`` or a volume's path."""

    spark_version: str
    node_type: str
    workers: int
    wheel: str
    service_principal: str
    failure_destination: str
    dev: Place
    prod: Place


@dataclass(frozen=True)
class Synapse:
    """The workspace's own values; ``code``: root under which ``jobs/`` and the zip are uploaded."""

    pool: str
    spark_version: str
    code: str
    zip: str
    home: str
    landing: str
    executors: int
    cores: int
    memory: str


@dataclass(frozen=True)
class Factory:
    """The data factory's own values: the workspace and the job that it starts."""

    workspace_url: str
    workspace_id: str
    job_id: str


@dataclass(frozen=True)
class Deployment:
    """All that a deployment needs to be told."""

    name: str
    scheduler: Literal["databricks", "synapse", "adf"]
    schedule: Schedule
    task: Task
    run: Whole
    databricks: Databricks
    synapse: Synapse
    adf: Factory

    @property
    def wheel(self) -> str:
        """Path of the wheel of this version."""
        return self.databricks.wheel.format(version=__version__)

    @property
    def zip(self) -> str:
        """Address of the zip of this version."""
        return f"{self.synapse.code}/{self.synapse.zip.format(version=__version__)}"


def read(path: Path | None = None) -> Deployment:
    """The deployment settings of a file, by default the packaged ``conf/deploy.yaml``.

    :raises UtilityFlowError: UF-1001 to UF-1003 for what does not fit, UF-1020 for values that no platform can take.
    """
    if path is None:
        source, text = "conf/deploy.yaml", resource("conf", "deploy.yaml").read_text("utf-8")
    else:
        source = str(path)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UtilityFlowError("UF-1003", f"{source} cannot be read: {error}") from None
    node = load(text, source)
    _no_secrets(node)
    conf = build(Deployment, node)
    _sound(conf, node)
    return conf


def _no_secrets(node: Node) -> None:
    for scalar in scalars(node):
        why = written_out(str(scalar.value)) or named_secret(scalar.key, scalar.value)
        if why:
            raise UtilityFlowError("UF-1020", f"{scalar.where}: '{scalar.key}' {why}", hint="name a reference instead")


def _sound(conf: Deployment, node: Node) -> None:
    """Refuse what is of the right type and still cannot work."""
    check_zone(conf.schedule.time_zone, f"{node.source}: schedule.time_zone")
    seconds = Settings().lease_seconds
    faults = {
        "name": "small letters, digits and _, beginning with a letter" if not _NAME.fullmatch(conf.name) else "",
        "schedule.start": "" if re.fullmatch(r"\d{4}-\d{2}-\d{2}", conf.schedule.start) else "a day, YYYY-MM-DD",
        "task.retries": "0 to 10" if not 0 <= conf.task.retries <= 10 else "",
        "task.retry_minutes": f"more than the {seconds:g} s after which a dead holder's lease runs out, and at most 1440"
        if not seconds < conf.task.retry_minutes * 60 <= 86400
        else "",
        "task.timeout_minutes": "1 to 10080" if not 1 <= conf.task.timeout_minutes <= 10080 else "",
        "run.timeout_minutes": "at least task.timeout_minutes"
        if conf.run.timeout_minutes < conf.task.timeout_minutes
        else "",
        "run.warn_minutes": "1 up to run.timeout_minutes"
        if not 1 <= conf.run.warn_minutes <= conf.run.timeout_minutes
        else "",
        "databricks.workers": "1 or more" if conf.databricks.workers < 1 else "",
        "databricks.dev.home": "another than that of prod: a home has one writer"
        if conf.databricks.dev.home == conf.databricks.prod.home
        else "",
        "databricks.wheel": "a path that ends in utilityflow-{version}-py3-none-any.whl"
        if not conf.databricks.wheel.endswith("utilityflow-{version}-py3-none-any.whl")
        else "",
        "synapse.zip": "utilityflow-{version}.zip" if conf.synapse.zip != "utilityflow-{version}.zip" else "",
        "synapse.executors": "1 or more" if conf.synapse.executors < 1 else "",
    }
    for key, wanted in faults.items():
        if wanted:
            raise UtilityFlowError("UF-1020", f"{node.source}: '{key}' must be {wanted}")

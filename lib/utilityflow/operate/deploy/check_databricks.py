"""Judges a bundle as it lies in a folder: its schema, and that everything it refers to is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

from utilityflow.errors import nearest
from utilityflow.operate.deploy.databricks import AS_OF, ENTRY, JOBS, STARTER
from utilityflow.operate.deploy.expected import Expected, Graph, about_graph, about_job, about_version
from utilityflow.operate.deploy.files import Finding, at, get, items, plain, scalars
from utilityflow.operate.deploy.schedule import never, other_day_in_utc, parse
from utilityflow.operate.deploy.shapes import BOOL, Free, Int, Is, Items, Keys, Map, Shape, Text, compare
from utilityflow.strict import Node

_REFERENCE = r"\$\{var\.\w+\}"
_DESTINATIONS = Items(Keys({"id": Text()}), least=1, most=3)
_EVENTS = Keys(
    may={
        "on_start": _DESTINATIONS,
        "on_success": _DESTINATIONS,
        "on_failure": _DESTINATIONS,
        "on_duration_warning_threshold_exceeded": _DESTINATIONS,
    }
)
_NUMBER_OR_REFERENCE = Text(r"[1-9]\d*|" + _REFERENCE, "a number or a reference ${var.name}", number=True)

_PERMISSIONS = Items(
    Keys(
        {"level": Is(("CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "CAN_RUN", "IS_OWNER"))},
        {"group_name": Text(), "user_name": Text(), "service_principal_name": Text()},
    )
)

BUNDLE = Keys(
    need={
        "bundle": Keys({"name": Text(r"[\w-]+", "a name")}, {"databricks_cli_version": Text(), "uuid": Text()}),
        "include": Items(Text(), least=1),
        "targets": Map(
            Keys(
                {"mode": Is(("development", "production"))},
                {
                    "default": BOOL,
                    "presets": Keys(
                        may={
                            "jobs_max_concurrent_runs": Int(1, 1000),
                            "name_prefix": Text(),
                            "tags": Map(Text()),
                            "trigger_pause_status": Is(("PAUSED", "UNPAUSED")),
                        }
                    ),
                    "variables": Map(Text()),
                    "workspace": Keys(
                        may={"host": Text(r"https://.+", "an address"), "profile": Text(), "root_path": Text()}
                    ),
                    "permissions": _PERMISSIONS,
                    "run_as": Keys(may={"service_principal_name": Text(), "user_name": Text()}),
                },
            ),
            least=1,
        ),
    },
    may={
        "variables": Map(Keys(may={"description": Text(), "default": Text(r".*", "a text or a number", number=True)})),
        "workspace": Keys(may={"host": Text(r"https://.+", "an address"), "profile": Text(), "root_path": Text()}),
    },
)
CLUSTER = Keys(
    {
        "spark_version": Text(),
        "node_type_id": Text(),
        "spark_env_vars": Keys({"UTILITYFLOW_ENV": Is(("databricks",))}, rest=Text()),
    },
    {
        "num_workers": _NUMBER_OR_REFERENCE,
        "autoscale": Keys({"min_workers": _NUMBER_OR_REFERENCE, "max_workers": _NUMBER_OR_REFERENCE}),
        "driver_node_type_id": Text(),
        "single_user_name": Text(),
        "runtime_engine": Is(("STANDARD", "PHOTON")),
        "azure_attributes": Free(),
        "cluster_log_conf": Free(),
        "init_scripts": Free(),
        "data_security_mode": Is(("SINGLE_USER", "DATA_SECURITY_MODE_DEDICATED")),
        "spark_conf": Map(Text()),
        "custom_tags": Map(Text()),
        "policy_id": Text(),
        "instance_pool_id": Text(),
    },
)
TASK = Keys(
    {
        "task_key": Text(r"[A-Za-z0-9_-]{1,100}", "a key of letters, digits, _ and -"),
        "job_cluster_key": Text(),
        "libraries": Items(Keys({"whl": Text()}), least=1),
        "spark_python_task": Keys({"python_file": Text(), "parameters": Items(Text(), least=1)}),
        "max_retries": Int(0, 10),
        "timeout_seconds": Int(60, 604_800),
    },
    {
        "description": Text(),
        "depends_on": Items(Keys({"task_key": Text()})),
        "run_if": Is(("ALL_SUCCESS",)),
        "min_retry_interval_millis": Int(0, 86_400_000),
        "retry_on_timeout": BOOL,
        "webhook_notifications": _EVENTS,
    },
)
JOB = Keys(
    {
        "name": Text(),
        "max_concurrent_runs": Is((1,)),
        "queue": Keys({"enabled": Is((False,))}),
        "timeout_seconds": Int(60, 604_800),
        "schedule": Keys(
            {"quartz_cron_expression": Text(), "timezone_id": Text(), "pause_status": Is(("PAUSED", "UNPAUSED"))}
        ),
        "health": Keys(
            {
                "rules": Items(
                    Keys(
                        {
                            "metric": Is(("RUN_DURATION_SECONDS",)),
                            "op": Is(("GREATER_THAN",)),
                            "value": Int(60, 604_800),
                        }
                    ),
                    least=1,
                )
            }
        ),
        "parameters": Items(Keys({"name": Text(), "default": Text()}), least=1),
        "job_clusters": Items(Keys({"job_cluster_key": Text(), "new_cluster": CLUSTER}), least=1),
        "tasks": Items(TASK, least=1),
    },
    {
        "description": Text(),
        "tags": Map(Text()),
        "permissions": _PERMISSIONS,
        "email_notifications": Free(),
        "webhook_notifications": _EVENTS,
        "notification_settings": Keys(may={"no_alert_for_skipped_runs": BOOL, "no_alert_for_canceled_runs": BOOL}),
    },
)
RESOURCES: Shape = Keys({"resources": Keys({"jobs": Map(JOB, least=1)})})


def check(files: Mapping[str, Node], texts: Mapping[str, str], expected: Expected) -> Iterator[Finding]:
    """What is wrong with the bundle: its form, or, where that is right, what it refers to.

    :param files: parsed YAML files by their path below the bundle's folder; :param texts: every file's content.
    """
    bundle = files.get("databricks.yml")
    if bundle is None:
        yield Finding("databricks.yml", "", "the file is missing")
        return
    resources = {name: node for name, node in files.items() if name.startswith("resources/")}
    form = [*compare(bundle, BUNDLE), *(f for node in resources.values() for f in compare(node, RESOURCES))]
    yield from form
    if form:
        return
    yield from _included(bundle, resources)
    yield from _targets(bundle)
    yield from _variables(bundle, files)
    jobs = [job for node in resources.values() for job in jobs_of(node)]
    if len(jobs) != 1:
        yield Finding(
            "resources/",
            "",
            f"holds {len(jobs)} jobs instead of one; each would have its own limit of one run at a time",
        )
    for job in jobs:
        yield from _schedule(job, plain(bundle, "variables", "time_zone", "default"))
        yield from _tasks(job, texts, expected)
    if texts.get(ENTRY) != STARTER:
        yield Finding(ENTRY, "", "is missing or not the one of this version; it decides what counts as a failure")


def _children(node: Node | None, *path: str) -> dict[str, Node]:
    """The members of a mapping below, empty when there is none."""
    found = get(node, *path)
    return found.value if found is not None and isinstance(found.value, dict) else {}


def jobs_of(node: Node) -> list[Node]:
    """The jobs of a file of resources."""
    return list(_children(node, "resources", "jobs").values())


def job_parameters(files: Mapping[str, Node]) -> set[str]:
    """The names of the job's parameters; empty without a bundle."""
    nodes = [job for name, node in files.items() if name.startswith("resources/") for job in jobs_of(node)]
    return {str(plain(p, "name")) for job in nodes for p in items(get(job, "parameters"))}


def _included(bundle: Node, resources: Mapping[str, Node]) -> Iterator[Finding]:
    patterns = [re.escape(str(i.value)).replace(r"\*", "[^/]*") for i in items(get(bundle, "include"))]
    for name, node in resources.items():
        if not any(re.fullmatch(p, name) for p in patterns):
            yield Finding(node.source, "", "is not included by databricks.yml")
    for node, pattern in zip(items(get(bundle, "include")), patterns, strict=True):
        if not any(re.fullmatch(pattern, name) for name in resources):
            yield at(node, f"no file fits '{node.value}'")


def _targets(bundle: Node) -> Iterator[Finding]:
    homes: dict[str, str] = {}
    for name, target in _children(bundle, "targets").items():
        node = get(target, "presets", "jobs_max_concurrent_runs")
        wanted = plain(target, "mode") == "development" or node is not None
        if wanted and (node is None or node.value != 1):
            yield at(
                node or target, "presets.jobs_max_concurrent_runs must be 1, in development mode it is 4 by itself"
            )
        home = get(target, "variables", "home")
        if home is not None and home.value in homes:
            yield at(home, f"is also the home of target '{homes[home.value]}'; a home has one writer")
        elif home is not None:
            homes[home.value] = name


def _variables(bundle: Node, files: Mapping[str, Node]) -> Iterator[Finding]:
    declared = _children(bundle, "variables")
    for node in files.values():
        for scalar in scalars(node):
            for name in re.findall(r"\$\{var\.([\w.-]+)\}", scalar.text or str(scalar.value)):
                if name not in declared:
                    yield at(scalar, f"variable '{name}' is not declared ({nearest(name, declared)})")
    for target in _children(bundle, "targets").values():
        names = _children(target, "variables")
        for name in sorted(set(names) - set(declared)):
            yield at(names[name], f"variable '{name}' is not declared ({nearest(name, declared)})")
        for name in declared:
            if name not in names and plain(declared[name], "default") is None:
                yield at(target, f"variable '{name}' has neither a default nor a value here")


def _schedule(job: Node, zone_of_home: str | None) -> Iterator[Finding]:
    cron, zone = get(job, "schedule", "quartz_cron_expression"), get(job, "schedule", "timezone_id")
    if cron is None or zone is None:
        return
    try:
        ZoneInfo(str(zone.value))
    except (KeyError, ValueError, OSError):
        yield at(zone, f"'{zone.value}' is no IANA time zone")
        return
    try:
        read = parse(str(cron.value))
    except ValueError as error:
        yield at(cron, f"'{cron.value}' is no Quartz expression: {error}")
        return
    gap = never(read, str(zone.value))
    if gap:
        yield at(cron, f"{zone.value} has no {gap}: no run on that day")
    if zone_of_home not in (None, zone.value):
        yield at(zone, f"is not {zone_of_home}, the zone of the home: the date of a run must be cut where its days are")
    as_of = next((p for p in items(get(job, "parameters")) if plain(p, "name") == "as_of"), None)
    default = get(as_of, "default")
    if default is not None and default.value != AS_OF:
        yield at(default, f"must be {AS_OF}, the day of the run")
    elif default is not None:
        moment = other_day_in_utc(read, str(zone.value))
        if moment:
            yield at(
                cron,
                f"at {moment} in {zone.value} UTC has another date, and it is UTC's that the job gets as its as-of date",
            )


def _tasks(job: Node, texts: Mapping[str, str], expected: Expected) -> Iterator[Finding]:
    tasks = items(get(job, "tasks"))
    clusters = {str(plain(c, "job_cluster_key")) for c in items(get(job, "job_clusters"))}
    parameters = {str(plain(p, "name")) for p in items(get(job, "parameters"))}
    graph = Graph()
    for node in items(get(job, "job_clusters")):
        cluster = get(node, "new_cluster")
        if cluster is not None and (get(cluster, "num_workers") is None) == (get(cluster, "autoscale") is None):
            yield at(cluster, "needs num_workers or autoscale, one of the two")
    for task in tasks:
        key = get(task, "task_key")
        if key is None:
            continue
        graph.add(
            key, [(d, str(d.value)) for e in items(get(task, "depends_on")) if (d := get(e, "task_key")) is not None]
        )
        cluster = get(task, "job_cluster_key")
        if cluster is not None and cluster.value not in clusters:
            yield at(cluster, f"there is no job cluster '{cluster.value}' ({nearest(str(cluster.value), clusters)})")
        for library in items(get(task, "libraries")):
            yield from about_version(get(library, "whl"))
        yield from _words(task, str(key.value), parameters, texts, expected)
    yield from about_graph(graph, get(job, "tasks") or job, expected)


def _words(
    task: Node, key: str, parameters: set[str], texts: Mapping[str, str], expected: Expected
) -> Iterator[Finding]:
    file, words = get(task, "spark_python_task", "python_file"), items(get(task, "spark_python_task", "parameters"))
    if file is not None and file.value != f"../{ENTRY}":
        yield at(file, f"must be ../{ENTRY}, which starts the job file")
    if not words:
        return
    path = str(words[0].value)
    if path != f"{JOBS}{key}.py":
        yield at(words[0], f"must be {JOBS}{key}.py, the job file of task '{key}'")
    for word in words[1:]:
        for name in re.findall(r"\{\{job\.parameters\.([^}]*)\}\}", str(word.value)):
            if name not in parameters:
                yield at(word, f"the job has no parameter '{name}' ({nearest(name, parameters)})")
    yield from about_job(task, key, [str(w.text or w.value) for w in words[1:]], texts.get(f"jobs/{key}.py"), expected)

"""Judges the files of Synapse and Data Factory as they lie in a folder: schemas, and that all they refer to is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from utilityflow.errors import nearest
from utilityflow.operate.deploy.azure import as_of, parameter
from utilityflow.operate.deploy.expected import Expected, Graph, about_graph, about_job, about_version
from utilityflow.operate.deploy.files import Finding, at, get, items, plain, scalars
from utilityflow.operate.deploy.parameters import misfit
from utilityflow.operate.deploy.shapes import BOOL, Free, Int, Is, Items, Keys, Map, Shape, Text, compare
from utilityflow.operate.deploy.synapse import CONF
from utilityflow.operate.deploy.zones import iana_zones, windows_zone
from utilityflow.strict import Node

_NAME = Text(r"[A-Za-z0-9_][A-Za-z0-9_ -]*", "a name")
_EXPRESSION = Keys({"value": Text(r"@.+", "an expression that begins with @"), "type": Is(("Expression",))})
_POLICY = Keys(
    {
        "timeout": Text(r"\d+\.[0-2]\d:[0-5]\d:[0-5]\d", "a time d.hh:mm:ss"),
        "retry": Int(0, 10),
        "retryIntervalInSeconds": Int(30, 86_400),
    },
    {"secureInput": BOOL, "secureOutput": BOOL},
)


def _reference(kind: str) -> Keys:
    return Keys({"referenceName": Text(), "type": Is((kind,))})


def _activity(kind: str, properties: Keys, more: dict[str, Shape]) -> Keys:
    common: dict[str, Shape] = {
        "name": _NAME,
        "type": Is((kind,)),
        "dependsOn": Items(
            Keys({"activity": Text(), "dependencyConditions": Items(Is(("Succeeded",)), least=1, most=1)})
        ),
        "policy": _POLICY,
        "typeProperties": properties,
    }
    return Keys(
        common | more, {"description": Text(), "userProperties": Items(Keys({"name": Text(), "value": Text()}))}
    )


def _pipeline(activity: Keys) -> Keys:
    parameter = Keys({"type": Is(("string",))}, {"defaultValue": Text(r".*")})
    return Keys(
        {
            "name": _NAME,
            "properties": Keys(
                {"activities": Items(activity, least=1), "parameters": Map(parameter), "concurrency": Is((1,))},
                {"description": Text(), "annotations": Items(Text()), "folder": Keys({"name": Text()})},
            ),
        }
    )


_JOB_RUN = Keys(
    {
        "sparkJob": _reference("SparkJobDefinitionReference"),
        "args": Items(Free(), least=1),  # texts and expressions: _run looks at them
        "pythonCodeReference": Items(Text(), least=1),
    },
    {"targetBigDataPool": _reference("BigDataPoolReference")},
)
SYNAPSE_PIPELINE = _pipeline(_activity("SparkJob", _JOB_RUN, {}))
ADF_PIPELINE = _pipeline(
    _activity(
        "DatabricksJob",
        Keys({"jobId": _EXPRESSION, "jobParameters": Map(_EXPRESSION)}),
        {"linkedServiceName": _reference("LinkedServiceReference")},
    )
)
DEFINITION = Keys(
    {
        "name": _NAME,
        "properties": Keys(
            {
                "targetBigDataPool": _reference("BigDataPoolReference"),
                "requiredSparkVersion": Text(r"\d\.\d", "a version like 3.5"),
                "language": Is(("python",)),
                "jobProperties": Keys(
                    {
                        "name": _NAME,
                        "file": Text(r"abfss://[^/]+@[^/]+/.+\.py", "the abfss address of a Python file"),
                        "conf": Map(Text()),
                        "args": Items(Text(r".*")),
                        "driverMemory": Text(r"\d+g", "a size like 56g"),
                        "driverCores": Int(1, 128),
                        "executorMemory": Text(r"\d+g", "a size like 56g"),
                        "executorCores": Int(1, 128),
                        "numExecutors": Int(1, 200),
                    },
                    {"jars": Items(Text()), "files": Items(Text()), "archives": Items(Text())},
                ),
            },
            {
                "description": Text(),
                "folder": Keys({"name": Text()}),
                "targetSparkConfiguration": _reference("SparkConfigurationReference"),
            },
        ),
    }
)
TRIGGER = Keys(
    {
        "name": _NAME,
        "properties": Keys(
            {
                "type": Is(("ScheduleTrigger",)),
                "runtimeState": Is(("Started", "Stopped")),
                "pipelines": Items(
                    Keys({"pipelineReference": _reference("PipelineReference"), "parameters": Map(Text())}),
                    least=1,
                    most=1,
                ),
                "typeProperties": Keys(
                    {
                        "recurrence": Keys(
                            {
                                "frequency": Is(("Day", "Week", "Month")),
                                "interval": Is((1,)),
                                "startTime": Text(
                                    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ?",
                                    "a time yyyy-MM-ddTHH:mm:ss, with Z in UTC only",
                                ),
                                "timeZone": Text(),
                                "schedule": Keys(
                                    {
                                        "minutes": Items(Int(0, 59), least=1),
                                        "hours": Items(Int(0, 23), least=1),
                                    },
                                    {
                                        "weekDays": Items(
                                            Is(
                                                (
                                                    "Monday",
                                                    "Tuesday",
                                                    "Wednesday",
                                                    "Thursday",
                                                    "Friday",
                                                    "Saturday",
                                                    "Sunday",
                                                )
                                            )
                                        ),
                                        "monthDays": Items(Int(-31, 31)),
                                    },
                                ),
                            }
                        )
                    }
                ),
            },
            {"description": Text(), "annotations": Items(Text())},
        ),
    }
)
SERVICE = Keys(
    {
        "name": _NAME,
        "properties": Keys(
            {
                "type": Is(("AzureDatabricks",)),
                "typeProperties": Keys(
                    {
                        "domain": Text(r"https://.+", "the address of a workspace"),
                        "authentication": Is(("MSI",)),
                        "workspaceResourceId": Text(),
                    }
                ),
            },
            {"description": Text(), "annotations": Items(Text())},
        ),
    }
)


def _below(files: Mapping[str, Node], folder: str) -> dict[str, Node]:
    """Name of the object -> node, for the files of a folder."""
    return {n.rpartition("/")[2][:-5]: node for n, node in files.items() if n.startswith(f"{folder}/")}


def _shaped(files: Mapping[str, Node], shapes: Mapping[str, Keys]) -> Iterator[Finding]:
    for name, node in files.items():
        shape = shapes.get(name.partition("/")[0])
        if shape is None:
            yield Finding(node.source, "", f"no such kind of file is deployed (known: {', '.join(shapes)})")
            continue
        yield from compare(node, shape)
        if plain(node, "name") != name.rpartition("/")[2][:-5]:
            yield at(get(node, "name") or node, "the name is not that of the file")
    for kind in shapes:
        if not _below(files, kind):
            yield Finding(f"{kind}/", "", "holds no file")
    if len(_below(files, "pipeline")) > 1:
        yield Finding(
            "pipeline/", "", "holds more than one pipeline; each would have its own limit of one run at a time"
        )


def check_synapse(files: Mapping[str, Node], texts: Mapping[str, str], expected: Expected) -> Iterator[Finding]:
    """What is wrong with the Synapse files, by their path below their folder: their form, or else what they refer to."""
    shapes = {"pipeline": SYNAPSE_PIPELINE, "trigger": TRIGGER, "sparkJobDefinition": DEFINITION}
    form = list(_shaped(files, shapes))
    yield from form
    if form:
        return
    definitions = _below(files, "sparkJobDefinition")
    every = [a for p in _below(files, "pipeline").values() for a in items(get(p, "properties", "activities"))]
    used = {plain(activity, "typeProperties", "sparkJob", "referenceName") for activity in every}
    for name, node in definitions.items():
        yield from _definition(node, expected)
        if name not in used:
            yield at(node, "no activity runs it: left over, or its activity names another one")
    for pipeline in _below(files, "pipeline").values():
        graph = Graph()
        for activity in items(get(pipeline, "properties", "activities")):
            yield from _run(activity, definitions, texts, expected, graph)
        yield from about_graph(graph, get(pipeline, "properties", "activities") or pipeline, expected)
        yield from _parameters(pipeline)
    yield from _triggers(files)


def check_adf(files: Mapping[str, Node], job_parameters: set[str] | None) -> Iterator[Finding]:
    """What is wrong with the factory's files: their form, or else what they refer to.

    :param job_parameters: names that the Databricks job beside them declares; None when there is no bundle beside them.
    """
    form = list(_shaped(files, {"pipeline": ADF_PIPELINE, "trigger": TRIGGER, "linkedService": SERVICE}))
    yield from form
    if form:
        return
    services = _below(files, "linkedService")
    for pipeline in _below(files, "pipeline").values():
        activities = items(get(pipeline, "properties", "activities"))
        if len(activities) != 1:
            yield at(
                get(pipeline, "properties", "activities") or pipeline,
                "must be the one activity that starts the Databricks job",
            )
        for activity in activities:
            service = get(activity, "linkedServiceName", "referenceName")
            if service is not None and service.value not in services:
                yield at(
                    service, f"there is no linked service '{service.value}' ({nearest(str(service.value), services)})"
                )
            for wait in items(get(activity, "dependsOn")):
                yield at(wait, f"waits for '{plain(wait, 'activity')}', which is not there")
            given = get(activity, "typeProperties", "jobParameters")
            names = given.value if given is not None and isinstance(given.value, dict) else {}
            if "as_of" not in names:
                yield at(activity, "as_of is not passed")
            for name, node in names.items():
                if node.value and plain(node, "value") != parameter(name):
                    yield at(node, f"must be {parameter(name)}")
                if job_parameters is not None and name not in job_parameters:
                    yield at(node, f"the Databricks job has no parameter '{name}' ({nearest(name, job_parameters)})")
        yield from _parameters(pipeline)
    yield from _triggers(files)


def _run(
    activity: Node, definitions: Mapping[str, Node], texts: Mapping[str, str], expected: Expected, graph: Graph
) -> Iterator[Finding]:  # noqa: E501
    name = get(activity, "name")
    if name is None:
        return
    graph.add(
        name, [(a, str(a.value)) for d in items(get(activity, "dependsOn")) if (a := get(d, "activity")) is not None]
    )
    reference = get(activity, "typeProperties", "sparkJob", "referenceName")
    definition = definitions.get(str(reference.value)) if reference is not None else None
    if reference is not None and definition is None:
        yield at(
            reference,
            f"there is no Spark job definition '{reference.value}' ({nearest(str(reference.value), definitions)})",
        )
    file = get(definition, "properties", "jobProperties", "file")
    if file is not None and not str(file.value).endswith(f"/jobs/{name.value}.py"):
        yield at(file, f"must end in /jobs/{name.value}.py, the job file of activity '{name.value}'")
    for code in items(get(activity, "typeProperties", "pythonCodeReference")):
        yield from about_version(code)
    words = []
    for word in items(get(activity, "typeProperties", "args")):
        if isinstance(word.value, dict):
            yield from compare(word, _EXPRESSION)
            words.append(str(plain(word, "value")))
        elif isinstance(word.value, str) and word.value:
            words.append(word.value)
        else:
            yield at(word, "must be a text or an expression")
    text = texts.get(f"jobs/{name.value}.py")
    yield from about_job(activity, str(name.value), words, text, expected)


def _definition(node: Node, expected: Expected) -> Iterator[Finding]:
    conf = get(node, "properties", "jobProperties", "conf")
    given: dict[str, Any] = conf.plain() if conf is not None and isinstance(conf.value, dict) else {}
    for key, value in CONF.items():
        if conf is not None and given.get(key) != value:
            yield at(get(conf, key) or conf, f"{key} must be {value}")
    file, args = plain(node, "properties", "jobProperties", "file"), get(node, "properties", "jobProperties", "args")
    job = expected.chain.job(str(file).rpartition("/")[2].removesuffix(".py"))
    if job is not None and args is not None:
        wrong = misfit(job, [str(word.text or word.value) for word in items(args)], expected.parser)
        if wrong:
            yield at(args, wrong)
    code = get(conf, "spark.submit.pyFiles")
    if conf is not None and code is None:
        yield at(conf, "spark.submit.pyFiles must name the zip of the suite")
    yield from about_version(code)


def _parameters(pipeline: Node) -> Iterator[Finding]:
    """Every parameter that is referred to is declared, and the other way round."""
    declared = get(pipeline, "properties", "parameters")
    names = set(declared.value) if declared is not None and isinstance(declared.value, dict) else set()
    used: set[str] = set()
    for scalar in scalars(pipeline):
        text = str(scalar.value)
        if not text.startswith("@"):
            continue
        found = re.findall(r"pipeline\(\)\.parameters\.(\w+)", text)
        used.update(found)
        for name in found:
            if name not in names:
                yield at(scalar, f"the pipeline has no parameter '{name}' ({nearest(name, names)})")
        for name in re.findall(r"\bvariables\('(\w+)'\)", text):
            yield at(scalar, f"the pipeline has no variable '{name}'")
    for name in sorted(names - used):
        yield at(get(declared, name) or pipeline, f"parameter '{name}' is declared and never used")


def _triggers(files: Mapping[str, Node]) -> Iterator[Finding]:
    pipelines = _below(files, "pipeline")
    for node in _below(files, "trigger").values():
        recurring = get(node, "properties", "typeProperties", "recurrence")
        zone, start = get(recurring, "timeZone"), get(recurring, "startTime")
        windows = str(zone.value) if zone is not None else ""
        if zone is not None and not iana_zones(windows):
            yield at(
                zone, f"'{windows}' is no Windows time zone; triggers take no others, for example Romance Standard Time"
            )
        if (
            zone is not None
            and start is not None
            and str(start.text or start.value).endswith("Z") != (windows == "UTC")
        ):
            yield at(start, "ends in Z if and only if the zone is UTC")
        for entry in items(get(node, "properties", "pipelines")):
            yield from _fed(entry, pipelines, windows)


def _fed(entry: Node, pipelines: Mapping[str, Node], windows: str) -> Iterator[Finding]:
    """Whether a trigger gives its pipeline what that needs, and nothing else."""
    name = get(entry, "pipelineReference", "referenceName")
    pipeline = pipelines.get(str(name.value)) if name is not None else None
    if name is not None and pipeline is None:
        yield at(name, f"there is no pipeline '{name.value}' ({nearest(str(name.value), pipelines)})")
        return
    declared, given = get(pipeline, "properties", "parameters"), get(entry, "parameters")
    known = declared.value if declared is not None and isinstance(declared.value, dict) else {}
    passed = given.value if given is not None and isinstance(given.value, dict) else {}
    for key, node in passed.items():
        if key not in known:
            yield at(node, f"the pipeline has no parameter '{key}' ({nearest(key, known)})")
    for key, node in known.items():
        if key not in passed and plain(node, "defaultValue") is None:
            yield at(entry, f"parameter '{key}' has no default and is not given")
    home = plain(known.get("time_zone"), "defaultValue")
    if home is not None and windows_zone(str(home)) != windows:
        yield at(
            entry,
            f"fires in '{windows}', and the zone of the home is {home}: the date of a run must be cut where its days are",
        )
    date = passed.get("as_of")
    if date is not None and date.value != as_of(windows):
        yield at(date, f"must be {as_of(windows)}: the date in the trigger's own zone")

"""``deploy render`` and ``deploy check``: files for the platforms, written from the one graph and held against it again."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from utilityflow import __version__, pipeline
from utilityflow.errors import CATALOGUE, EXIT_OK, UtilityFlowError
from utilityflow.operate.deploy import adf, databricks, synapse
from utilityflow.operate.deploy.check_azure import check_adf, check_synapse
from utilityflow.operate.deploy.check_databricks import check as check_databricks
from utilityflow.operate.deploy.check_databricks import job_parameters, jobs_of
from utilityflow.operate.deploy.conf import OPEN, Deployment, read
from utilityflow.operate.deploy.expected import Expected
from utilityflow.operate.deploy.files import Finding, at, get, parse, plain, scalars
from utilityflow.operate.deploy.graph import Chain, chain
from utilityflow.operate.deploy.parameters import needed
from utilityflow.operate.deploy.schedule import parse as parse_cron
from utilityflow.operate.deploy.schedule import recurrence, times_of
from utilityflow.operate.deploy.secrets import named_secret, written_out
from utilityflow.operate.deploy.zones import windows_zone
from utilityflow.settings import Settings
from utilityflow.strict import Node

Renderer = Callable[[Deployment, Chain, argparse.ArgumentParser], dict[str, str]]
TARGETS: dict[str, Renderer] = {"databricks": databricks.render, "synapse": synapse.render, "adf": adf.render}


def expect(settings: Settings, parser: argparse.ArgumentParser) -> Expected:
    """The graph of the declared steps of these settings' feeds, mapped to the job files.

    :raises UtilityFlowError: UF-1020 when jobs and steps do not fit together.
    """
    return Expected(chain(pipeline.graph(pipeline.read_feeds(settings, whole=True)), parser), parser)


def rendered(conf: Deployment, expected: Expected, targets: Sequence[str] = ()) -> dict[str, str]:
    """Path -> content of every file of the targets (all when none is named), already judged.

    :raises UtilityFlowError: UF-1020 when the settings do not fit a platform.
    """
    needed(expected.chain, expected.parser)
    files: dict[str, str] = {}
    for name in targets or TARGETS:
        files |= TARGETS[name](conf, expected.chain, expected.parser)
    found = findings(files, expected)
    if found:
        raise UtilityFlowError(
            "UF-1020", str(found[0]), hint=f"{len(found)} finding(s) in all" if len(found) > 1 else None
        )
    return files


def render(
    settings: Settings, parser: argparse.ArgumentParser, *, out: Path, target: str = "all", conf: Path | None = None
) -> dict[str, Any]:
    """Write the deployment files below ``out``; what lies there under other names stays.

    :param target: databricks, synapse, adf or all. :param conf: deployment settings instead of the packaged ones.
    :returns: ``out``, ``version``, ``files`` (paths below it), ``jobs`` (job, steps, waits_for), ``to_set`` (settings that
        are still CHANGE-ME), ``notes``.
    :raises UtilityFlowError: UF-1001 to UF-1003 and UF-1020 for settings that do not fit, UF-1008 when ``out`` cannot be written.
    """
    expected = expect(settings, parser)
    chosen = list(TARGETS) if target == "all" else [target]
    own = read(conf)
    files = rendered(own, expected, chosen)
    try:
        for name, text in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UtilityFlowError("UF-1008", f"{out} cannot be written: {error.strerror}") from None
    return {"out": str(out), "version": __version__, "files": sorted(files), "to_set": open_values(own, chosen),
            **_told(expected, files)}  # fmt: skip


def check(settings: Settings, parser: argparse.ArgumentParser, folder: Path) -> dict[str, Any]:
    """Judge the deployment files below a folder, as rendered or changed by hand; touches nothing.

    :returns: as ``render``, with ``ok``, ``findings`` (file, place, message) and ``error`` (UF-1021 when there are any);
        ``to_set`` names files.
    :raises UtilityFlowError: UF-1008 when there is nothing to judge.
    """
    expected = expect(settings, parser)
    files = {}
    for name in TARGETS:
        for path in sorted((folder / name).rglob("*")) if (folder / name).is_dir() else []:
            if path.is_file() and path.suffix in (".yml", ".yaml", ".json", ".py"):
                files[path.relative_to(folder).as_posix()] = _text(path)
    if not files:
        names = ", ".join(TARGETS)
        raise UtilityFlowError(
            "UF-1008", f"{folder} holds no deployment files", hint=f"it holds one of the folders {names}"
        )
    found = findings(files, expected)
    error = None
    if found:
        message = f"{len(found)} finding(s), the first: {found[0]}"
        error = {"code": "UF-1021", "message": message, "hint": "correct the file, or render it anew"}
    told = [{"file": f.file, "place": f.place, "message": f.message} for f in found]
    unset = [f"{name}: {text.count(OPEN)} time(s)" for name, text in sorted(files.items()) if OPEN in text]
    return {"folder": str(folder), "version": __version__, "ok": not found, "files": sorted(files), "findings": told,
            "to_set": unset, **_told(expected, files), "error": error}  # fmt: skip


def open_values(conf: Deployment, targets: Sequence[str]) -> list[str]:
    """The settings of these targets that only the user knows and has not given yet."""
    values = {name: dataclasses.asdict(getattr(conf, name)) for name in targets}
    return [f"{name}.{key}" for name, own in values.items() for key, value in own.items() if OPEN in str(value)]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UtilityFlowError("UF-1008", f"{path} cannot be read: {error}") from None


def _told(expected: Expected, files: Mapping[str, str]) -> dict[str, Any]:
    jobs = [
        {"job": j.name, "steps": list(j.steps), "waits_for": expected.chain.waits_for(j.name)}
        for j in expected.chain.jobs
    ]
    nodes = [node for name, text in files.items() if isinstance(node := _parsed(name, text), Node)]
    remote = sorted({s.source.partition("/")[0] for s in _out_of_reach(nodes)})
    notes = [
        f"{name}: home or landing is an address, and this version takes paths only (docs/deploy.md)" for name in remote
    ]
    return {"jobs": jobs, "notes": notes}


def _out_of_reach(nodes: Iterable[Node]) -> Iterator[Node]:
    """Homes and landing roots that are addresses, which the settings refuse."""
    for scalar in (s for node in nodes for s in scalars(node)):
        named = re.search(r"\.(home|landing)(\.(default|defaultValue))?$", scalar.key)
        if named and "://" in str(scalar.value):
            yield scalar


def _parsed(name: str, text: str) -> Node | Finding | None:
    return parse(name, text) if name.endswith((".yml", ".yaml", ".json")) else None


def findings(files: Mapping[str, str], expected: Expected) -> list[Finding]:
    """Everything that is wrong with the files of all platforms, by their path below the output folder."""
    nodes: dict[str, dict[str, Node]] = {}
    found: list[Finding] = []
    for name, text in files.items():
        platform, _, below = name.partition("/")
        node = _parsed(name, text)
        if isinstance(node, Finding):
            found.append(node)
        elif node is not None:
            nodes.setdefault(platform, {})[below] = node
            found.extend(at(s, why) for s in scalars(node) if (why := named_secret(s.key, s.value)))
        lines = enumerate(text.splitlines(), start=1)  # comments too
        found.extend(Finding(name, str(number), why) for number, line in lines if (why := written_out(line)))
    present = {name.partition("/")[0] for name in files}
    for platform in TARGETS:
        if platform in present:
            texts = {n.partition("/")[2]: t for n, t in files.items() if n.startswith(f"{platform}/")}
            found.extend(_named(platform, _judge(platform, nodes, texts, expected)))
    found.extend(_one_schedule(nodes))
    return found


def _judge(
    platform: str, nodes: Mapping[str, Mapping[str, Node]], texts: Mapping[str, str], expected: Expected
) -> Iterator[Finding]:
    own = nodes.get(platform, {})
    if platform == "databricks":
        return check_databricks(own, texts, expected)
    if platform == "synapse":
        return check_synapse(own, texts, expected)
    return check_adf(own, job_parameters(nodes["databricks"]) if "databricks" in nodes else None)


def _named(platform: str, found: Iterator[Finding]) -> Iterator[Finding]:
    """Findings without a node name the file below their platform's folder."""
    for one in found:
        yield one if one.file.startswith(f"{platform}/") else Finding(f"{platform}/{one.file}", one.place, one.message)


def _one_schedule(nodes: Mapping[str, Mapping[str, Node]]) -> Iterator[Finding]:
    """One platform fires, for a home that it can reach, and all are told the same times."""
    firing: list[Node] = []
    for platform, below in nodes.items():
        own = [place for node in below.values() for place in _firing(node)]
        firing += own
        # the factory starts the job of the bundle, so it is that one's home
        homes = nodes.get("databricks" if platform == "adf" else platform, {}).values()
        for home in _out_of_reach(homes) if own else ():
            yield at(
                home, f"'{home.value}' is an address, of which this version would make a folder of the driver's disk"
            )
    for node in firing[1:]:
        yield at(
            node, f"{firing[0].source} fires too; of several schedulers one may fire, or two runs meet in one home"
        )
    every = [node for below in nodes.values() for node in below.values()]
    triggers = [node for node in every if plain(node, "properties", "type") == "ScheduleTrigger"]
    for schedule in (s for node in every for job in jobs_of(node) if (s := get(job, "schedule")) is not None):
        yield from _same_times(schedule, triggers)


def _firing(node: Node) -> list[Node]:
    """The places of a file that let runs start by themselves."""
    places = [get(job, "schedule", "pause_status") for job in jobs_of(node)] + [get(node, "properties", "runtimeState")]
    return [place for place in places if place is not None and place.value in ("UNPAUSED", "Started")]


def _same_times(schedule: Node, triggers: Sequence[Node]) -> Iterator[Finding]:
    cron, zone = str(plain(schedule, "quartz_cron_expression")), windows_zone(str(plain(schedule, "timezone_id")))
    try:
        wanted = times_of(recurrence(parse_cron(cron), zone or "", "2026-01-01"))
    except ValueError:
        return  # told by the bundle's own check, or a schedule that no trigger could have
    for node in triggers if zone else ():
        recurring = get(node, "properties", "typeProperties", "recurrence")
        if recurring is not None and isinstance(recurring.value, dict) and times_of(recurring.plain()) != wanted:
            yield at(recurring, f"fires at other times than {schedule.source}: '{cron}'")


def text(result: dict[str, Any]) -> str:
    """The answer of ``render`` and ``check`` for people."""
    if "findings" in result:
        lines = [f"{f['file']}{':' if f['place'] else ''}{f['place']}: {f['message']}" for f in result["findings"]]
        lines.append(
            f"{len(result['files'])} files under {result['folder']}: "
            + ("ok" if result["ok"] else f"{len(lines)} finding(s)")
        )
    else:
        lines = [f"wrote {name}" for name in result["files"]]
        lines.append(f"{len(lines)} files under {result['out']}, for version {result['version']}")
    for job in result["jobs"]:
        lines.append(
            f"  {job['job']:<20} after {', '.join(job['waits_for']) or 'nothing'}: {len(job['steps'])} step(s)"
        )
    if result["to_set"]:
        lines.append(f"still {OPEN}: {', '.join(result['to_set'])}")
    lines += [f"note: {note}" for note in result["notes"]]
    return "\n".join(lines)


def exit_code(result: dict[str, Any]) -> int:
    """Exit status of ``check``."""
    return EXIT_OK if result["ok"] else CATALOGUE["UF-1021"].exit_code

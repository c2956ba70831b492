"""What every platform's files are held against: the graph of the declared steps, the command line, this version."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from utilityflow import __version__
from utilityflow.errors import nearest
from utilityflow.operate.deploy.files import Finding, at
from utilityflow.operate.deploy.graph import Chain, in_order
from utilityflow.operate.deploy.parameters import faults
from utilityflow.strict import Node

_PACKAGE = re.compile(r"utilityflow-([^-/]+?)(-py3-none-any\.whl|\.zip)$")


@dataclass(frozen=True)
class Expected:
    """The chain of jobs, and the parser of the command line that they call."""

    chain: Chain
    parser: argparse.ArgumentParser


@dataclass
class Graph:
    """Tasks or activities as a file gives them, and whom each one waits for, with the places."""

    names: dict[str, Node] = field(default_factory=dict)
    waits: dict[tuple[str, str], Node] = field(default_factory=dict)
    twice: list[Node] = field(default_factory=list)

    def add(self, name: Node, waits_for: Sequence[tuple[Node, str]]) -> None:
        """One task: its name, and the names that it waits for."""
        if name.value in self.names:
            self.twice.append(name)
        self.names[str(name.value)] = name
        self.waits |= {(str(name.value), other): node for node, other in waits_for}


def about_graph(graph: Graph, whole: Node, expected: Expected) -> Iterator[Finding]:
    """How the graph of a file differs from that of the declared steps."""
    names = [j.name for j in expected.chain.jobs]
    for node in graph.twice:
        yield at(node, f"'{node.value}' stands twice")
    for name, node in graph.names.items():
        if name not in names:
            yield at(node, f"there is no job '{name}' in a schedule ({nearest(name, names)})")
    for name in names:
        if name not in graph.names:
            yield at(whole, f"job '{name}' is missing")
    for (name, other), node in graph.waits.items():
        if other not in graph.names:
            yield at(node, f"'{name}' waits for '{other}', which is not there ({nearest(other, graph.names)})")
    if in_order(list(graph.names), set(graph.waits)) is None:
        yield at(whole, "there is a cycle: some wait for each other and none can begin")
    known = {(a, b) for a, b in graph.waits if b in graph.names}
    for name, other in sorted(known - expected.chain.edges):
        yield at(
            graph.waits[name, other],
            f"'{name}' need not wait for '{other}': by the declared steps it reads nothing more of it",
        )
    for name, other in sorted(expected.chain.edges - known):
        if name in graph.names and other in graph.names:
            yield at(graph.names[name], f"'{name}' must wait for '{other}': it reads what that writes")


def about_job(place: Node, name: str, words: Sequence[str], text: str | None, expected: Expected) -> Iterator[Finding]:
    """What is wrong with a job's file and with the words that it is passed."""
    job = expected.chain.job(name)
    if job is None:
        return
    if text is None:
        yield at(place, f"jobs/{name}.py is missing from the folder")
    elif text != job.text:
        yield at(place, f"jobs/{name}.py is not the job file of this version")
    for fault in faults(job, words, expected.parser):
        yield at(place, fault)


def about_version(node: Node | None) -> Iterator[Finding]:
    """Whether a wheel or zip of the suite is of this version."""
    if node is None:
        return
    found = _PACKAGE.search(str(node.value))
    if found is None:
        yield at(node, f"'{node.value}' is neither a wheel nor a zip of utilityflow")
    elif found.group(1) != __version__:
        yield at(node, f"is version {found.group(1)}, this is {__version__}")

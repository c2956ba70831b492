"""The jobs of ``jobs/`` as a graph: which declared steps each one runs, and which job must wait for which.

Nothing is declared here a second time: the words of a job file (``main(["run", "--select", "gold", ...])``) are read from
the file, parsed by the command line's own parser, and become steps through ``pipeline.select``.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utilityflow.errors import UtilityFlowError
from utilityflow.graph import PUBLISH, Step
from utilityflow.pipeline import published_of, select
from utilityflow.resources import resource


@dataclass(frozen=True)
class Job:
    """A file of ``jobs/``: the words it begins its command line with, its steps, the tables it reads and writes."""

    name: str
    text: str
    words: tuple[str, ...]
    about: str
    steps: tuple[str, ...]
    reads: frozenset[str]
    writes: frozenset[str]

    @property
    def command(self) -> str:
        """The command of ``utilityflow`` that it runs."""
        return self.words[0]


@dataclass(frozen=True)
class Chain:
    """The jobs of one scheduled run in their order; ``edges``: (waits, for whom), without what follows from others."""

    jobs: tuple[Job, ...]
    edges: frozenset[tuple[str, str]]

    def waits_for(self, name: str) -> list[str]:
        """The jobs that must have succeeded before, in their order."""
        return [j.name for j in self.jobs if (name, j.name) in self.edges]

    def job(self, name: str) -> Job | None:
        """The job of that name."""
        return next((j for j in self.jobs if j.name == name), None)


def chain(steps: Sequence[Step], parser: argparse.ArgumentParser, texts: Mapping[str, str] | None = None) -> Chain:
    """The jobs that together run every declared step once, then what looks at the result.

    A job that runs all steps at once is left out: it does what the others do, and as a second job it would have a limit
    of one run of its own, so that both could write one home.

    :param texts: name of each job file -> its content; by default the packaged ``jobs/``.
    :raises UtilityFlowError: UF-1020 when the jobs do not cover the steps once each, or wait for each other.
    """
    every = set(select(steps, ()))
    jobs = [read(name, text, steps, parser) for name, text in sorted((texts or job_files()).items())]
    jobs = [j for j in jobs if set(j.steps) != every]
    for step in sorted(every):
        owners = [j.name for j in jobs if step in j.steps]
        if len(owners) != 1:
            told = f"is run by {', '.join(owners)}" if owners else "is run by no job"
            raise UtilityFlowError("UF-1020", f"jobs/: step {step} {told}; each step belongs to one job of a schedule")
    edges = {(a.name, b.name) for a in jobs for b in jobs if a is not b and a.reads & b.writes}
    order = in_order([j.name for j in jobs], edges)
    if order is None:
        raise UtilityFlowError("UF-1020", "jobs/: some jobs wait for each other")
    return Chain(tuple(sorted(jobs, key=lambda j: order.index(j.name))), frozenset(reduced(edges)))


def job_files() -> dict[str, str]:
    """Name -> content of the packaged job files."""
    return {f.name[:-3]: f.read_text("utf-8") for f in resource("jobs").iterdir() if f.name.endswith(".py")}


def read(name: str, text: str, steps: Sequence[Step], parser: argparse.ArgumentParser) -> Job:
    """One job file.

    :raises UtilityFlowError: UF-1020 when it is not a call of ``main`` with words of the command line.
    """
    words = _words(name, text)
    try:
        args = parser.parse_args(list(words))
    except UtilityFlowError as error:
        raise UtilityFlowError("UF-1020", f"jobs/{name}.py: {error.message}") from None
    about = (ast.get_docstring(ast.parse(text)) or name).splitlines()[0]
    every = frozenset({*(s.output for s in steps), PUBLISH})
    if args.command == "run":
        chosen = select(steps, args.select)
        own = [s for s in steps if s.name in chosen]
        reads = {i for s in own for i in s.inputs} | ({*published_of(steps)} if PUBLISH in chosen else set())
        writes = {s.output for s in own} | ({PUBLISH} & set(chosen))
        return Job(name, text, words, about, tuple(chosen), frozenset(reads - writes), frozenset(writes))
    if args.command == "verify":  # looks at every table and at the warehouse, changes nothing
        return Job(name, text, words, about, (), every, frozenset())
    raise UtilityFlowError(
        "UF-1020", f"jobs/{name}.py runs '{args.command}', of which is not known what it reads and writes"
    )


def _words(name: str, text: str) -> tuple[str, ...]:
    try:
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and _called(n) == "main"]
    except SyntaxError:
        calls = []
    if len(calls) == 1 and len(calls[0].args) == 1 and isinstance(calls[0].args[0], ast.List):
        found: list[Any] = [n.value for n in calls[0].args[0].elts if isinstance(n, ast.Constant)]
        if found and all(isinstance(w, str) for w in found):
            return tuple(found)
    raise UtilityFlowError("UF-1020", f"jobs/{name}.py is not one call of main([\"<command>\", ..., *sys.argv[1:]])")  # fmt: skip


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def in_order(names: Sequence[str], edges: set[tuple[str, str]] | frozenset[tuple[str, str]]) -> list[str] | None:
    """The names so that whom one waits for comes before it; None when some wait for each other."""
    left, done = list(names), []
    while left:
        free = [n for n in left if not any((n, other) in edges for other in left)]
        if not free:
            return None
        done.append(free[0])
        left.remove(free[0])
    return done


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges without those that follow from others (verify waits for publish, so for all before it); no cycles."""
    after: dict[str, set[str]] = {}
    for one, other in edges:
        after.setdefault(one, set()).add(other)

    def reaches(one: str, other: str) -> bool:
        return other in after.get(one, ()) or any(reaches(n, other) for n in after.get(one, ()))

    return {(a, b) for a, b in edges if not any(reaches(n, b) for n in after[a] if n != b)}


# -- the command line ------------------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser, command: str) -> dict[str, bool]:
    """The options that a command takes, as the parser declares them: ``--name`` -> whether it takes a value."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            one = action.choices[command]
            return {word: a.nargs != 0 for a in one._actions for word in a.option_strings if word.startswith("--")}
    return {}

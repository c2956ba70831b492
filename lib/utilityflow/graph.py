"""Steps as a graph: which ones a selection means, which run at once, and how it is drawn. No Spark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from utilityflow.errors import UtilityFlowError, nearest

PUBLISH = "publish.duckdb"
EXTRACT = "extract"  # the layer of the steps that ask sources
_WORD = re.compile(r"(?:(?P<up>[1-9][0-9]*)?(?P<before>\+))?(?P<name>[^+]+)(?:(?P<after>\+)(?P<down>[1-9][0-9]*)?)?\Z")
_FAR = 1_000_000  # steps away: any


@dataclass(frozen=True)
class Step:
    """A step: what it reads, the one table it writes, and the function that does it."""

    name: str
    inputs: tuple[str, ...]
    output: str
    function: Callable[[Any], Any]


def edges(steps: Sequence[Step], published: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Step -> the steps whose output it reads, in the order of the steps; the publication reads the published tables."""
    return _needs(steps) | {PUBLISH: tuple(s.name for table in published for s in steps if s.output == table)}


def _needs(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    maker = {step.output: step.name for step in steps}
    return {step.name: tuple(maker[i] for i in step.inputs if i in maker) for step in steps}


def select(steps: Sequence[Step], wanted: Iterable[str], published: Iterable[str]) -> list[str]:
    """Names of the steps to run, in their order: all when nothing is wanted.

    A word is a step, a layer (``bronze``) or a pattern (``gold.dim_*``). ``+word`` adds all steps that it needs,
    ``word+`` all that need it; ``1+word`` and ``word+1`` go so many steps far.

    :raises UtilityFlowError: UF-1004 naming the nearest known step.
    """
    needs = edges(steps, published)
    needed_by = {name: tuple(n for n, inputs in needs.items() if name in inputs) for name in needs}
    layers = {name.split(".")[0] for name in needs}
    chosen: set[str] = set()
    words = list(wanted)
    for word in words:
        parts = _WORD.match(word)
        hits = _named(parts["name"], list(needs), layers) if parts else set()
        if word == EXTRACT and not hits:  # homes whose files others land have no such step
            continue
        if not parts or not hits:
            raise UtilityFlowError("UF-1004", f"there is no step '{word}'", hint=nearest(word.strip("+"), [*needs, *layers]))
        chosen |= hits
        if parts["before"]:
            chosen |= _reached(hits, needs, int(parts["up"] or _FAR))
        if parts["after"]:
            chosen |= _reached(hits, needed_by, int(parts["down"] or _FAR))
    return [name for name in needs if name in chosen] if words else list(needs)


def pattern_of(word: str) -> str:
    """The step, layer or pattern in a word of a selection, without its signs and numbers; empty for what is no such word."""
    parts = _WORD.match(word)
    return parts["name"] if parts else ""


def _named(word: str, names: Sequence[str], layers: Iterable[str]) -> set[str]:
    if word in layers:
        return {name for name in names if name.startswith(f"{word}.")}
    return {name for name in names if fnmatchcase(name, word)}


def _reached(begin: set[str], neighbours: Mapping[str, Sequence[str]], far: int) -> set[str]:
    found, edge = set(begin), begin
    while edge and far > 0:
        edge = {n for name in edge for n in neighbours[name]} - found
        found, far = found | edge, far - 1
    return found


def waves(steps: Sequence[Step], *, apart: bool = True) -> list[dict[str, tuple[str, ...]]]:
    """The steps in groups of which one begins when the one before has ended; within it, step -> steps that it waits for.

    Extracts are a group, and silver with gold is one. Bronze runs step by step, as files are numbered in their order.

    :param apart: each step of a group can have a session of its own. If not, silver runs step by step too: a feed's zone is
        the session's for a while.
    """
    groups: list[list[Step]] = []
    together = {EXTRACT: EXTRACT, "gold": "gold"} | ({"silver": "gold"} if apart else {})
    kinds = [together.get(step.name.partition(".")[0]) for step in steps]
    for i, step in enumerate(steps):
        if i > 0 and kinds[i] is not None and kinds[i] == kinds[i - 1]:
            groups[-1].append(step)
        else:
            groups.append([step])
    return [_needs(group) for group in groups]


def drawn(steps: Sequence[Step], published: Iterable[str], form: str, names: Iterable[str] = ()) -> str:
    """The graph as ``text`` (one line a step, with what it needs) or as ``mermaid`` (a flow chart, layers as boxes).

    :param names: of the steps to draw; none: all.
    """
    wanted = set(names) or {step.name for step in steps} | {PUBLISH}
    needs = {name: [n for n in inputs if n in wanted] for name, inputs in edges(steps, published).items() if name in wanted}
    landing = {s.name: [i for i in s.inputs if i.startswith("landing.")] for s in steps if s.name in wanted}
    return (_mermaid if form == "mermaid" else _text)({n: [*landing.get(n, ()), *i] for n, i in needs.items()})


def _text(needs: Mapping[str, Sequence[str]]) -> str:
    width = max(map(len, needs))
    return "\n".join(f"{name:<{width}}  <- {', '.join(inputs)}" if inputs else name for name, inputs in needs.items())


def _mermaid(needs: Mapping[str, Sequence[str]]) -> str:
    nodes = list(dict.fromkeys([*(i for inputs in needs.values() for i in inputs if i not in needs), *needs]))
    lines = ["flowchart LR"]
    for layer in dict.fromkeys(node.split(".")[0] for node in nodes):
        boxes = [f'    {_id(n)}["{n.partition(".")[2]}"]' for n in nodes if n.split(".")[0] == layer]
        lines += [f"  subgraph {layer}", *boxes, "  end"]
    return "\n".join([*lines, *(f"  {_id(i)} --> {_id(name)}" for name, inputs in needs.items() for i in inputs)])


def _id(name: str) -> str:
    return name.replace(".", "__")

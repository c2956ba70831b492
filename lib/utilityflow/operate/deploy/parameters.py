"""What a scheduled run hands to every job of it, as far as the job's command takes it: the command line says what it takes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.operate.deploy.graph import Chain, Job, options

# one date for all jobs of a run: a run that passes midnight must not cut its days at two places
RUN = ("home", "landing", "as_of", "time_zone")
_SAMPLE = "2026-01-01"  # fits every parameter: a date, a folder; a zone is not looked at by the parser


def flag(name: str) -> str:
    """The option of a parameter."""
    return "--" + name.replace("_", "-")


def arguments(job: Job, parser: argparse.ArgumentParser, reference: Callable[[str], str]) -> list[str]:
    """The words that a job gets: each parameter that its command takes, with a reference to the run's value."""
    known = options(parser, job.command)
    return [word for name in RUN if flag(name) in known for word in (flag(name), reference(name))]


def needed(chain: Chain, parser: argparse.ArgumentParser) -> None:
    """Refuse to render when the command line no longer takes what a run hands over.

    :raises UtilityFlowError: UF-1020 naming the option.
    """
    for name in RUN:
        if not any(flag(name) in options(parser, job.command) for job in chain.jobs):
            raise UtilityFlowError("UF-1020", f"no job takes {flag(name)} any more; a schedule hands it over")


def misfit(job: Job, words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Why a job's command does not take these words, in plain words; empty when it does."""
    known = options(parser, job.command)
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in known:
            return f"'{job.command}' has no option {name} ({nearest(name, known)})"
    try:
        parser.parse_args([*job.words, *(re.sub(r"^(\{\{|@|\$\{).*", _SAMPLE, word) for word in words)])
    except UtilityFlowError as error:
        return f"'{job.command}' does not take these arguments: {error.message}"
    return ""


def faults(job: Job, words: Sequence[str], parser: argparse.ArgumentParser) -> Iterator[str]:
    """What is wrong with the words that a scheduled run passes to a job, in plain words."""
    wrong = misfit(job, words, parser)
    if wrong:
        yield wrong
        return
    known = options(parser, job.command)
    for option in (flag(name) for name in RUN if flag(name) in known):
        if option not in words:
            yield f"{option} is not passed"
            continue
        value = words[words.index(option) + 1]
        found = re.findall(r"\bparameters\.(\w+)", value)
        if not found:
            yield f"{option} is given '{value}'; it must be the run's parameter, so that all jobs of a run have the same"
        elif [flag(name) for name in found] != [option]:
            yield f"{option} is given '{value}', which is another parameter"

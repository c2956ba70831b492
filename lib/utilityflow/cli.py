"""The command line: ``utilityflow <command> [options]``. It parses, calls one function, prints what that returned.

Results go to standard output (with ``--json`` exactly one object, also when something fails), progress and errors to
standard error. What can be said stands in ``words``, what is done for it in ``commands``.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from utilityflow import __version__
from utilityflow.commands import COMMANDS
from utilityflow.errors import UtilityFlowError
from utilityflow.words import VERBS, WORDS, Parser, common

EXIT_INTERRUPTED, EXIT_PIPE = 130, 141
_FULL = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 ok, 1 failed, 2 usage, 3 gate, 4 lease, 5 integrity).

    :param arguments: words after the program's name; None takes the process's.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["demo"]:
        words = ["bench", *words]
    as_json = "--json" in words
    out = sys.stdout
    try:
        args = parser().parse_args(words)
        if args.debug:
            os.environ["UTILITYFLOW_DEBUG"] = "1"
        with contextlib.redirect_stdout(sys.stderr), _progress(args):
            answer = args.function(args)
        print(json.dumps(answer.value, default=str) if as_json else answer.text, file=out, flush=True)
        return int(answer.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python flushes at its end goes nowhere
        return EXIT_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as failure:
        if "--debug" in words and not isinstance(failure, UtilityFlowError):
            raise
        return _failed(_known(failure), words, as_json, out)


def _known(failure: Exception) -> UtilityFlowError:
    """The failure as an error of the catalogue, in one line."""
    if isinstance(failure, UtilityFlowError):
        return failure
    if isinstance(failure, OSError) and failure.errno in _FULL:
        return UtilityFlowError("UF-4007", f"{failure.strerror}: {failure.filename or ''}")
    # messages of libraries may quote data: only the first words are shown
    first = (str(failure).splitlines() or [""])[0][:160]
    return UtilityFlowError(
        "UF-4999", f"{type(failure).__name__}: {first}", hint="run again with --debug for the trace"
    )


def _failed(error: UtilityFlowError, words: Sequence[str], as_json: bool, out: Any) -> int:
    if as_json:
        told: dict[str, Any] = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        if words[:1] in (["run"], ["publish"]):
            told = {"run_id": None, "status": "failed", "publication": None, "files": [], "steps": []} | told
        print(json.dumps(told), file=out, flush=True)
    print(error, file=sys.stderr)
    return error.exit_code


@contextlib.contextmanager
def _progress(args: argparse.Namespace) -> Any:
    """Show the suite's log lines on standard error while the block runs."""
    from utilityflow.operate.progress import Console

    log = logging.getLogger("utilityflow")
    args.console = handler = Console(sys.stderr)
    before = log.level
    log.setLevel(logging.DEBUG if args.debug else logging.INFO)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = Parser(prog="utilityflow", description="Spark and Delta Lake job suite for electric utilities.")
    top.add_argument("--version", action="version", version=f"utilityflow {__version__}")
    top.set_defaults(parser=top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, (text, function) in COMMANDS.items():
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(function=function)
        if name in WORDS:
            WORDS[name](one)
        if name not in VERBS:
            common(one)
    return top


if __name__ == "__main__":
    sys.exit(main())

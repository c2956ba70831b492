"""What can be said on the command line: the words of each command, and the parser that they are added to."""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Callable, Mapping
from typing import NoReturn

from utilityflow.errors import UtilityFlowError


class Parser(argparse.ArgumentParser):
    """Usage errors are errors of the catalogue, so that they too can be told as JSON."""

    def error(self, message: str) -> NoReturn:  # noqa: D102 - argparse's own
        raise UtilityFlowError("UF-1004", message, hint=f"'{self.prog} --help' lists what can be given")


def common(one: argparse.ArgumentParser) -> None:
    """Add the words that all commands know."""
    one.add_argument("--home", metavar="DIR", help="folder of the environment (default: UTILITYFLOW_HOME or ./var)")
    one.add_argument("--landing", metavar="DIR", help="where source files arrive (default: landing in the home)")
    one.add_argument("--feeds", metavar="DIR", help="folder of feed files instead of the shipped ones")
    one.add_argument("--time-zone", metavar="ZONE", help="the utility's zone, fixed when a home is made (default: UTC)")
    one.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    one.add_argument("--debug", action="store_true", help="show traces and more log lines")


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no date, write YYYY-MM-DD") from None


def _month(text: str) -> dt.date:
    return _day(f"{text}-01")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _run(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--as-of",
        type=_day,
        metavar="DATE",
        help="the day for which 'current' is said (default: today in the utility's zone)",
    )
    one.add_argument(
        "--select",
        nargs="+",
        action="extend",
        default=[],
        metavar="STEP",
        help="steps, layers or patterns: bronze, gold.dim_*; +step adds what it needs, step+ what needs it, 1+step one step far",
    )


def _whole_run(one: argparse.ArgumentParser) -> None:
    _run(one)
    one.add_argument("--rehash", action="store_true", help="read landed files again that are known by name, size and time")


def _plan(one: argparse.ArgumentParser) -> None:
    _run(one)
    one.add_argument("--graph", nargs="?", const="text", choices=("text", "mermaid"), help="only draw the steps")


def _resume(one: argparse.ArgumentParser) -> None:
    one.add_argument("run_id", metavar="RUN_ID", help="the run that did not end; its as-of date and steps are kept")


def _explain(one: argparse.ArgumentParser) -> None:
    one.add_argument("table", help="a gold table, for example gold.fact_usage")
    one.add_argument("key", help="its key (for a dimension also the natural key)")


def _verify(one: argparse.ArgumentParser) -> None:
    one.add_argument("--quick", action="store_true", help="without judging the bronze records again")
    one.add_argument("--rebuild", metavar="DIMENSION", help="only compare this dimension with a full rebuild")
    one.add_argument("--only", nargs="+", action="extend", default=[], metavar="CHECK", help="for example history")


def _feed(one: argparse.ArgumentParser) -> None:
    verbs = one.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    check = verbs.add_parser("check", help="show raw beside canonical values and the first failures; writes nothing")
    check.add_argument("file", metavar="FILE.yaml")
    check.add_argument("--sample", type=_number, default=1000, metavar="N", help="records to try (default 1000)")
    common(check)
    common(verbs.add_parser("list", help="the feeds in use"))


def _deploy(one: argparse.ArgumentParser) -> None:
    verbs = one.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    render = verbs.add_parser("render", help="write the deployment files, from the declared steps")
    render.add_argument("--out", default="dist/deploy", metavar="DIR", help="where to (default: dist/deploy)")
    render.add_argument("--target", choices=("databricks", "synapse", "adf", "all"), default="all")
    render.add_argument("--conf", metavar="FILE", help="deployment settings instead of the shipped conf/deploy.yaml")
    common(render)
    check = verbs.add_parser("check", help="judge deployment files, also after changes by hand; writes nothing")
    check.add_argument("folder", metavar="DIR")
    common(check)


def _extract(one: argparse.ArgumentParser) -> None:
    one.add_argument("names", nargs="*", metavar="FEED", help="feeds whose sources are asked (default: all that have one)")


def _simulate(one: argparse.ArgumentParser) -> None:
    one.add_argument("what", nargs="?", choices=("files", "serve"), default="files",
                     help="write files (default), or serve service requests over HTTP until interrupted")  # fmt: skip
    one.add_argument("--customers", type=_number, default=1000, metavar="N")
    one.add_argument("--months", type=_number, default=2, metavar="N")
    one.add_argument("--start", type=_month, default=dt.date(2025, 1, 1), metavar="YYYY-MM")
    one.add_argument("--seed", type=int, default=1, metavar="N")
    one.add_argument("--only-month", type=_number, metavar="N", help="write just the files of the N-th month")
    one.add_argument("--reads-format", choices=("csv", "parquet"), default="csv")
    one.add_argument(
        "--defects", metavar="DIR", help="where the list of planted defects goes (default: defects in the home)"
    )
    one.add_argument("--systems", default="all", metavar="NAME,...", help="whose files to write (default: all six); "
                     "customer_database fills a SQLite file, service_desk a folder for 'simulate serve'")  # fmt: skip
    one.add_argument("--sources", metavar="DIR", help="where these lie (default: sources beside the landing root)")
    one.add_argument("--gas", action="store_true", help="also monthly reads of gas meters, whose registers roll over")
    one.add_argument("--interval-meters", type=_number, default=0, metavar="N", help="also N wall boxes read by the hour")
    one.add_argument("--faults", default="", metavar="KIND,...", help="operational faults of files, or all (default: none)")
    served = one.add_argument_group("simulate serve")
    served.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    served.add_argument("--port", type=int, default=8311, metavar="N", help="0 takes any that is free (default 8311)")
    served.add_argument("--records", metavar="PLACE", help="JSON lines to serve, a file or a folder of *.jsonl; "
                        "read again when they change (default: made)")  # fmt: skip
    served.add_argument("--requests", type=_number, default=1000, metavar="N", help="how many to make, by --seed")
    served.add_argument("--fault", action="append", default=[], metavar="KIND@N", help="for example 429@3, 503@2-4, slow@*")
    served.add_argument("--token", metavar="REFERENCE", help="bearer token that is asked for, as env:NAME or file:PATH")
    one.add_argument("--profile", metavar="FILE", help="which defects to plant (default: conf/simulate/defects.yaml)")


def _docs(one: argparse.ArgumentParser) -> None:
    one.add_argument("--out", metavar="FILE", help="write the data dictionary there (default: print it)")


def _bench(one: argparse.ArgumentParser) -> None:
    one.add_argument("name", help="the measurement")
    one.add_argument("rest", nargs=argparse.REMAINDER, help="its options")


def _maintain(one: argparse.ArgumentParser) -> None:
    one.add_argument("--hours", type=_number, default=168, metavar="N", help="keep what versions of N hours need (168 or more)")
    one.add_argument("--most-gib", type=_number, default=10, metavar="N", help="arrange at most N GiB of tables in this call")


def _rollback(one: argparse.ArgumentParser) -> None:
    one.add_argument("--to", type=_number, metavar="N", help="publication to go back to (default: the one before)")
    one.add_argument("--dry-run", action="store_true", help="write nothing, say what would be restored and held")


def _requeue(one: argparse.ArgumentParser) -> None:
    one.add_argument("files", nargs="*", metavar="FILE", help="held files, by name under the landing root or by SHA-256")
    one.add_argument("--all", action="store_true", help="all held files")


def _status(one: argparse.ArgumentParser) -> None:
    one.add_argument("--profile", action="store_true", help="what each step read, wrote, exchanged and spilled")


def _doctor(one: argparse.ArgumentParser) -> None:
    one.add_argument("--deep", action="store_true", help="compare every data file with its checksums, even above 1 GiB")


def _unlock(one: argparse.ArgumentParser) -> None:
    one.add_argument("--force", action="store_true", help="also from a living holder, which then refuses to write")


# command -> what adds its own words
WORDS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "plan": _plan,
    "run": _whole_run,
    "resume": _resume,
    "status": _status,
    "explain": _explain,
    "verify": _verify,
    "doctor": _doctor,
    "maintain": _maintain,
    "rollback": _rollback,
    "requeue": _requeue,
    "unlock": _unlock,
    "feed": _feed,
    "deploy": _deploy,
    "extract": _extract,
    "simulate": _simulate,
    "docs": _docs,
    "bench": _bench,
}
VERBS = ("feed", "deploy")  # commands whose verbs take the common words

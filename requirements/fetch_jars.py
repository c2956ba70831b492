"""Fetch the Delta jars of a lane and the drivers of databases once, checked against SHA-256 pins (standard library alone).

usage: fetch_jars.py default|floor FOLDER

The drivers go into FOLDER/jdbc; what else lies there (SQL Server's) stays. Only these jars are needed; the rest of Ivy's 33
artifacts already comes with pyspark. MAVEN_MIRROR names another Maven repository (its root URL, or a folder of files); the
usual proxy and certificate variables are honoured by urllib.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"

# lane -> group:artifact:version -> SHA-256
JARS: dict[str, dict[str, str]] = {
    "default": {
        "io.delta:delta-spark_4.1_2.13:4.4.0": "75a9400986853c061f5109f012547de2545a5759e5e752e5ef633dabe16a4f10",
        "io.delta:delta-storage:4.4.0": "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
    },
    "floor": {
        "io.delta:delta-spark_2.12:3.2.1": "088e187da689a347a6a8556dcb22318e3dfcfb995d807f5e2c19b4d0a7ee9499",
        "io.delta:delta-storage:3.2.1": "4dcc179fc4076bda5060a4038f979c53e1f5916cf04971e28f9441db390763c7",
        "org.antlr:antlr4-runtime:4.9.3": "131a6594969bc4f321d652ea2a33bc0e378ca312685ef87791b2c60b29d01ea5",
    },
}

# drivers for feeds of format jdbc, the same in both lanes: group:artifact:version -> SHA-256
DRIVERS = {
    "org.postgresql:postgresql:42.7.8": "2a32a9dcbc42d67a50ad3a0de5efd102c8d2be46720045f2cbd6689f160ab7c7",
    "org.xerial:sqlite-jdbc:3.50.3.0": "a3f53a2aa15ae9425a9e793bbe9c8e5288febeb4b65ef5c1a4e80d4c2045cf08",
}


class FetchError(Exception):
    """A jar could not be had; the text says which and why."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download(url: str, target: Path, attempts: int = 3) -> None:
    """Copy ``url`` to ``target``; a dropped connection is tried again, a refusal (404 and the like) is not."""
    for attempt in range(1, attempts + 1):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as stream:
                while chunk := answer.read(1 << 20):
                    stream.write(chunk)
            return
        except (urllib.error.URLError, OSError, ValueError) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if attempt == attempts or refused or isinstance(error, ValueError):
                hint = "MAVEN_MIRROR can name another Maven repository"
                raise FetchError(f"cannot fetch {url}: {error}; {hint}") from error
            time.sleep(attempt)


def path_of(coordinates: str) -> str:
    """Where a Maven repository keeps the jar ``group:artifact:version``."""
    group, artifact, version = coordinates.split(":")
    return f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.jar"


def ensure_jar(root: str, path: str, sha256: str, folder: Path) -> None:
    """Put one jar into ``folder``: a good one stays, another is fetched beside it, checked, renamed in."""
    target = folder / path.rpartition("/")[2]
    if target.is_file() and sha256_of(target) == sha256:
        return
    handle, name = tempfile.mkstemp(prefix=".fetching-", dir=folder)
    os.close(handle)
    beside = Path(name)
    try:
        download(f"{root}/{path}", beside)
        found = sha256_of(beside)
        if found != sha256:
            raise FetchError(f"{root}/{path} has SHA-256 {found}, pinned is {sha256}; nothing was installed")
        beside.chmod(0o644)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Fetch what the lane needs and remove jars of other versions; 0 when all is there, 1 with one line when not."""
    if len(arguments) != 2 or arguments[0] not in JARS:
        print(f"usage: fetch_jars.py {'|'.join(JARS)} FOLDER", file=sys.stderr)
        return 2
    lane, folder = arguments[0], Path(arguments[1])
    mirror = os.environ.get("MAVEN_MIRROR") or MAVEN_CENTRAL
    root = (mirror if "://" in mirror else Path(mirror).resolve().as_uri()).rstrip("/")
    drivers = folder / "jdbc"
    drivers.mkdir(parents=True, exist_ok=True)
    try:
        for coordinates, sha256 in JARS[lane].items():
            ensure_jar(root, path_of(coordinates), sha256, folder)
        for coordinates, sha256 in DRIVERS.items():
            ensure_jar(root, path_of(coordinates), sha256, drivers)
    except FetchError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    wanted = {path_of(coordinates).rpartition("/")[2] for coordinates in JARS[lane]}
    for stale in folder.glob("*.jar"):
        if stale.name not in wanted:  # two Delta versions on one class path fail in ways that are hard to read
            stale.unlink()
    _remove_older(drivers)
    return 0


def _remove_older(folder: Path) -> None:
    """Remove other versions of the drivers that set-up fetches; what somebody else put there stays."""
    for coordinates in DRIVERS:
        _, artifact, version = coordinates.split(":")
        for jar in folder.glob(f"{artifact}-*.jar"):
            if jar.name != f"{artifact}-{version}.jar":
                jar.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

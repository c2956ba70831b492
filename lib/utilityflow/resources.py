"""The one way to the files of ``schemas/``, ``conf/`` and ``jobs/``, wherever the suite runs from.

Why an accessor: the folders stand at the top of the repository, where people look for them, but travel inside the
wheel as ``utilityflow/_data/``. An editable install maps code only, so there the data are found in the checkout; from
a wheel they are package data; and a job is submitted as a .zip, inside which ``Path(__file__)`` leads nowhere, so that
only ``importlib.resources`` can read them. Everybody else asks here and never builds such a path.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

TOP_FOLDERS = ("schemas", "conf", "jobs")


def resource(*parts: str) -> Traversable:
    """A packaged file or folder, for example ``resource("schemas", "silver", "customers.yaml").read_text("utf-8")``.

    :param parts: the path below the repository's top, one name each; the first is one of TOP_FOLDERS.
    :returns: something to ``read_text``, ``open``, ``iterdir`` or ``is_file`` (False for what is not there). It is a
        path on the disk only outside a zip: ``importlib.resources.as_file`` makes one where a library insists.
    :raises ValueError: a part that is not a plain name, or another top folder.
    :raises FileNotFoundError: the top folder itself is missing, so the installation is broken.
    """
    if not parts or parts[0] not in TOP_FOLDERS:
        raise ValueError(f"resources lie under {' or '.join(TOP_FOLDERS)}, not under {'/'.join(parts) or 'nothing'}")
    for part in parts:
        if part in ("", ".", "..") or "/" in part or "\\" in part:
            raise ValueError(f"not a plain name of a file or folder: {part!r}")
    found = _top(parts[0])
    for part in parts[1:]:
        found = found.joinpath(part)
    return found


def _top(name: str) -> Traversable:
    package = files("utilityflow")
    packaged = package.joinpath("_data").joinpath(name)
    if packaged.is_dir():
        return packaged
    if isinstance(package, Path):  # lib/utilityflow of a checkout; never true inside a zip
        root = package.parent.parent
        if (root / "pyproject.toml").is_file() and (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"the folder {name}/ is not part of this installation of utilityflow")

"""Raw column names: how they are cleaned, and which names the suite keeps for itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

# The columns that the readers put beside the raw ones. A raw column of that name gets a number, like a repeat.
PROVENANCE = ("_feed", "_file_sha256", "_file_name", "_row_number", "_corrupt_record")
RESERVED = frozenset({*PROVENANCE, "_batch_id", "_metadata", "_record", "_uf_path", "_uf_place", "_uf_at"})


class Names(tuple[str, ...]):
    """Cleaned names that remember the raw ones which they were made of."""

    raw: tuple[str, ...] = ()

    @classmethod
    def of(cls, raw: Sequence[str]) -> Names:
        """``clean_names`` of them."""
        made = cls(clean_names(raw))
        made.raw = tuple(raw)
        return made


_OTHER = re.compile(r"[^a-z0-9]+")


def clean_names(raw: Sequence[str]) -> list[str]:
    """Clean raw column names, position by position.

    Lower case; each run of characters other than a-z and 0-9 becomes one ``_`` (at the ends too, so ``__a__`` becomes
    ``_a_``); a name that was empty becomes ``column_N`` with N its position from 1; a repeat gets the first free number
    from 2 (``_2``, ``_3``), and so does a name that the suite keeps for itself (``_file_name``).

    :returns: as many names, all different.
    """
    names: list[str] = []
    taken = set(RESERVED)
    for position, name in enumerate(raw, start=1):
        base = _OTHER.sub("_", name.lower()) or f"column_{position}"
        unique, number = base, 2
        while unique in taken:
            unique, number = f"{base}_{number}", number + 1
        taken.add(unique)
        names.append(unique)
    return names

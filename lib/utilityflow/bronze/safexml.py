"""XML of strangers, streaming: no DTD, no entities, bounded memory; a target takes what passes, no tree is kept."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Protocol
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from utilityflow.bronze.scan import Limits
from utilityflow.errors import UtilityFlowError

PIECE = 65536  # bytes given to the parser at once: what a target collects between two of them is bounded


class Source(Protocol):
    """Bytes to read: a file, a gzip file, a part of a zip file."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class Target(Protocol):
    """What the parser tells. Names are ``namespace}local``, or ``local`` where there is no namespace.

    Beside ``start`` a target may have ``end(tag)`` and ``data(text)``; the characters of one element may come in several
    calls. Each may raise UtilityFlowError to refuse the file.
    """

    def start(self, tag: str, attributes: dict[str, str], /) -> None:
        """An element begins."""


def feed_target(stream: Source, target: Target, what: str, limits: Limits) -> Iterator[int]:
    """Read a stream through a target; yields after each piece, so that the caller can take what was collected.

    :param what: what errors name: the file, and the part of it.
    :returns: the line that the parser stands on, from 1.
    :raises UtilityFlowError: UF-2009 when it is no well-formed XML (with the line), holds a DTD or entities, or one tag
        or comment is longer than a record may be; UF-2003 when the part of a zip file is damaged.
    """
    # types-defusedxml does not know that this is xml.etree's own parser written in Python
    parser: Any = DefusedXMLParser(target=target, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    expat, given = parser.parser, 0
    # straight to the target, in about half of the time; what defusedxml watches over (DTD, entities) stays with it
    expat.ordered_attributes = False
    expat.StartElementHandler, expat.DefaultHandlerExpand = target.start, None
    expat.EndElementHandler, expat.CharacterDataHandler = getattr(target, "end", None), getattr(target, "data", None)
    try:
        while piece := stream.read(PIECE):
            parser.feed(piece)
            given += len(piece)
            line = expat.CurrentLineNumber
            if given - expat.CurrentByteIndex > limits.max_record_bytes:  # held back: a token without an end
                bound = f"longer than {limits.max_record_bytes} bytes"
                raise UtilityFlowError("UF-2009", f"{what}: line {line}: a tag or comment is {bound}")
            yield line
        parser.close()
    except ParseError as error:
        raise UtilityFlowError("UF-2009", f"{what}: no well-formed XML, line {error.position[0]}: {error}") from None
    except DefusedXmlException as error:
        kind = type(error).__name__
        raise UtilityFlowError("UF-2009", f"{what}: XML with a DTD or entities is refused ({kind})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UtilityFlowError("UF-2003", f"{what}: damaged or cut off: {error}") from None
    except (LookupError, ValueError) as error:  # what expat says of an encoding that it does not know
        raise UtilityFlowError("UF-2009", f"{what}: its XML cannot be read: {error}") from None
    yield expat.CurrentLineNumber

"""The one file within a zip file, as a stream: nothing is unpacked to disk, and what is odd about the zip is refused."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from utilityflow.bronze.scan import Limits
from utilityflow.errors import UtilityFlowError

MAGIC = b"PK\x03\x04"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
MAX_DIRECTORY = 1024 * 1024  # bytes of a zip's directory: with the longest names, that of a few members


class DirectoryTooLongError(zipfile.BadZipFile):
    """A zip file whose directory is larger than MAX_DIRECTORY, or says so."""


class GuardedFile(io.FileIO):
    """A file that gives nothing large at once: a zip file's directory would be read in one piece, whatever its size."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most MAX_DIRECTORY bytes; more are refused."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > MAX_DIRECTORY:
            raise DirectoryTooLongError(f"its directory is larger than {MAX_DIRECTORY} bytes")
        with contextlib.suppress(OverflowError):
            return super().read(size) or b""
        raise zipfile.BadZipFile("a place that no file has")

    def seek(self, place: int, whence: int = 0, /) -> int:
        """As of any file; a place that no file has makes the zip file a bad one."""
        try:
            return super().seek(place, whence)
        except (OverflowError, OSError) as error:  # before the file's beginning
            raise zipfile.BadZipFile(f"a place that no file has ({type(error).__name__})") from None


class _Member(io.RawIOBase):
    """The content of the member, counted while it is unpacked."""

    def __init__(self, opened: list[Any], name: str, bound: int) -> None:
        super().__init__()
        self._opened, self._name, self._bound, self._total = opened, name, bound, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            piece = self._opened[-1].read(len(buffer))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _damaged(self._name, error) from None
        self._total += len(piece)
        if self._total > self._bound:
            raise _too_large(self._name, self._bound)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()
        super().close()


def is_zip(path: Path) -> bool:
    """A file is taken as zip by the end of its name, in any case, or by its first bytes."""
    if path.name.lower().endswith(".zip"):
        return True
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def open_zipped(path: Path, name: str, limits: Limits) -> IO[bytes]:
    """The content of the only file in a zip file; the caller closes it.

    :raises UtilityFlowError: UF-2003 for a zip that is damaged, cut off or unpacks to more than the limit (also while the
        stream is read), UF-2008 for a member whose name leads elsewhere or that is a link, UF-2009 for one that holds
        another number of files than one, is encrypted or packed in a way that is not read.
    """
    source = GuardedFile(path)
    try:
        archive = zipfile.ZipFile(source)
        info = _only_member(archive, name)
        if info.file_size > limits.max_decompressed_bytes:
            raise _too_large(name, limits.max_decompressed_bytes)
        member = _Member([source, archive, archive.open(info)], name, limits.max_decompressed_bytes)
    except DirectoryTooLongError:
        source.close()
        raise UtilityFlowError("UF-2009", f"{name}: a zip of many files; one is read") from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        source.close()
        raise _damaged(name, error) from None
    except BaseException:
        source.close()
        raise
    return io.BufferedReader(member, MAX_DIRECTORY)


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    files = [m for m in archive.infolist() if not m.orig_filename.endswith("/")]
    if len(files) != 1:
        raise UtilityFlowError("UF-2009", f"{name}: the zip holds {len(files)} files, and exactly one is read")
    member = files[0]
    if _leads_elsewhere(member.orig_filename) or stat.S_ISLNK(member.external_attr >> 16):
        raise UtilityFlowError("UF-2008", f"{name}: its member is a link, or its name leads out of the zip")
    if member.flag_bits & ENCRYPTED:
        raise UtilityFlowError("UF-2009", f"{name}: its member is encrypted")
    if member.compress_type not in METHODS:
        raise UtilityFlowError(
            "UF-2009", f"{name}: its member is packed by method {member.compress_type}, not by deflate"
        )
    return member


def _leads_elsewhere(member: str) -> bool:
    parts = member.replace("\\", "/").split("/")
    return not member.isprintable() or parts[0] == "" or ".." in parts or ":" in parts[0]


def _damaged(name: str, error: Exception) -> UtilityFlowError:
    return UtilityFlowError(
        "UF-2003", f"{name}: not a sound zip file: {str(error).split(':')[0] or type(error).__name__}"
    )


def _too_large(name: str, bound: int) -> UtilityFlowError:
    return UtilityFlowError("UF-2003", f"{name}: unpacks to more than {bound} bytes")

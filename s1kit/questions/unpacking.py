"""Files as text and bytes, whatever they are compressed with and encoded in.

A file is told by what it begins with, not by its name: `.jsonl` files that are compressed, once or twice, and Parquet
under another name are common.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

ENDINGS = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed files; the one before says what is inside."""

_INVALID_BYTE = re.compile("[\udc80-\udcff]")
_CODE_PAGES = {
    "cp1252": ("Latin-1", "WINDOWS-1252"),
    "mac_roman": ("a Macintosh's", "MACINTOSH"),
    "cp850": ("a code page of MS-DOS", "CP850"),
}
"""The encodings of western texts that Excel offers, each in words and for iconv."""
_SIGNS = "‘’“”„–—…€£°±²³·×÷½¼¾«»¿¡§\u00a0"
_BYTES_OF_OTHER_SCRIPTS = re.compile("[\udc80-\udcff]{3}")
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file without its compression. OSError, EOFError or lzma's error where that is damaged."""
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        while (unpacked := _unpacked(file)) is not None:
            file = stack.enter_context(unpacked)
        yield file


def _unpacked(file: Any) -> Any:
    start = file.peek(8)[:8]
    if start.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"))
    if re.match(rb"BZh[1-9]1AY", start):
        return io.BufferedReader(bz2.BZ2File(file))
    if start.startswith(b"\xfd7zXZ\x00"):
        return io.BufferedReader(lzma.LZMAFile(file))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
    return None


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """The file as text. Invalid UTF-8 arrives as surrogates, so that the reader can name the row it stands in."""
    with open_bytes(path) as binary:
        encoding = _encoding(binary.peek(4)[:4])  # type: ignore[attr-defined]
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        with io.TextIOWrapper(binary, encoding=encoding, errors=errors, newline="") as file:
            yield file


def _encoding(start: bytes) -> str:
    for bom, name in _BOMS.items():  # those of UTF-32 begin like those of UTF-16
        if start.startswith(bom):
            return name
    # UTF-16 without a mark: every other byte of plain letters is zero.
    if len(start) == 4 and start[1] == start[3] == 0 != start[0]:
        return "utf-16-le"
    if len(start) == 4 and start[0] == start[2] == 0 != start[1]:
        return "utf-16-be"
    return "utf-8-sig"


def _reads_well(data: bytes, codec: str) -> bool:
    """Whether bytes are words and usual signs in an encoding: no capital stands amid small letters.

    >>> [_reads_well("Für drei Gäste – 5 €".encode(codec), "cp1252") for codec in ("cp1252", "mac_roman")]
    [True, False]
    """
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return False
    words = re.findall(r"[^\W\d_]+", text)
    signs = (sign for sign in re.findall(r"[^\w\s]", text) if not sign.isascii())
    return all(word.isascii() or word.islower() or word.isupper() or word.istitle() for word in words) and all(
        sign in _SIGNS for sign in signs
    )


def has_invalid_bytes(text: str) -> bool:
    """Whether bytes of a text that `open_text` read are no UTF-8."""
    return _INVALID_BYTE.search(text) is not None


def complain_of_encoding(what: str, text: str) -> tuple[str, str]:
    """The complaint about text that is no UTF-8, and its repair. Accents stand alone; other scripts write words."""
    if _BYTES_OF_OTHER_SCRIPTS.search(text):
        guess, codes = "another code page", "GB18030 (or SHIFT_JIS, BIG5, WINDOWS-1251, whatever it was saved in)"
    else:
        data = text.encode("utf-8", "surrogateescape")
        fitting = (each for codec, each in _CODE_PAGES.items() if _reads_well(data, codec))
        guess, codes = next(fitting, _CODE_PAGES["cp1252"])
    return (
        f"{what} is not UTF-8; it looks like {guess}",
        f"Save the file as UTF-8 (in Excel: 'CSV UTF-8'), or convert it: iconv -f {codes} -t UTF-8 OLD > NEW; "
        "--allow-rejects goes on without such rows.",
    )

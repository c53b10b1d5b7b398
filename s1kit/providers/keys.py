"""API keys: read from the environment or a key file, held so that no log, error or repr shows them."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from s1kit.errors import InputError
from s1kit.providers.catalog import KEY_VARIABLES, Model

HIDDEN_RUN = 8
"""So many characters of a secret in a row are starred out, even where the rest of it was cut off."""


class Secret:
    """Strings that print as stars: a key, and what else must not be shown beside it."""

    __slots__ = ("_also", "_hidden", "_sieve", "_value")

    def __init__(self, value: str, others: tuple[str, ...] = ()) -> None:
        self._value = value
        self._sieve: Sieve | None = None
        self._also: tuple[tuple[str, ...], Secret] | None = None
        spelled = {spelling for text in (value, *others) for spelling in _spellings(text)}
        self._hidden = tuple(sorted((text for text in spelled if len(text) >= 4), key=len, reverse=True))

    def also(self, *others: str) -> Secret:
        """The key, with more texts to hide, such as a proxy's password."""
        if self._also is None or self._also[0] != others:  # asked with the same ones at every reply
            self._also = others, Secret(self._value, (*self._hidden, *others))
        return self._also[1]

    def reveal(self) -> str:
        """The key itself, for the header it is sent in."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never written down")

    def hide_in(self, text: str) -> str:
        """The text with the secrets starred out: whole, encoded, or a piece of `HIDDEN_RUN` characters or more.

        >>> Secret("sk-0123456789").hide_in("bad key sk-01234567, really")
        'bad key ***, really'
        """
        if not self._may_be_in(text.encode("utf-8", "surrogatepass")):
            return text
        for secret in self._hidden:
            text = text.replace(secret, "***")
        for secret in self._hidden:
            for start in range(len(secret) - HIDDEN_RUN + 1):
                while (at := text.find(secret[start : start + HIDDEN_RUN])) >= 0:
                    end, reach = at + HIDDEN_RUN, start + HIDDEN_RUN
                    while end < len(text) and reach < len(secret) and text[end] == secret[reach]:
                        end, reach = end + 1, reach + 1
                    text = f"{text[:at]}***{text[end:]}"
        return text

    def hide_in_bytes(self, data: bytes) -> bytes:
        """Hide the secrets in a body; all else stays as it is. Letters that JSON escapes are read as letters."""
        if self._hidden and (b"\\u00" in data or b"\\/" in data):
            plain = _ESCAPED_LETTER.sub(_unescaped, data)
            if self._may_be_in(plain) and (hidden := self._hidden_in(plain)) != plain:
                return hidden
        return self._hidden_in(data) if self._may_be_in(data) else data

    def _hidden_in(self, data: bytes) -> bytes:
        return self.hide_in(data.decode("latin-1")).encode("latin-1")

    def _may_be_in(self, data: bytes) -> bool:
        if not self._hidden:
            return False
        if self._sieve is None:
            self._sieve = Sieve([text.encode("utf-8", "surrogatepass") for text in self._hidden])
        return self._sieve.may_be_in(data)


class SecretHeaders(dict[str, str]):
    """Headers of which one is a key: a log, a debugger or a crash report that prints them shows no value."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, "***"))

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never written down")


_ESCAPED_LETTER = re.compile(rb"(?<!\\)((?:\\\\)*)\\(?:u00([2-7][0-9a-fA-F])|(/))")
"""A character of ASCII that JSON spells with a backslash, after whole pairs of backslashes."""


def _unescaped(match: re.Match[bytes]) -> bytes:
    letter = bytes.fromhex(match[2].decode()) if match[2] else b"/"
    return match[0] if letter in b'"\\\x7f' else match[1] + letter


def _spellings(secret: str) -> set[str]:
    """A secret as it may be quoted: percent-encoded in part or whole, and within base64 at any of the three offsets.

    Of base64 the characters that depend on the secret alone: `Basic` credentials are a user's name and a key in one.
    """
    found = {secret, quote(secret, safe="")}
    raw = secret.encode("utf-8", "surrogatepass")
    if len(raw) < SHORTEST_ENCODED:
        return found
    found |= {"".join(f"%{byte:02{case}}" for byte in raw) for case in "xX"}
    for offset, first in enumerate((0, 2, 3)):
        text = b64encode(bytes(offset) + raw).decode().rstrip("=")
        text = text[first : -1 if (offset + len(raw)) % 3 else None]
        found |= {text, text.translate(_URL_SAFE)}
    return found


SHORTEST_ENCODED = 12
"""Characters of a secret that is looked for in base64, too: of a shorter one too little would be left to tell it by."""
_URL_SAFE = str.maketrans("+/", "-_")
_GRAM, _STRIDE = 4, HIDDEN_RUN - 3
"""Any `HIDDEN_RUN` bytes in a row hold four that begin at a multiple of the stride."""


class Sieve:
    """Whether a text may hold a piece of a secret.

    It looks at every fifth position instead of searching for each piece: a key of OpenAI's has 164 characters, and
    searching for its 157 pieces took 1.3 ms a reply.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._short = [secret for secret in secrets if len(secret) < HIDDEN_RUN]
        pieces = {secret[at : at + _GRAM] for secret in secrets for at in range(len(secret) - _GRAM + 1)}
        self._grams = {int.from_bytes(piece, "little") for piece in pieces}
        self._is_known = np.zeros(2**16, dtype=bool)
        self._is_known[_sixteen_bits(np.array(sorted(self._grams), dtype="<u4"))] = True

    def may_be_in(self, data: bytes) -> bool:
        """Never False for a text that holds a secret shorter than `HIDDEN_RUN`, or so many bytes of one in a row."""
        if any(secret in data for secret in self._short):
            return True
        if len(data) < _GRAM:
            return False
        grams: np.ndarray[Any, Any] = np.ndarray((len(data) - _GRAM) // _STRIDE + 1, "<u4", data, 0, (_STRIDE,))
        candidates = grams[self._is_known[_sixteen_bits(grams)]]
        return bool(candidates.size) and not self._grams.isdisjoint(candidates.tolist())


def _sixteen_bits(grams: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    bits: np.ndarray[Any, Any] = (grams ^ (grams >> 13)) & 0xFFFF
    return bits


IS_SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
"""Names of headers whose values must not stand in a recipe."""


def read_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Headers of the user's own, with `env:NAME` read from the environment.

    Raises InputError for a variable that is not set, and for a secret that stands in the recipe, which is kept in
    receipts.
    """
    found = {}
    for name, value in given.items():
        if value.startswith("env:"):
            variable = value.removeprefix("env:")
            if not (value := os.environ.get(variable, "").strip()):
                raise InputError(
                    f"the environment has no {variable}", where=f"distill.headers.{name}", fix=f"Set {variable}."
                )
        elif IS_SECRET.search(name):
            raise InputError(
                f"the header {name} holds a secret in plain text",
                where=f"distill.headers.{name}",
                fix='Put it into the environment and write "env:NAME".',
            )
        if not value.isprintable() or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise InputError(
                "this cannot be an HTTP header", where=f"distill.headers.{name}", fix="Correct its name or value."
            )
        found[name] = value
    return found


def find_key(model: Model, key_file: str = "", headers: Mapping[str, str] | None = None) -> Secret:
    """The key for a model's provider: from the key file if one is named, else from the environment.

    A key file holds the key alone, or lines NAME=value with the names of the environment. Raises InputError when the
    provider needs a key and there is none; a server of one's own need not have one.
    """
    names = KEY_VARIABLES[model.kind]
    if key_file and not names:
        raise InputError(
            f"{model.provider} takes no key", where="distill.key_file", fix="Log in with the cloud's own tools instead."
        )
    if key_file:
        return Secret(_sendable(_read_key_file(Path(key_file).expanduser(), names), key_file))
    for name in names:
        if value := os.environ.get(name, "").strip():
            return Secret(_sendable(value, name))
    if model.needs_key and not any(IS_SECRET.search(name) for name in headers or ()):
        raise InputError(
            f"there is no key for {model.provider}",
            where=model.reference,
            fix=f"Set {' or '.join(names)} in the environment, or name a key file with distill.key_file=PATH.",
        )
    return Secret("")


def _sendable(key: str, where: str) -> str:
    """The key. Raises InputError for one with a character that no provider's key has, without showing it."""
    odd = next((n for n, letter in enumerate(key, 1) if not "!" <= letter <= "~"), 0)
    if odd:
        raise InputError(
            f"character {odd} of the key's {len(key)} is a space or no ASCII character",
            where=where,
            fix="Copy the key again, alone and on one line.",
        )
    if key[0] in "\"'<" or key.lower().startswith("bearer"):
        raise InputError(
            "the key begins with what is no part of one: a quotation mark, a bracket or the word Bearer",
            where=where,
            fix="Give the key alone.",
        )
    return key


def keys_present() -> dict[str, str]:
    """Which provider's key the environment holds, and in which variable; never its value. For `s1kit doctor`."""
    found = {}
    for provider, names in KEY_VARIABLES.items():
        if present := next((name for name in names if os.environ.get(name, "").strip()), None):
            found[provider] = present
    return found


def _read_key_file(path: Path, names: tuple[str, ...]) -> str:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        # The error of a decoding quotes bytes of the file, so it is not passed on.
        raise InputError("the key file cannot be read", where=str(path), fix="Give a readable text file.") from (
            error if isinstance(error, OSError) else None
        )
    lines = [line.removeprefix("export ") for line in lines if line and not line.startswith("#")]
    for name in names:
        for line in lines:
            if line.startswith(f"{name}="):
                return line.partition("=")[2].strip().strip("'\"")
    if len(lines) == 1 and "=" not in lines[0].rstrip("="):
        return lines[0]
    raise InputError(
        "the key file holds no key for this provider", where=str(path), fix=f"Write a line {names[0]}=<key>."
    )

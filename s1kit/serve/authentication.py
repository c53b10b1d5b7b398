"""Authentication: the API keys that are accepted, and the host names that the server answers to."""

from __future__ import annotations

import hmac
import re
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from pathlib import Path

from s1kit.completions.roster import file_state
from s1kit.errors import InputError
from s1kit.serve.http import Scope, header
from s1kit.serve.logs import log
from s1kit.serve.refusals import Refusal

_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


def named(keys: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    """Keys by the name that the log shows; keys without one are numbered.

    >>> named(["secret"])
    {'key-1': 'secret'}
    """
    return keys if isinstance(keys, Mapping) else {f"key-{i}": key for i, key in enumerate(keys, start=1)}


def read_keys(path: Path) -> dict[str, str]:
    """The keys of a file with lines `name:key`; empty lines and lines that begin with # are skipped.

    Raises InputError, which names the line and never shows a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the keys cannot be read: {error}", where=str(path), fix="Give a text file.") from error
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, key = (part.strip() for part in line.partition(":"))
        if not (name and colon and key) or name in keys or key in keys.values():
            wrong = "repeats a name or a key" if name in keys or key in keys.values() else "is not name:key"
            raise InputError(f"the line {wrong}", where=f"{path}:{number}", fix="Write one name:key a line.")
        keys[name] = key
    if not keys:
        raise InputError("the file holds no key", where=str(path), fix="Write one name:key a line.")
    return keys


class KeyFile(Mapping[str, str]):
    """The keys of a file by name, read again when it changes. One that cannot be read leaves the keys as they were."""

    def __init__(self, path: Path, more: Mapping[str, str] | None = None) -> None:
        """`more` are keys beside those of the file. Raises InputError, as `read_keys`."""
        self._path, self._more = path, dict(more or {})
        self._stamp = file_state(path)
        self._keys = read_keys(path) | self._more

    def _fresh(self) -> dict[str, str]:
        if file_state(self._path) != self._stamp:
            self.read_again()
        return self._keys

    def read_again(self) -> None:
        """Read the file, whether or not it seems to have changed."""
        self._stamp = file_state(self._path)
        try:
            self._keys = read_keys(self._path) | self._more
        except InputError as error:
            log("the keys stay as they were", level=30, why=str(error))
        else:
            log("the keys were read again", keys=len(self._keys))

    def __getitem__(self, name: str) -> str:
        return self._fresh()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fresh())

    def __len__(self) -> int:
        return len(self._fresh())

    def items(self) -> ItemsView[str, str]:
        """Names and keys, after one look at the file."""
        return self._fresh().items()


def check_caller(
    scope: Scope, keys: Mapping[str, str], allowed_hosts: Sequence[str] | None, needs_key: bool
) -> str | None:
    """The name of the caller's key, None where none is asked for.

    Raises Refusal for two host names (400), one that is not answered (403), and for a missing or wrong key (401).
    """
    if sum(name == b"host" for name, _ in scope["headers"]) > 1:
        raise Refusal(400, "there are several headers Host. Send one.")
    host = re.sub(r":\d*$", "", header(scope, b"host")).strip("[]").lower()
    if allowed_hosts is not None and host not in allowed_hosts:
        raise Refusal(
            403, f"this server does not answer to the name {host!r}. Start it with --allow-host {host or 'NAME'}."
        )
    if not (needs_key and keys):
        return None
    scheme, _, given = header(scope, b"authorization").partition(" ")
    # Anthropic's clients send the second, some both, of which one may be of another server.
    offered = [given if scheme.lower() == "bearer" else "", header(scope, b"x-api-key")]
    # All are compared, so that the time says nothing about which one was nearly right.
    found = [name for name, key in keys.items() for one in offered if _is_key(one, key)]
    if not found:
        given = given or offered[1]
        what = "the API key is wrong." if given else "this server wants an API key."
        raise Refusal(
            401,
            f"{what} Send the header Authorization: Bearer <key>.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return found[0]


def _is_key(given: str, key: str) -> bool:
    """Whether a header's value, whose bytes it holds as letters, is the key."""
    return hmac.compare_digest(given.strip().encode("latin-1"), key.encode())


def request_id(scope: Scope) -> str | None:
    """The `x-request-id` that the client or a proxy gave, where it is safe to repeat."""
    given = header(scope, b"x-request-id")
    return given if _REQUEST_ID.fullmatch(given) else None

"""API keys: read from the environment or a key file, held so that no log, error or repr shows them."""

from __future__ import annotations

import os
from pathlib import Path

from s1kit.errors import InputError
from s1kit.providers.catalog import KEY_VARIABLES, Model


class Secret:
    """A string that prints as stars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never written down")

    def hide_in(self, text: str) -> str:
        """The text with the key starred out: servers like to quote it."""
        return text.replace(self._value, "***") if len(self._value) >= 4 else text


def find_key(model: Model, key_file: str = "") -> Secret:
    """The key for a model's provider: from the key file if one is named, else from the environment.

    A key file holds the key alone, or lines NAME=value with the names of the environment. Raises InputError when the
    provider needs a key and there is none; a server of one's own need not have one.
    """
    names = KEY_VARIABLES[model.kind]
    if key_file:
        return Secret(_read_key_file(Path(key_file).expanduser(), names))
    for name in names:
        if value := os.environ.get(name, "").strip():
            return Secret(value)
    if model.needs_key:
        raise InputError(
            f"there is no key for {model.provider}",
            where=model.reference,
            fix=f"Set {' or '.join(names)} in the environment, or name a key file with distill.key_file=PATH.",
        )
    return Secret("")


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

"""The playground: a page of plain HTML, CSS and JavaScript, with nothing from other hosts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.responses import Response

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}

# Model text must stay text: no inline scripts, nothing from elsewhere, not to be framed by others.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@cache
def _paths() -> dict[str, Path]:
    folder = Path(__file__).parent
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix in _KINDS}


def part(name: str) -> Response:
    """A file of the page, by its path below this folder; status 404 where there is none of that name."""
    path = _paths().get(name)
    if path is None:
        return Response(status_code=404)
    age = "max-age=86400" if name.startswith("vendor/") else "no-cache"
    return Response(path.read_bytes(), headers={**_HEADERS, "cache-control": age, "content-type": _KINDS[path.suffix]})

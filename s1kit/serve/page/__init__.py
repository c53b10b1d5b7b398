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
}

# Model text must stay text: no inline scripts, nothing from elsewhere, not to be framed by others.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@cache
def _read(name: str) -> bytes | None:
    folder = Path(__file__).parent
    known = {path.name: path for path in folder.iterdir() if path.suffix in _KINDS}
    return known[name].read_bytes() if name in known else None


def part(name: str) -> Response:
    """A file of the page; status 404 where there is none of that name."""
    content = _read(name)
    if content is None:
        return Response(status_code=404)
    return Response(content, headers={**_HEADERS, "content-type": _KINDS[Path(name).suffix]})

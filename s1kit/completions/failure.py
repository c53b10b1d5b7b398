"""How a completions server fails, in one vocabulary for every caller."""

from __future__ import annotations

from typing import Literal

FailureKind = Literal[
    "down", "died", "silent", "full", "refused", "unauthorised", "unknown_model", "failed", "nonsense"
]
"""`down`: no connection. `died`: the connection broke or the stream ended early. `silent`: no token by the deadline.
`full`: 429, 503 or 529, as a status or inside a reply. `refused`: 400, 413 or 422. `unauthorised`: 401 or 403.
`unknown_model`: 404. `failed`: any other status, another error inside a stream or an unnatural finish reason.
`nonsense`: a reply that the protocol does not allow."""


class ServerFailed(Exception):
    """A completion failed; `kind` says how.

    `str(error)` is safe to pass on: it holds nothing that the server wrote, except where it refused the request itself
    (`refused`), and never the key. `said` is what the server wrote, for a log.
    """

    def __init__(self, kind: FailureKind, message: str, *, said: str = "", retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.said = said
        self.retry_seconds = retry_seconds
        """What the server asked for in `Retry-After`."""

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.kind in ("down", "died", "full", "failed")

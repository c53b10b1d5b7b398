"""The one client of `/v1/completions`: forcing over HTTP, for every server that completes text or token ids.

    capabilities   what a kind of server takes, returns and calls its settings (pure)
    stream         server-sent events to completion chunks (pure)
    protocol       one completion: the body to send, what came back, where it stopped (pure)
    client         HTTP transport with deadlines (aiohttp)
    discovery      asks a server what it is
    decoding       one request from its plan to its generation

Used by `engines.completions` (blocking) and by `serve.upstream` (async). Knows nothing about either, nor about HTTP
statuses for the clients of s1kit's own server.
"""

from s1kit.completions.capabilities import DIALECTS, Capabilities, Dialect, Seam
from s1kit.completions.client import CompletionsServer
from s1kit.completions.decoding import decode
from s1kit.completions.discovery import Identity, discover
from s1kit.completions.failure import FailureKind, ServerFailed
from s1kit.completions.protocol import CompletionSettings, Piece

__all__ = [
    "DIALECTS",
    "Capabilities",
    "CompletionSettings",
    "CompletionsServer",
    "Dialect",
    "FailureKind",
    "Identity",
    "Piece",
    "Seam",
    "ServerFailed",
    "decode",
    "discover",
]

"""The one client of `/v1/completions`: forcing over HTTP, for every server that completes text or token ids.

    capabilities   what a kind of server takes, returns and calls its settings (pure)
    stream         server-sent events to completion chunks (pure)
    protocol       one completion: the body to send, what came back, where it stopped (pure)
    client         HTTP transport with deadlines (aiohttp)
    discovery      asks a server what it is
    decoding       one request from its plan to its generation
    farm, roster   several servers of one model: who takes a request, and the list of them
    failure        how a server fails, in one vocabulary (pure)

Used by `engines.completions` (blocking) and by `serve.upstream` (async). Knows nothing about either, nor about HTTP
statuses for the clients of s1kit's own server.
"""

"""The part of the Hugging Face Hub's API that an upload of small files uses, on loopback; keeps what it was sent."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from servers.threaded import in_thread


@dataclass
class Hub:
    """Repositories by `kind/name`: whether they are private, and their files."""

    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def running(self) -> AbstractContextManager[str]:
        """Serve in a thread; gives the base URL."""
        return in_thread(self._serving())

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[str]:
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/repos/create", self._create)
        app.router.add_post("/api/validate-yaml", self._validate)
        app.router.add_post("/api/{kind}s/{owner}/{name}/preupload/main", self._preupload)
        app.router.add_post("/api/{kind}s/{owner}/{name}/commit/main", self._commit)
        return app

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if request.headers.get("authorization") != "Bearer hf_test":
            return web.json_response({"error": "Invalid credentials"}, status=401)
        kind, owner = asked.get("type") or "model", asked.get("organization")
        name = f"{owner}/{asked['name']}" if owner else asked["name"]
        self.private[f"{kind}/{name}"] = asked.get("private") or asked.get("visibility") == "private"
        prefix = "" if kind == "model" else f"{kind}s/"
        return web.json_response({"url": f"http://{request.host}/{prefix}{name}", "name": name})

    async def _validate(self, request: web.Request) -> web.Response:
        """A card without a metadata block is the one error that is told here; the Hub knows more."""
        content = (await request.json())["content"]
        errors = [] if content.startswith("---\n") else [{"message": "no metadata"}]
        return web.json_response({"errors": errors, "warnings": []}, status=400 if errors else 200)

    async def _preupload(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response(
            {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked["files"]]}
        )

    async def _commit(self, request: web.Request) -> web.Response:
        place = request.match_info
        kept = self.files.setdefault(f"{place['kind']}/{place['owner']}/{place['name']}", {})
        for line in (await request.read()).splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                kept[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        url = f"http://{request.host}/{place['owner']}/{place['name']}/commit/{'a' * 40}"
        return web.json_response({"success": True, "commitOid": "a" * 40, "commitUrl": url})

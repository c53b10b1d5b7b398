"""schemathesis over the whole document that a running server serves: no 500, no hang, nothing that the document omits.

    python bench/serve_schema.py --examples 100        (`make test-schema`)
    python bench/serve_schema.py --model tiny          a model that computes, which takes ten times as long

Starts `s1kit serve` with a small context, so that the longest replies are short, and runs `st run` against its
`/openapi.json`: every operation, valid and invalid bodies. A reply that takes 30 seconds is a failure.
Prints schemathesis' summary, and how many requests got which status.
"""

from __future__ import annotations

import argparse
import collections
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from serve_load import running

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="bodies an operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="", help="as for s1kit serve; a scripted one when left out")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "s1kit", "serve", "--context", "256", "--port", str(port), "--log", "json"]
    location = f"http://127.0.0.1:{port}/openapi.json"
    test = [str(Path(sys.executable).parent / "st"), "run", location, "--continue-on-failure",
            "--max-examples", str(options.examples), "--seed", str(options.seed), "--request-timeout", "30",
            "--wait-for-schema", "120", "--suppress-health-check", "all", "--checks", ",".join(CHECKS)]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        log, script = Path(folder) / "log", Path(folder) / "script.json"
        script.write_text(json.dumps({"q": [{"thinking": "one and two .", "answer": "3"}]}))
        serve += ["--model", options.model or f"scripted:{script}"]
        with running(serve, port, log):
            status = subprocess.run(test, check=False, cwd=folder).returncode
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    requests = collections.Counter((r["endpoint"], r["status"]) for r in lines if r["event"] == "request")
    print("requests that generate:", ", ".join(f"{e} {s}: {n}" for (e, s), n in sorted(requests.items())))
    bugs = [line for line in lines if line["event"] in ("bug", "engine failed")]
    print(f"bugs in the log: {len(bugs)}", *bugs[:5], sep="\n")
    return status or bool(bugs)


if __name__ == "__main__":
    sys.exit(main())

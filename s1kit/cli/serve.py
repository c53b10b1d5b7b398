"""`s1kit serve`: its flags, and the server started with them as its options."""

from __future__ import annotations

import argparse

from s1kit.cli.shared_arguments import MODELS, add_template


def add_serve(serve: argparse.ArgumentParser) -> None:
    what = serve.add_mutually_exclusive_group()
    # No default here: with one, `--model tiny` would stand beside --upstream unnoticed.
    what.add_argument("--model", metavar="M", help=f"{MODELS} (default: tiny)")
    what.add_argument(
        "--upstream", metavar="URL", help="put the dial in front of a completions server, or of several: URL|URL, @FILE"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="0: any that is free (default: %(default)s)")
    serve.add_argument("--uds", metavar="PATH", help="listen at this Unix socket, not at host and port")

    names = serve.add_argument_group("the model")
    names.add_argument("--name", metavar="NAME", help="its name on the wire (default: as given)")
    names.add_argument("--alias", action="append", default=[], metavar="NAME", help="another name for it")
    names.add_argument("--format", metavar="F", help="thinking format (default: found from the model's files)")
    add_template(names)
    names.add_argument("--context", type=int, metavar="N", help="tokens of its context (default: what the model says)")

    dial = serve.add_argument_group("the dial")
    dial.add_argument("--lenient", action="store_true", help="list unknown fields in the reply, do not refuse them")
    dial.add_argument("--default-budget", type=int, metavar="N", help="thinking tokens where a request states none")
    dial.add_argument(
        "--auto",
        metavar="FILE",
        help="leave thinking when its answer is settled, by a rule of s1kit calibrate (a file, or a checkpoint folder)",
    )
    dial.add_argument(
        "--effort", action="append", default=[], metavar="NAME=N", help="what reasoning_effort NAME means"
    )
    dial.add_argument("--effort-map", metavar="FILE", help="TOML or JSON of all efforts, for the built-in map")

    upstream = serve.add_argument_group("the upstream")
    upstream.add_argument("--upstream-model", metavar="NAME", help="which of its models (default: the only one)")
    upstream.add_argument(
        "--upstream-kind",
        default="auto",
        metavar="K",
        help="auto, vllm, sglang, llama.cpp, transformers, open or plain",
    )
    upstream.add_argument("--upstream-key-env", metavar="VAR", help="environment variable that holds its key")
    upstream.add_argument(
        "--upstream-timeout", type=float, default=60.0, metavar="S", help="longest silence (default: %(default)s)"
    )
    upstream.add_argument(
        "--reconnect", action="store_true", help="serve it as what it is where it comes back as another model"
    )
    upstream.add_argument("--tokenizer", metavar="DIR", help="folder or Hub id (default: the upstream model's name)")

    web = serve.add_argument_group("the network")
    web.add_argument("--allow-origin", action="append", default=[], metavar="ORIGIN", help="web pages that may call")
    web.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="host name that is answered")
    web.add_argument("--root-path", default="", metavar="PATH", help="prefix that a proxy in front takes off")
    web.add_argument("--tls-cert", metavar="FILE", help="certificate chain, PEM")
    web.add_argument("--tls-key", metavar="FILE", help="its private key, PEM")

    limits = serve.add_argument_group("operations")
    limits.add_argument(
        "--api-key", action="append", default=[], metavar="KEY", help="accepted key (default: S1KIT_API_KEY, else none)"
    )
    limits.add_argument("--api-keys-file", metavar="FILE", help="lines name:key; the name is in the log")
    limits.add_argument(
        "--max-running", type=int, default=256, metavar="N", help="choices at once (default: %(default)s)"
    )
    limits.add_argument(
        "--max-waiting", type=int, default=512, metavar="N", help="choices in line (default: %(default)s)"
    )
    limits.add_argument("--max-body", type=int, default=8 << 20, metavar="BYTES", help="(default: %(default)s)")
    limits.add_argument(
        "--grace", type=float, default=30.0, metavar="S", help="time to finish at shutdown (default: %(default)s)"
    )
    limits.add_argument("--max-header", type=int, default=1 << 16, metavar="BYTES", help="(default: %(default)s)")
    limits.add_argument(
        "--max-headers", type=int, default=100, metavar="N", help="header fields of a request (default: %(default)s)"
    )
    limits.add_argument("--max-connections", type=int, default=4096, metavar="N", help="(default: %(default)s)")
    limits.add_argument(
        "--header-timeout", type=float, default=20.0, metavar="S", help="to send a header (default: %(default)s)"
    )
    limits.add_argument(
        "--body-timeout", type=float, default=60.0, metavar="S", help="to send a body (default: %(default)s)"
    )
    limits.add_argument("--request-timeout", type=float, metavar="S", help="for one request (default: none)")
    limits.add_argument("--otel", action="store_true", help="one OpenTelemetry span a request")
    limits.add_argument("--log", default="text", choices=("text", "json", "none"), help="(default: %(default)s)")


def main(given: argparse.Namespace) -> int:
    from s1kit.serve import serve

    options = {name: value for name, value in vars(given).items() if name not in ("command", "module", "quiet")}
    if options["model"] is None:
        del options["model"]
    serve(**options)
    return 0

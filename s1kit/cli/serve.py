"""`s1kit serve`: starts the server with the flags as its options."""

from __future__ import annotations

import argparse


def main(given: argparse.Namespace) -> int:
    from s1kit.serve import serve

    options = {name: value for name, value in vars(given).items() if name not in ("command", "module", "quiet")}
    if options["model"] is None:
        del options["model"]
    serve(**options)
    return 0

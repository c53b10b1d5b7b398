"""`s1kit push`: a run's checkpoint, samples and report on the Hugging Face Hub."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from s1kit.errors import MissingExtra
from s1kit.progress import say
from s1kit.share.push import plan_push


def main(given: argparse.Namespace) -> int:
    plan = plan_push(Path(given.run), given.to, with_samples=not given.no_samples)
    for line in plan.lines():
        print(line)
    if given.dry_run:
        say("nothing was uploaded (--dry-run)")
        return 0
    try:
        import huggingface_hub  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("s1kit push", "huggingface_hub", extra="hub") from error
    from s1kit.share.push import upload

    for address in upload(plan, private=not given.public):
        print(address)
    sys.stdout.flush()
    return 0

"""The command `s1kit`: reads arguments, calls one function, prints. No logic; heavy imports wait until needed."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from s1kit.cli.arguments import make_parser

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 done, 1 failed, 2 the user's mistake, 130 interrupted."""
    from s1kit.errors import InputError, S1kitError

    given = parse(arguments)
    # A polite kill is an interrupt: what is under way is written down, and the next call goes on from there.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = _dispatch(given)
        sys.stdout.flush()  # here a full disk and a closed pipe can still be told
        return status
    except KeyboardInterrupt:
        print("Interrupted. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except InputError as error:
        print(f"s1kit {given.command}: {error}", file=sys.stderr)
        return EXIT_USER
    except S1kitError as error:
        print(f"s1kit {given.command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:  # `s1kit show ... | head` is not a failure
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _drop_output()
        fix = "Free space and run the same command again."
        print(f"s1kit {given.command}: what it prints could not be written: {error.strerror}. {fix}", file=sys.stderr)
        return EXIT_FAILED


def _drop_output() -> None:
    """Let what is still to be printed go nowhere: Python would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, with `key=value` settings wherever they stand: argparse wants them in one place."""
    from s1kit.errors import nearest

    parser = make_parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        raise SystemExit(EXIT_USER)
    given, rest = parser.parse_known_args(arguments)
    command = parser.commands[given.command]
    if rest and (not hasattr(given, "overrides") or any(argument.startswith("-") for argument in rest)):
        setting = next((one for one in rest if re.match(r"--?[a-z]+\.[\w.]+=", one)), "")
        hint = f"; a setting is written without dashes: {setting.lstrip('-')}" if setting else ""
        if option := next((one.partition("=")[0] for one in rest if one.startswith("--") and not setting), ""):
            known = sorted(set(re.findall(r"--[a-z-]+", command.format_usage())))
            command.error(f"there is no option {option}. {nearest(option, known)}")
        command.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:
        given.overrides += rest
    if getattr(given, "allow_rejects", False):
        given.overrides.append("collect.allow_rejects=true")
    if getattr(given, "retry", ""):
        finishes = [finish.strip() for finish in given.retry.split(",") if finish.strip()]
        given.overrides.append(f"distill.retry={json.dumps(finishes)}")
    return given


def _dispatch(given: argparse.Namespace) -> int:
    from s1kit.progress import quieted

    command = import_module(f"s1kit.cli.{given.module}")
    with quieted(given.quiet):
        status: int = command.main(given)
    return status

"""The arguments of every command, with their help texts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from s1kit.cli.serve import add_serve
from s1kit.cli.shared_arguments import (
    MODELS,
    add_allow_rejects,
    add_recipe,
    add_recorded,
    add_redo,
    add_retry,
    add_template,
)
from s1kit.errors import nearest

Add = Callable[[str, str, str], argparse.ArgumentParser]
"""Adds a command: its name, its module of `s1kit.cli`, its help."""

STAGES = ("collect", "distill", "curate", "train", "evaluate", "report")


class Parser(argparse.ArgumentParser):
    """One that names the nearest choice for a word that it does not know."""

    commands: Mapping[str, argparse.ArgumentParser]
    """The parser of each command, in the one of all."""

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"argument (.+): invalid choice: '(.*)' \(choose from (.*)\)$", message):
            choices = re.findall(r"[\w.-]+", found[3])
            message = f"{found[1]} is {found[2]!r}. {nearest(found[2], choices)}"
        super().error(message)


def make_parser() -> Parser:
    from s1kit import __version__

    everywhere = Parser(add_help=False)
    everywhere.add_argument("--quiet", action="store_true", help="no progress, no remarks; only results and errors")

    parser = Parser(
        prog="s1kit",
        description="From a pool of questions to a small open model that reasons, "
        "and an exact dial on how long any model thinks.",
        allow_abbrev=False,
        epilog="Exit status: 0 done, 1 the work failed, 2 a mistake in what was given, 130 interrupted, nothing lost.",
    )
    parser.add_argument("--version", action="version", version=f"s1kit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parser.commands = commands.choices

    def add(name: str, module: str, help: str) -> argparse.ArgumentParser:
        # A flag cut short is a mistake: --prob would buy the replies of --probe.
        command = commands.add_parser(name, help=help, description=help, parents=[everywhere], allow_abbrev=False)
        command.set_defaults(module=module)
        return command

    _add_stages(add)
    _add_asking(add)
    _add_files(add)
    add("doctor", "doctor", "what is installed: versions, devices, engines, keys present (never their values)")
    return parser


def _add_stages(add: Add) -> None:
    """A whole recipe, its single stages, and what can be known before."""
    run = add("run", "run", "every stage of a recipe, from the pool to the report; resumable")
    add_recipe(run)
    add_allow_rejects(run)
    add_redo(run)
    add_retry(run)
    helps = {
        "collect": "questions from sources, less duplicates and what overlaps with evaluation sets",
        "distill": "traces from a teacher, asked once, paid once",
        "curate": "samples: traces that pass quality and difficulty, then a seeded selection",
        "train": "fine-tune the base on the samples",
        "evaluate": "ask the model under many thinking budgets, and grade",
        "report": "figures and an HTML report",
    }
    for stage in STAGES:
        command = add(stage, "report" if stage == "report" else "run", f"one stage: {helps[stage]}")
        add_recipe(command, needed=stage != "report")
        if stage == "report":
            add_recorded(command)
        add_redo(command)
        if stage in ("distill", "curate", "evaluate"):
            command.add_argument(
                "--part",
                metavar="I/N",
                help="do every N-th shard, beginning with I (0 to N-1), and write no receipt: one job of an array",
            )
        if stage == "collect":
            add_allow_rejects(command)
        if stage == "distill":
            add_retry(command)
    check = add("check", "check", "everything in a recipe that would be refused, before anything is spent")
    add_recipe(check)
    check.add_argument("--offline", action="store_true", help="do not try whether teachers and other servers are there")
    estimate = add("estimate", "estimate", "tokens, dollars and GPU hours of each stage, before spending anything")
    add_recipe(estimate)
    estimate.add_argument(
        "--probe",
        action="store_true",
        help="buy 20 replies of the teacher for a closer figure; they are kept for the run",
    )


def _add_asking(add: Add) -> None:
    """What asks a model or serves one."""
    ask = add("ask", "ask", "ask one question under a thinking budget")
    ask.add_argument("question", metavar="QUESTION", help="the question; - reads it from standard input")
    ask.add_argument("--model", default="tiny", metavar="M", help=f"{MODELS} (default: %(default)s)")
    ask.add_argument(
        "--max-thinking", type=int, metavar="N", help="thinking tokens at most; 0: none (default: the room there is)"
    )
    ask.add_argument(
        "--auto",
        metavar="FILE",
        help="leave thinking when its answer is settled, by a rule of s1kit calibrate (a file, or a checkpoint folder)",
    )
    ask.add_argument(
        "--min-thinking", type=int, default=0, metavar="N", help="thinking tokens at least (default: %(default)s)"
    )
    ask.add_argument(
        "--waits", type=int, default=0, metavar="N", help="attempts to stop that become a wait (default: %(default)s)"
    )
    ask.add_argument(
        "--wait", action="append", metavar="TEXT", help="what replaces a stop; repeat it to use several in turn"
    )
    ask.add_argument(
        "--answer-tokens", type=int, default=256, metavar="N", help="room kept for the answer (default: %(default)s)"
    )
    ask.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="0 is greedy (default: as the model's generation_config.json samples, else 0)",
    )
    ask.add_argument("--seed", type=int, default=0, metavar="N", help="for sampling (default: %(default)s)")
    ask.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="ends the answer; never acts on thinking"
    )
    ask.add_argument(
        "--format", metavar="F", help="thinking format; direct: none (default: found from the model's files)"
    )
    add_template(ask)
    ask.add_argument("--json", action="store_true", help="print the generation as one JSON object")

    add_serve(add("serve", "serve", "an OpenAI-compatible server with a thinking dial, and a playground"))

    calibrate = add("calibrate", "calibrate", "how early thinking may be left, from labelled questions, with a promise")
    calibrate.add_argument("model", metavar="M", help=f"{MODELS}")
    calibrate.add_argument("--questions", required=True, metavar="FILE", help="labelled questions, or a benchmark")
    calibrate.add_argument("--num", type=int, metavar="N", help="at most so many questions, drawn with the seed")
    calibrate.add_argument("--seed", type=int, default=0, metavar="N", help="of that draw (default: %(default)s)")
    calibrate.add_argument(
        "--rule",
        choices=("stable", "sure", "agree"),
        default="stable",
        help="leave by equal answers in a row, by the probability of the answer (hf: only), or by answers sampled "
        "beside it (default: %(default)s)",
    )
    target = calibrate.add_mutually_exclusive_group()
    target.add_argument(
        "--max-loss", type=float, metavar="POINTS", help="of accuracy against full thinking, at most (default: 1)"
    )
    target.add_argument(
        "--tokens", type=float, metavar="N", help="on average at most, thinking, probes and samples together"
    )
    calibrate.add_argument(
        "--confidence", type=float, default=95.0, metavar="PERCENT", help="of the promise (default: %(default)s)"
    )
    calibrate.add_argument(
        "--every", type=int, default=64, metavar="N", help="thinking tokens between two probes (default: %(default)s)"
    )
    calibrate.add_argument(
        "--max-tokens", type=int, default=2048, metavar="N", help="largest budget (default: %(default)s)"
    )
    calibrate.add_argument(
        "--answer-tokens", type=int, default=64, metavar="N", help="room of a probe's answer (default: %(default)s)"
    )
    calibrate.add_argument("--format", metavar="F", help="thinking format (default: found from the model's files)")
    add_template(calibrate)
    calibrate.add_argument("--to", metavar="FILE", help="where to write (default: auto_budget.json in the checkpoint)")


def _add_files(add: Add) -> None:
    """What reads and writes files."""
    grade = add("grade", "grade", "grade answers against solutions; JSONL out, a summary on standard error")
    grade.add_argument(
        "file",
        metavar="FILE",
        help="JSONL or Parquet with solution (or gold), answer (or pred), optionally kind; or generations",
    )

    grade.add_argument("--judge", default="", metavar="M", help="a chat model to ask where the rules disagree")
    grade.add_argument("--grader", default="", metavar="MODULE:FUNCTION", help="a grader of your own")
    grade.add_argument(
        "--executor", default="local", metavar="E", help="local, or ray: on a cluster (default: %(default)s)"
    )
    grade.add_argument("--address", default="", metavar="A", help="of the Ray cluster (default: RAY_ADDRESS, or here)")
    grade.add_argument(
        "--processes", type=int, metavar="N", help="so many at once (default: this one; with ray, as many as fit)"
    )

    show = add("show", "show", "a stage file, a run folder or a journal, for people")
    show.add_argument("path", metavar="PATH")
    show.add_argument("--num", type=int, default=5, metavar="N", help="rows to print (default: %(default)s)")
    show.add_argument("--id", metavar="ID", help="only the rows of this question")

    export = add("export", "export", "rows as JSONL or as training data of other tools; a checkpoint as GGUF")
    export.add_argument("path", metavar="PATH", help="a stage file or folder, or a checkpoint folder")
    export.add_argument(
        "--to", required=True, metavar="FILE", help="where to write; the ending .gguf converts a checkpoint"
    )
    export.add_argument(
        "--thinking-format", metavar="F", help="whose delimiters samples get (default: the run's train.format, else s1)"
    )
    export.add_argument(
        "--thinking-field",
        metavar="NAME",
        help="put thinking into this field of the reply, for chat templates that write the delimiters themselves",
    )
    export.add_argument(
        "--format", default="rows", metavar="F", help="rows, trl, axolotl or llama-factory (default: %(default)s)"
    )

    push = add("push", "push", "a run's checkpoint, samples and report on the Hugging Face Hub, each with its card")
    push.add_argument("run", metavar="RUN", help="a run folder")
    push.add_argument(
        "--to", required=True, metavar="NAME", help="namespace/name of the model; samples go to NAME-samples"
    )
    push.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and upload nothing")
    push.add_argument("--public", action="store_true", help="create public repositories (default: private)")
    push.add_argument("--no-samples", action="store_true", help="upload the model and the report only")

    schema = add("schema", "schema", "every recipe setting, every column of the rows, every field of a thinking format")
    schema.add_argument("--json", action="store_true", help="as JSON Schema")

"""Arguments that several commands take."""

from __future__ import annotations

import argparse

MODELS = (
    "hf:<dir or Hub id>, vllm:<...>, llama.cpp:<file.gguf>, completions:<base URL>#<model>, "
    "chat:<provider>/<model>, or tiny"
)


def add_template(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--template",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a switch passed to the chat template, e.g. enable_thinking=false; repeatable",
    )


def add_recorded(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--from",
        dest="recorded",
        nargs="+",
        metavar="FILE",
        help="recorded generations instead of a recipe: lm-eval samples, inspect logs, JSONL, CSV, Parquet; or folders",
    )
    command.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="where a field of a recorded row stands, e.g. max_tokens=budget; several columns joined by commas",
    )
    command.add_argument(
        "--pattern", default="", metavar="P", help="fields in the files' names, e.g. 'aime_{max_tokens}_{num_waits}'"
    )
    command.add_argument("--regrade", action="store_true", help="grade anew what has a verdict of its own")
    command.add_argument(
        "--out", metavar="DIR", help="where to write: beside --from (default: recorded), or the page of several runs"
    )


def add_recipe(command: argparse.ArgumentParser, needed: bool = True) -> None:
    command.add_argument(
        "recipe", nargs=None if needed else "?", metavar="RECIPE", help="a TOML file, or a built-in name"
    )
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings on top, e.g. train.epochs=3 or name=mine"
    )


def add_redo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--redo",
        metavar="STAGE",
        help="delete what this stage and those after it made, and do them again; paid replies are kept",
    )


def add_allow_rejects(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow-rejects",
        action="store_true",
        help="go on without a source's broken rows; they go to rejects.jsonl with their line numbers and reasons",
    )


def add_retry(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--retry",
        default="",
        metavar="FINISH[,...]",
        help="ask the teacher again where its reply ended so: failed, malformed, empty, refused, length",
    )

"""Checks of the stage `distill`: its teachers, their prompts and terms, and the verifier."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from s1kit.cli.preflight.collect import PEEK, first_questions
from s1kit.cli.preflight.faults import FaultCollector
from s1kit.cli.preflight.room import check_prompts, check_reply, known_context
from s1kit.cli.references import check_chat, check_engine, check_price, require
from s1kit.engines import suggested
from s1kit.errors import InputError
from s1kit.executors import executor_of
from s1kit.extensions import load_extension
from s1kit.grade import reference as solution_of
from s1kit.grade.load import find_grader
from s1kit.recipe import Distill, Recipe
from s1kit.train.encoded import check_terms

_WORDS_OF_AN_ANSWER = 6
"""A solution of more words is taken for a worked one."""


def check_distill(recipe: Recipe, found: FaultCollector) -> None:
    from s1kit.distill.idle_settings import refuse_idle
    from s1kit.distill.unusable import check_finishes

    for config in recipe.distill.each:
        _check_teacher(recipe, config, found)
    config = recipe.distill
    found.run(refuse_idle, config)
    if config.journal and Path(config.journal).is_dir():
        found.add(f"{config.journal!r} is a folder", "distill.journal", "Name a file, such as replies.sqlite.")
    found.run(executor_of, config)
    if config.retry:
        found.run(check_finishes, config.retry)
    if not config.until_correct:
        return
    if config.grader:
        found.run(find_grader, config.grader)
    else:
        found.run(require, "math_verify", "distill.until_correct", "grade")
    questions = first_questions(recipe)
    if questions and all(solution_of(question) is None for question in questions):
        found.add(
            f"the first {len(questions)} questions have no solution, so no answer can be found correct",
            "distill.until_correct",
            "Give questions with solutions, or use num_traces.",
        )


def _check_teacher(recipe: Recipe, config: Distill, found: FaultCollector) -> None:
    from s1kit.distill.idle_settings import is_local
    from s1kit.distill.open_teacher import parameters
    from s1kit.providers.local import check_parameters

    before = len(found.faults)
    scheme, _, rest = config.teacher.partition(":")
    match scheme:
        case "tiny" | "solutions" if not rest:
            found.run(_check_own_teacher, recipe, config.teacher)
        case "recorded" if rest:
            found.run(_check_recorded, recipe, Path(rest))
        case "chat":
            _check_provider(config, found)
        case _ if is_local(config.teacher):
            how = {"format": config.format, "template": config.template}
            found.model(check_engine, config.teacher, "distill.teacher", **how)
            found.run(check_parameters, parameters(config))
            if len(found.faults) == before:
                found.run(_check_room, recipe, config)
        case _ if found.run(load_extension, config.teacher, "teacher", "distill.teacher") is not None:
            pass
        case _ if len(found.faults) == before:
            found.add(
                f"no teacher is called {config.teacher!r}",
                "distill.teacher",
                f"{suggested(config.teacher)}A teacher is chat:<provider>/<model>, recorded:<file>, solutions, tiny, "
                "hf:<folder or Hub id>, vllm:..., llama.cpp:<file.gguf>, completions:<base URL>#<model>, or your own "
                "module:function.",
            )
    if "{question}" not in config.prompt:
        found.add("the prompt does not contain {question}", "distill.prompt", "Put {question} where the question goes.")
    if scheme == "chat" or is_local(config.teacher):
        _check_terms(recipe, config.teacher, found)


def _check_provider(config: Distill, found: FaultCollector) -> None:
    """The provider's model, its key, its price, and a cap that can be kept."""
    found.model(
        check_chat,
        config.teacher,
        "distill.teacher",
        base_url=config.base_url,
        headers=config.headers,
        key_file=config.key_file,
        price=config.price,
        prices_path=config.prices,
    )
    if not config.prices or Path(config.prices).is_file():
        urls = [config.base_url] if isinstance(config.base_url, str) else config.base_url
        found.run(check_price, config.teacher, urls, price=config.price, prices_path=config.prices)
    found.run(_check_settings, config)
    if config.price == "unknown" and config.max_cost_usd is not None:
        found.add(
            "a cap needs a price, and the price is unknown",
            "distill.max_cost_usd",
            "Give distill.price={input=..., output=...}, or leave the cap out.",
        )


def _check_settings(config: Distill) -> None:
    """The provider takes the parameters. A model that cannot be found has been named before."""
    from s1kit.distill.open_teacher import parameters
    from s1kit.providers.catalog import find_model, first_url
    from s1kit.providers.wires.extra import check_settings

    try:
        model = find_model(config.teacher, first_url(config.base_url))
    except InputError:
        return
    check_settings(model.wire, model.name, parameters(config))


def _check_terms(recipe: Recipe, teacher: str, found: FaultCollector) -> None:
    """What a model writes may be trained on, where that is what it is for."""
    from s1kit.providers.terms import terms_of

    if "train" not in recipe.stages or recipe.train.acknowledge_terms:
        return
    entry = terms_of(teacher)
    if entry.needs_reason:
        found.add(
            f"{entry.sentence}; train would refuse the traces after they were paid for",
            "distill.teacher",
            'Take another teacher, or say why you may with train.acknowledge_terms="...".',
        )


def _check_room(recipe: Recipe, config: Distill) -> None:
    """The first questions fit the context of a local teacher, and so does the thinking that the recipe asks for."""
    model = known_context(config.teacher, format=config.format, template=config.template)
    if model is None:
        return
    questions = [config.prompt.replace("{question}", question.text) for question in first_questions(recipe)]
    check_prompts(model, questions, "distill.teacher", system=config.system or "", room=model.delimiter_tokens + 1)
    if config.thinking_budget is not None:
        others = model.delimiter_tokens + 1
        name = "distill.thinking_budget"
        check_reply(model, questions, config.thinking_budget, name, others=others, system=config.system or "")


def _check_recorded(recipe: Recipe, path: Path) -> None:
    """The first traces can be read, and may be trained on where that is what they are for."""
    from s1kit.distill.teachers import recorded_traces

    traces = list(islice(recorded_traces(path), PEEK))
    if not traces:
        raise InputError("the file holds no traces", where=str(path), fix="Give one that has rows.")
    if "train" in recipe.stages:
        check_terms(traces, recipe.train.acknowledge_terms)


def _check_own_teacher(recipe: Recipe, teacher: str) -> None:
    """The teachers without a model answer the first questions of each source: whether they can is known at once."""
    import asyncio

    from s1kit.distill.teachers import SolutionsTeacher, TinyTeacher

    questions = first_questions(recipe)
    if teacher == "tiny":
        tiny = TinyTeacher()
        for question in questions:
            try:
                asyncio.run(tiny.ask(question, 0))
            except InputError as error:
                raise InputError(
                    f"the built-in teacher knows the built-in questions only, not {question.text[:60]!r}",
                    where="distill.teacher",
                    fix='Ask a model, or take "solutions" where your questions have worked solutions.',
                ) from error
        return
    traces = [asyncio.run(SolutionsTeacher().ask(question, 0)) for question in questions]
    if traces and all(trace.finish_reason == "empty" for trace in traces):
        if any(len((question.solution or "").split()) > _WORDS_OF_AN_ANSWER for question in questions):
            raise InputError(
                f"the first {len(traces)} questions have worked solutions of which no short answer is known",
                where="distill.teacher",
                fix="Give the short answer in a column of its own (answer), or in the solution's \\boxed{}.",
            )
        raise InputError(
            f"the first {len(traces)} questions have no worked solutions, and a bare answer is no trace",
            where="distill.teacher",
            fix="Give the worked solution in a column of its own (solution), or ask a model.",
        )

"""From a checked body to jobs: renders the prompt, fits the budget into the context, refuses what cannot be honoured.

Prompts are rendered here and cross to the engine as token ids, so that thinking can be continued token-exactly.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from s1kit.adaptive.rule import ExitRule
from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.thinking_format import encode
from s1kit.serve.answer_form import AnswerForm, read_answer_form, unsupported
from s1kit.serve.chat import ChatBody, CompletionBody
from s1kit.serve.decoding import Backend, Job
from s1kit.serve.dial import Dial, Fit, read_dial
from s1kit.serve.fields import MOST_CHOICES, SamplingFields
from s1kit.serve.prompts import chat_ids, check_no_switches, goes_on, is_thinking_open, prompt_ids, prompts_of
from s1kit.serve.refusals import Refusal, from_input_error
from s1kit.serve.tool_calls import ToolStyle

_ANY_CONTEXT = 1 << 40
_SEED_BITS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """One request as jobs, the choices of each prompt in a row."""

    jobs: list[Job]
    dial: Dial
    prompt_tokens: int
    tools: ToolStyle | None
    """How calls are written; None where the request has no tools."""
    wants_logprobs: bool
    wants_one_call: bool = False
    """Whether the reply ends with the first call."""


def parse_chat(body: ChatBody, backend: Backend, efforts: Mapping[str, int], default: int | None) -> ParsedRequest:
    """The jobs of a chat request. Raises Refusal."""
    dial = read_dial(body, efforts, default)
    total = _agreed_total(body)
    if body.top_logprobs and not body.logprobs:
        raise Refusal(400, "top_logprobs needs logprobs to be true.", param="top_logprobs", code="fields_disagree")
    form = read_answer_form(body, backend)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    continues = goes_on(body)
    prompt = chat_ids(body, backend)
    question = next((m.text for m in reversed(body.messages) if m.role == "user"), "")
    thinks = backend.tokens.format.thinks and not continues
    if not backend.tokens.format.thinks:
        _check_no_thinking(dial, backend)
    if continues and dial.is_stated and (dial.max_tokens != 0 or dial.min_tokens or dial.num_waits):
        raise Refusal(
            400,
            f"{dial.budget_field}: the last message is the beginning of an answer, so thinking is over. "
            "Leave the field out, or the message.",
            param=dial.budget_field,
            code="fields_disagree",
        )
    jobs = _Prompted(body, backend, dial, form, prompt, thinks, total, logprobs, question).jobs()
    wants_one_call = form.style is not None and body.parallel_tool_calls is False
    return ParsedRequest(jobs, dial, len(prompt), form.style, logprobs is not None, wants_one_call)


def parse_completion(
    body: CompletionBody, backend: Backend, efforts: Mapping[str, int], default: int | None
) -> ParsedRequest:
    """The jobs of a completion request: for each prompt, `n` of them. Raises Refusal."""
    dial = read_dial(body, efforts, default)
    check_no_switches(body)
    prompts = [prompt_ids(backend, p) for p in prompts_of(body)]
    if len(prompts) * (body.n or 1) > MOST_CHOICES:
        raise Refusal(
            400,
            f"{len(prompts)} prompts times n={body.n} make {len(prompts) * (body.n or 1)} choices. "
            f"Give at most {MOST_CHOICES}.",
            param="n",
            code="invalid_value",
        )
    jobs, form = [], AnswerForm(backend.tokens)
    for prompt in prompts:
        thinks = dial.is_stated or is_thinking_open(backend.tokens, prompt)
        if not backend.tokens.format.thinks:
            _check_no_thinking(dial, backend)
            thinks = False
        if thinks and not is_thinking_open(backend.tokens, prompt):
            prompt = [*prompt, *backend.tokens.open_ids]
        total = body.max_tokens if thinks or body.max_tokens is not None else 16  # OpenAI's default for completions
        jobs += _Prompted(body, backend, dial, form, prompt, thinks, total, body.logprobs).jobs()
    num_prompt_tokens = sum(len(j.plan.prompt_ids) for j in jobs[:: body.n or 1])
    return ParsedRequest(jobs, dial, num_prompt_tokens, None, body.logprobs is not None)


@dataclass(frozen=True, slots=True)
class _Prompted:
    """What the choices of one prompt are decoded from."""

    body: SamplingFields
    backend: Backend
    dial: Dial
    form: AnswerForm
    prompt: list[int]
    thinks: bool
    total: int | None
    """Most tokens of thinking and answer together, as the request says."""
    logprobs: int | None
    """Likeliest tokens to report beside each; None: no probabilities are."""
    question: str = ""

    def jobs(self) -> list[Job]:
        """A job for each choice that the request wants. Raises Refusal for what the engine cannot do."""
        body, backend = self.body, self.backend
        if self.logprobs is not None and "logprobs" not in backend.features:
            raise unsupported("logprobs", backend)
        if self.dial.is_auto and backend.rule is None:
            raise Refusal(
                400,
                f"budget is 'auto', and {backend.model} is served without an exit rule. Start the server with --auto "
                "FILE, a file that s1kit calibrate wrote, or give a number as thinking_token_budget.",
                param="budget",
                code="unsupported",
            )
        if body.min_p and "min_p" not in backend.features:
            raise unsupported("min_p", backend)
        if body.top_k not in (None, 0, -1) and "top_k" not in backend.features:
            raise unsupported("top_k", backend)
        stated = body.model_dump(include={"temperature", "top_p", "top_k", "min_p", "seed"}, exclude_none=True)
        if stated.get("top_k") == -1:
            stated["top_k"] = 0
        # Drawing without a seed must differ from request to request, as OpenAI's does.
        drawn = stated if "temperature" in stated else asdict(backend.sampling) | stated
        seed = stated.get("seed", secrets.randbits(31) if drawn["temperature"] else 0)
        plan, has_answer = self._plan(drawn | {"seed": seed})
        is_auto = self.dial.is_auto or (backend.rule is not None and not self.dial.is_stated)
        is_auto = is_auto and has_answer and self.thinks
        if is_auto and backend.rule is not None:
            plan = _within_rule(plan, backend.rule)
        jobs = []
        for i in range(body.n or 1):
            sampling = stated | ({"seed": seed + i} if "seed" in stated else {})
            # The choices differ by their seeds alone.
            own = replace(plan, request=replace(plan.request, seed=(seed + i) & _SEED_BITS))
            jobs.append(Job(own, self.logprobs, sampling, self.form.response_format, has_answer, is_auto=is_auto))
        return jobs

    def _plan(self, drawn: Mapping[str, Any]) -> tuple[Plan, bool]:
        """The plan of one choice, and whether its total leaves room for an answer."""
        backend, dial, tokens = self.backend, self.dial, self.form.tokens
        room = backend.context_tokens - len(self.prompt)
        if room < 1:
            raise Refusal(
                400,
                f"the prompt takes {len(self.prompt)} tokens and the context holds {backend.context_tokens}. "
                "Shorten it.",
                param="messages" if isinstance(self.body, ChatBody) else "prompt",
                code="context_length_exceeded",
            )
        closing, stop = "", self.body.stop
        if self.thinks:
            closing = self.form.closing_phrase(dial.closing_phrase)
            close_tokens = len(tokens.lead_ids) + len(tokens.end_ids)
            fit = dial.fitted(room, close_tokens, len(encode(tokens.tokenizer, closing)), self.total)
        else:
            fit = Fit(ThinkingBudget(0), min(room, self.total or room), None)
        try:
            request = Request(
                question=self.question,
                budget=fit.budget,
                answer_tokens=fit.answer_tokens,
                temperature=drawn.get("temperature", 0.0),
                top_p=drawn.get("top_p", 1.0),
                top_k=drawn.get("top_k", 0),
                seed=drawn["seed"] & _SEED_BITS,
                wait=dial.wait,
                closing_phrase=closing,
                answer_grammar=self.form.grammar,
                stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            )
            # The room was checked above, against the prompt that is really used.
            plan = make_plan(request, tokens, _ANY_CONTEXT, self.prompt)
            asked = dial.max_tokens if self.thinks else None
            lowered_from = asked if asked is not None and asked > fit.budget.max_tokens else None
            plan = replace(plan, thinks=self.thinks, completion_tokens=fit.completion_tokens, lowered_from=lowered_from)
            return plan, fit.has_answer
        except InputError as error:
            raise from_input_error(error) from error


def _within_rule(plan: Plan, rule: ExitRule) -> Plan:
    """The plan within the rule's largest budget. Raises Refusal for a minimum above it."""
    own = plan.budget
    if own.min_tokens > rule.max_tokens:
        raise Refusal(
            400,
            f"min_thinking_tokens is {own.min_tokens}, above the largest budget of the server's exit rule, which is "
            f"{rule.max_tokens}. Give {rule.max_tokens} or less, or leave budget out.",
            param="min_thinking_tokens",
            code="fields_disagree",
        )
    budget = replace(own, max_tokens=min(own.max_tokens, rule.max_tokens))
    return replace(plan, budget=budget, request=replace(plan.request, budget=budget))


def _check_no_thinking(dial: Dial, backend: Backend) -> None:
    """Raises Refusal where thinking is asked of a model that is served without any."""
    if dial.is_stated and (dial.max_tokens != 0 or dial.min_tokens or dial.num_waits):
        raise Refusal(
            400,
            f"{dial.budget_field}: {backend.model} is served without thinking (format "
            f"{backend.tokens.format.name}). Leave it out, or serve the model with another --format.",
            param=dial.budget_field,
            code="unsupported",
        )


def _agreed_total(body: ChatBody) -> int | None:
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise Refusal(
            400,
            f"max_tokens is {body.max_tokens} and max_completion_tokens {body.max_completion_tokens}. Give only one.",
            param="max_completion_tokens",
            code="fields_disagree",
        )
    return body.max_tokens if body.max_tokens is not None else body.max_completion_tokens

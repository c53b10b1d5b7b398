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
from s1kit.forcing.formats import TEMPLATE_FAULTS, encode, guarded_turn
from s1kit.forcing.plain_text import CUT
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat
from s1kit.serve.decoding import Backend, Job
from s1kit.serve.dial import Dial, Fit, read_dial
from s1kit.serve.fields import MOST_CHOICES, ChatBody, CompletionBody, Message, SamplingFields
from s1kit.serve.prompt_size import check_length
from s1kit.serve.refusals import Refusal, from_input_error
from s1kit.serve.structure import answer_grammar
from s1kit.serve.tools import ToolStyle, arguments_of, find_style

_ANY_CONTEXT = 1 << 40


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """One request as jobs, the choices of each prompt in a row."""

    jobs: list[Job]
    dial: Dial
    prompt_tokens: int
    tools: ToolStyle | None
    """How calls are written; None where the request has no tools."""
    wants_logprobs: bool


def parse_chat(body: ChatBody, backend: Backend, efforts: Mapping[str, int], default: int | None) -> ParsedRequest:
    """The jobs of a chat request. Raises Refusal."""
    dial = read_dial(body, efforts, default)
    total = _agreed_total(body)
    wants_tools = bool(body.tools) and body.tool_choice != "none"
    style = find_style(_template(backend.tokens)) if body.tools else None
    if body.tools and style is None:
        raise Refusal(
            400,
            f"tools: the chat template of {backend.model} does not show tools to the model, or teaches a form of calls "
            "that is not known here. Leave tools out.",
            param="tools",
            code="unsupported",
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise Refusal(400, "top_logprobs needs logprobs to be true.", param="top_logprobs", code="fields_disagree")
    if body.parallel_tool_calls is False and wants_tools and body.tool_choice in (None, "auto"):
        what = "parallel_tool_calls is false, but the number of calls is not constrained here. Leave it out."
        raise Refusal(400, what, param="parallel_tool_calls", code="unsupported")
    response_format, grammar = _form_of_answer(body, backend, style if wants_tools else None)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    goes_on = _goes_on(body)
    prompt = chat_ids(body, backend)
    question = next((m.text for m in reversed(body.messages) if m.role == "user"), "")
    thinks = backend.tokens.format.thinks and not goes_on
    if not backend.tokens.format.thinks:
        _check_no_thinking(dial, backend)
    if goes_on and dial.is_stated and (dial.max_tokens != 0 or dial.min_tokens or dial.num_waits):
        raise Refusal(
            400,
            f"{dial.budget_field}: the last message is the beginning of an answer, so thinking is over. "
            "Leave the field out, or the message.",
            param=dial.budget_field,
            code="fields_disagree",
        )
    jobs = _jobs(body, backend, dial, prompt, question, total, logprobs, thinks, response_format, grammar)
    return ParsedRequest(jobs, dial, len(prompt), style if wants_tools else None, logprobs is not None)


def chat_ids(body: ChatBody, backend: Backend) -> list[int]:
    """The ids of the rendered chat, the opening delimiter included. Raises Refusal where the template does."""
    wants_tools = bool(body.tools) and body.tool_choice != "none"
    tools = [tool.model_dump(exclude_none=True) for tool in body.tools or []] if wants_tools else None
    if not _goes_on(body):
        return _render(backend, body.messages, tools)
    begun, tokens = body.messages[-1], backend.tokens
    prompt = _render(backend, body.messages[:-1], tools)
    if tokens.format.thinks:
        thinking = begun.reasoning_content or begun.reasoning or ""
        prompt += [*encode(tokens.tokenizer, thinking), *tokens.lead_ids, *tokens.end_ids]
    check_length(backend, begun.text, "messages")
    return prompt + (encode(tokens.tokenizer, begun.text) if begun.text else [])


def _goes_on(body: ChatBody) -> bool:
    """Whether the reply continues the last message, which is the beginning of an answer. Raises Refusal."""
    role, last = body.messages[-1].role, len(body.messages) - 1
    goes_on = bool(body.continue_final_message)
    if body.add_generation_prompt is not None and body.add_generation_prompt == goes_on:
        raise Refusal(
            400,
            f"add_generation_prompt and continue_final_message are both {str(goes_on).lower()}; one of them is true.",
            param="add_generation_prompt",
            code="fields_disagree",
        )
    if goes_on and (role != "assistant" or last == 0 or body.messages[-1].tool_calls):
        raise Refusal(
            400,
            "continue_final_message needs a last message of role assistant, without calls, after other messages.",
            param="continue_final_message",
            code="fields_disagree",
        )
    if not goes_on and role not in ("user", "tool"):
        raise Refusal(
            400,
            f"the last message is of role {role}; the model answers a user or a tool. "
            "To continue an answer, set continue_final_message to true.",
            param=f"messages.{last}.role",
            code="invalid_value",
        )
    return goes_on


def parse_completion(
    body: CompletionBody, backend: Backend, efforts: Mapping[str, int], default: int | None
) -> ParsedRequest:
    """The jobs of a completion request: for each prompt, `n` of them. Raises Refusal."""
    dial = read_dial(body, efforts, default)
    prompts = [_prompt_ids(backend, p) for p in _prompts(body)]
    if len(prompts) * (body.n or 1) > MOST_CHOICES:
        raise Refusal(
            400,
            f"{len(prompts)} prompts times n={body.n} make {len(prompts) * (body.n or 1)} choices. "
            f"Give at most {MOST_CHOICES}.",
            param="n",
            code="invalid_value",
        )
    jobs = []
    for prompt in prompts:
        thinks = dial.is_stated or _is_thinking_open(backend.tokens, prompt)
        if not backend.tokens.format.thinks:
            _check_no_thinking(dial, backend)
            thinks = False
        if thinks and not _is_thinking_open(backend.tokens, prompt):
            prompt = [*prompt, *backend.tokens.open_ids]
        total = body.max_tokens if thinks or body.max_tokens is not None else 16  # OpenAI's default for completions
        jobs += _jobs(body, backend, dial, prompt, "", total, body.logprobs, thinks)
    num_prompt_tokens = sum(len(j.plan.prompt_ids) for j in jobs[:: body.n or 1])
    return ParsedRequest(jobs, dial, num_prompt_tokens, None, body.logprobs is not None)


def _jobs(
    body: SamplingFields,
    backend: Backend,
    dial: Dial,
    prompt: list[int],
    question: str,
    total: int | None,
    logprobs: int | None,
    thinks: bool,
    response_format: Mapping[str, Any] | None = None,
    grammar: str = "",
) -> list[Job]:
    if logprobs is not None and "logprobs" not in backend.features:
        raise _unsupported("logprobs", backend)
    if dial.is_auto and backend.rule is None:
        raise Refusal(
            400,
            f"budget is 'auto', and {backend.model} is served without an exit rule. Start the server with --auto FILE, "
            "a file that s1kit calibrate wrote, or give a number as thinking_token_budget.",
            param="budget",
            code="unsupported",
        )
    if body.min_p and "min_p" not in backend.features:
        raise _unsupported("min_p", backend)
    if body.top_k not in (None, 0, -1) and "top_k" not in backend.features:
        raise _unsupported("top_k", backend)
    stated = body.model_dump(include={"temperature", "top_p", "top_k", "min_p", "seed"}, exclude_none=True)
    if stated.get("top_k") == -1:
        stated["top_k"] = 0
    # Drawing without a seed must differ from request to request, as OpenAI's does.
    drawn = stated if "temperature" in stated else asdict(backend.sampling) | stated
    seed = stated.get("seed", secrets.randbits(31) if drawn["temperature"] else 0)
    jobs = []
    for i in range(body.n or 1):
        plan, has_answer = _plan(
            body, backend, dial, prompt, question, total, thinks, drawn | {"seed": seed + i}, grammar
        )
        sampling = stated | ({"seed": seed + i} if "seed" in stated else {})
        is_auto = dial.is_auto or (backend.rule is not None and not dial.is_stated)
        is_auto = is_auto and has_answer and thinks
        if is_auto and backend.rule is not None:
            plan = _within_rule(plan, backend.rule)
        jobs.append(Job(plan, logprobs, sampling, response_format, has_answer, is_auto=is_auto))
    return jobs


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


def _plan(
    body: SamplingFields,
    backend: Backend,
    dial: Dial,
    prompt: list[int],
    question: str,
    total: int | None,
    thinks: bool,
    stated: Mapping[str, Any],
    grammar: str,
) -> tuple[Plan, bool]:
    """The plan of one choice, and whether its total leaves room for an answer."""
    tokens = backend.tokens
    room = backend.context_tokens - len(prompt)
    if room < 1:
        raise Refusal(
            400,
            f"the prompt takes {len(prompt)} tokens and the context holds {backend.context_tokens}. Shorten it.",
            param="messages" if isinstance(body, ChatBody) else "prompt",
            code="context_length_exceeded",
        )
    closing: str | None = ""
    if thinks:
        closing = dial.closing_phrase
        if closing is None:
            # An answer that is held to a grammar is nothing but that.
            closing = "" if grammar else tokens.format.closing_phrase
        close_tokens = len(tokens.lead_ids) + len(tokens.end_ids)
        fit = dial.fitted(room, close_tokens, len(encode(tokens.tokenizer, closing)), total)
    else:
        fit = Fit(ThinkingBudget(0), min(room, total or room), None)
    try:
        request = Request(
            question=question,
            budget=fit.budget,
            answer_tokens=fit.answer_tokens,
            temperature=stated.get("temperature", 0.0),
            top_p=stated.get("top_p", 1.0),
            top_k=stated.get("top_k", 0),
            seed=stated["seed"] & 0x7FFFFFFFFFFFFFFF,
            wait=dial.wait,
            closing_phrase=closing if thinks else "",
            answer_grammar=grammar,
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        )
        # The room was checked above, against the prompt that is really used.
        plan = make_plan(request, tokens, _ANY_CONTEXT, prompt)
        asked = dial.max_tokens if thinks else None
        lowered_from = asked if asked is not None and asked > fit.budget.max_tokens else None
        plan = replace(plan, thinks=thinks, completion_tokens=fit.completion_tokens, lowered_from=lowered_from)
        return plan, fit.has_answer
    except InputError as error:
        raise from_input_error(error) from error


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


def _form_of_answer(body: ChatBody, backend: Backend, style: ToolStyle | None) -> tuple[Mapping[str, Any] | None, str]:
    """What holds the answer to a form: OpenAI's object for an upstream, or a grammar for an engine of this process."""
    response_format = _response_format(body, backend)
    if "grammar" in backend.features:
        return None, answer_grammar(body, style, backend.tokens.tokenizer.get_vocab())
    if body.tool_choice not in (None, "none", "auto"):
        raise _unsupported("tool_choice", backend)
    if style is not None and any(tool.function.strict for tool in body.tools or []):
        raise _unsupported("tools.function.strict", backend)
    return response_format, ""


def _response_format(body: ChatBody, backend: Backend) -> Mapping[str, Any] | None:
    asked = body.response_format
    if asked is None or asked.type == "text":
        return None
    if (asked.type == "json_schema") != (asked.json_schema is not None):
        raise Refusal(
            400,
            "response_format: json_schema belongs to type json_schema, and that type needs it.",
            param="response_format.json_schema",
            code="fields_disagree",
        )
    if not {"response_format", "grammar"} & backend.features:
        raise _unsupported("response_format", backend)
    return asked.model_dump(by_alias=True, exclude_none=True)


def _unsupported(field: str, backend: Backend) -> Refusal:
    return Refusal(
        400,
        f"{field}: the engine behind {backend.model} does not offer it. Leave it out.",
        param=field,
        code="unsupported",
    )


def _template(tokens: TokenFormat) -> str | None:
    template = getattr(tokens.tokenizer, "chat_template", None)
    return template if isinstance(template, str) else tokens.format.chat_template


def _render(backend: Backend, messages: list[Message], tools: list[dict[str, Any]] | None) -> list[int]:
    """The ids of the chat, the opening delimiter included. Raises Refusal where the template does.

    What users, tools and the system message say is text, also where it spells a delimiter.
    """
    tokens = backend.tokens
    options = dict(tokens.format.template) | ({"tools": tools} if tools else {})
    if not getattr(tokens.tokenizer, "chat_template", None):
        options["chat_template"] = tokens.format.chat_template
    try:
        text = tokens.tokenizer.apply_chat_template(
            [guarded_turn(tokens.tokenizer, tokens.format, _turn(m)) for m in messages],
            tokenize=False,
            add_generation_prompt=True,
            **options,
        )
    except TEMPLATE_FAULTS as error:
        raise Refusal(
            400, f"messages: the chat template refuses them: {error}.", param="messages", code="invalid_value"
        ) from error
    check_length(backend, str(text), "messages")
    if CUT in str(text) and getattr(backend, "seam", "ids") == "text":
        raise Refusal(
            400,
            "messages: the text spells a special token of the model, which the server behind this one, taking text "
            "only, would read as that token. Write it another way.",
            param="messages",
            code="invalid_value",
        )
    try:
        return tokens.format.opened_ids(tokens.tokenizer, str(text))
    except InputError as error:
        raise from_input_error(error) from error


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {
        # OpenAI's later name for the same thing; templates know only the first.
        "role": "system" if message.role == "developer" else message.role,
        "content": message.text,
    }
    thinking = message.reasoning_content or message.reasoning
    if thinking:
        turn["reasoning_content"] = thinking
    if message.tool_calls:
        turn["tool_calls"] = [
            call.model_dump(exclude={"function"})
            | {"function": {"name": call.function.name, "arguments": arguments_of(call.function.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _prompts(body: CompletionBody) -> list[str] | list[list[int]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [[i for i in prompt if isinstance(i, int)]]
    return prompt  # type: ignore[return-value]


def _prompt_ids(backend: Backend, prompt: str | list[int]) -> list[int]:
    tokens = backend.tokens
    if isinstance(prompt, str):
        if not prompt:
            raise Refusal(400, "prompt is empty. Give some text.", param="prompt", code="invalid_value")
        check_length(backend, prompt, "prompt")
        return encode(tokens.tokenizer, prompt)
    largest = max(tokens.tokenizer.get_vocab().values(), default=-1)
    if max(prompt) > largest:
        raise Refusal(
            400, f"prompt holds the id {max(prompt)}; the largest is {largest}.", param="prompt", code="invalid_value"
        )
    return prompt


def text_ids(backend: Backend, text: str) -> list[int]:
    """The ids of a text; none for an empty one. Raises Refusal where it cannot fit by its length."""
    check_length(backend, text, "prompt")
    return encode(backend.tokens.tokenizer, text) if text else []


def _is_thinking_open(tokens: TokenFormat, prompt: list[int]) -> bool:
    """Whether the prompt ends inside a thinking block: its last opening delimiter is not followed by an end."""
    if not tokens.format.thinks:
        return False
    opened, ended = (
        _last(prompt, tokens.open_ids),
        _last(prompt, tuple(encode(tokens.tokenizer, tokens.format.end.rstrip()))),
    )
    return opened is not None and (ended is None or ended < opened)


def _last(ids: list[int], wanted: tuple[int, ...]) -> int | None:
    size = len(wanted)
    return next((i for i in range(len(ids) - size, -1, -1) if tuple(ids[i : i + size]) == wanted), None)

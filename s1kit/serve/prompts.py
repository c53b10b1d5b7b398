"""Messages or a prompt as token ids, by the model's own chat template and tokenizer.

What cannot be rendered or surely does not fit is refused.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from s1kit.errors import InputError
from s1kit.forcing.formats import Tokenizer
from s1kit.forcing.plain_text import CUT
from s1kit.forcing.switches import has_switch
from s1kit.forcing.thinking_format import TEMPLATE_FAULTS, encode, guarded_turn
from s1kit.forcing.token_format import TokenFormat, last_place
from s1kit.serve.chat import ChatBody, CompletionBody, Message
from s1kit.serve.decoding import Backend
from s1kit.serve.refusals import Refusal, from_input_error
from s1kit.serve.tool_calls import arguments_of

_SURELY_TOKENISED = 1 << 16
"""Characters below which it costs less to count the tokens."""


def chat_ids(body: ChatBody, backend: Backend) -> list[int]:
    """The ids of the rendered chat, the opening delimiter included. Raises Refusal where the template does."""
    tools = [tool.model_dump(exclude_none=True) for tool in body.functions] if body.wants_tools else None
    if not goes_on(body):
        return _render(backend, body.messages, tools, _switches(body, backend.tokens))
    begun, tokens = body.messages[-1], backend.tokens
    prompt = _render(backend, body.messages[:-1], tools, _switches(body, backend.tokens))
    if tokens.format.thinks:
        thinking = begun.thinking or ""
        prompt += [*encode(tokens.tokenizer, thinking), *tokens.lead_ids, *tokens.end_ids]
    check_length(backend, begun.text, "messages")
    return prompt + (encode(tokens.tokenizer, begun.text) if begun.text else [])


def goes_on(body: ChatBody) -> bool:
    """Whether the reply continues the last message, which is the beginning of an answer. Raises Refusal."""
    role, last = body.messages[-1].role, len(body.messages) - 1
    for i, message in enumerate(body.messages):
        if message.is_begun and (i < last or role != "assistant"):
            field = f"messages.{i}.{'prefix' if message.prefix else 'partial'}"
            what = f"{field} is true; only a last message of the assistant can be the beginning of the answer."
            raise Refusal(400, what, param=field, code="invalid_value")
    goes_on = bool(body.continue_final_message) or body.messages[-1].is_begun
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
    if not goes_on and role == "assistant" and not body.add_generation_prompt:
        raise Refusal(
            400,
            "the last message is of role assistant. To continue it, set continue_final_message to true; "
            "for another message after it, add_generation_prompt.",
            param=f"messages.{last}.role",
            code="invalid_value",
        )
    return goes_on


def check_no_switches(body: CompletionBody) -> None:
    """Raises Refusal for what would be handed to a chat template, which a prompt does not pass through."""
    for field, _ in body.template_switches.values():
        what = f"{field}: a prompt is used as it is, without the chat template. Leave it out."
        raise Refusal(400, what, param=field, code="no_effect")


def _switches(body: ChatBody, tokens: TokenFormat) -> dict[str, bool]:
    """What the request hands to the chat template. Raises Refusal for what the template does not look at."""
    template = getattr(tokens.tokenizer, "chat_template", None) or tokens.format.chat_template
    for name, (field, _) in body.template_switches.items():
        if not has_switch(template, name):
            what = f"{field}: the chat template of this model has no switch {name}. Leave it out."
            raise Refusal(400, what, param=field, code="no_effect")
    return {name: value for name, (_, value) in body.template_switches.items()}


def _render(
    backend: Backend, messages: list[Message], tools: list[dict[str, Any]] | None, switches: dict[str, bool]
) -> list[int]:
    """The ids of the chat, the opening delimiter included. Raises Refusal where the template does.

    What users, tools and the system message say is text, also where it spells a delimiter.
    """
    tokens = backend.tokens
    options = dict(tokens.format.template) | switches | ({"tools": tools} if tools else {})
    field = _thinking_field(tokens)
    if not getattr(tokens.tokenizer, "chat_template", None):
        options["chat_template"] = tokens.format.chat_template
    try:
        text = tokens.tokenizer.apply_chat_template(
            [guarded_turn(tokens.tokenizer, tokens.format, _turn(m, field)) for m in messages],
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


def _thinking_field(tokens: TokenFormat) -> str:
    """The field of a turn in which the chat template looks for earlier thinking."""
    template = getattr(tokens.tokenizer, "chat_template", None)
    is_other = isinstance(template, str) and "message.thinking" in template and "reasoning_content" not in template
    return "thinking" if is_other else "reasoning_content"


def _turn(message: Message, thinking_field: str) -> dict[str, Any]:
    turn: dict[str, Any] = {
        # OpenAI's later name for the same thing; templates know only the first.
        "role": "system" if message.role == "developer" else message.role,
        "content": message.text,
    }
    thinking = message.thinking
    # gpt-oss's template takes either text or thinking beside a call.
    if thinking and not (thinking_field == "thinking" and message.tool_calls and message.text):
        turn[thinking_field] = thinking
    if message.tool_calls:
        turn["tool_calls"] = [
            call.model_dump(exclude={"function"})
            | {"function": {"name": call.function.name, "arguments": arguments_of(call.function.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def prompts_of(body: CompletionBody) -> list[str] | list[list[int]]:
    """The prompts of a body, whichever of the four forms it has."""
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [[i for i in prompt if isinstance(i, int)]]
    return prompt  # type: ignore[return-value]


def prompt_ids(backend: Backend, prompt: str | list[int]) -> list[int]:
    """The ids of one prompt. Raises Refusal where it is empty, too long, or holds ids that the model does not have."""
    tokens = backend.tokens
    if isinstance(prompt, str):
        if not prompt:
            raise Refusal(400, "prompt is empty. Give some text.", param="prompt", code="invalid_value")
        check_length(backend, prompt, "prompt")
        return encode(tokens.tokenizer, prompt)
    if not tokens.knows(max(prompt)):
        what = f"prompt holds the id {max(prompt)}; the largest is {tokens.num_ids - 1}."
        raise Refusal(400, what, param="prompt", code="invalid_value")
    return prompt


def text_ids(backend: Backend, text: str, with_special: bool = False) -> list[int]:
    """The ids of a text; none for an empty one. Raises Refusal where it cannot fit by its length.

    `with_special`: with what the tokenizer puts before and after a text.
    """
    check_length(backend, text, "prompt")
    return list(backend.tokens.tokenizer.encode(text, add_special_tokens=with_special)) if text else []


def is_thinking_open(tokens: TokenFormat, prompt: list[int]) -> bool:
    """Whether the prompt ends inside a thinking block: its last opening delimiter is not followed by an end."""
    if not tokens.format.thinks:
        return False
    opened = last_place(prompt, tokens.open_ids)
    ended = last_place(prompt, tuple(encode(tokens.tokenizer, tokens.format.end.rstrip())))
    return opened is not None and (ended is None or ended < opened)


@lru_cache(maxsize=8)
def longest_token(tokenizer: Tokenizer) -> int:
    """An upper bound of the characters of one token: byte-level vocabularies write each byte as a character."""
    return max(map(len, tokenizer.get_vocab()), default=1)


def check_length(backend: Backend, text: str, param: str) -> None:
    """Raises Refusal (400) where a text of this length has more tokens than the context, whatever its characters."""
    if len(text) <= _SURELY_TOKENISED:
        return
    # Tokenizers are hashed by identity, which the protocol does not say.
    least = len(text) // longest_token(backend.tokens.tokenizer)  # type: ignore[arg-type]
    if least > backend.context_tokens:
        raise Refusal(
            400,
            f"{param}: the prompt is {len(text)} characters long, which are at least {least} tokens, and the context "
            f"of {backend.model} has {backend.context_tokens}. Send less.",
            param=param,
            code="context_length_exceeded",
        )

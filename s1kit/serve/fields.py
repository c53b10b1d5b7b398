"""The bodies of `/v1/chat/completions` and `/v1/completions`: every field that is understood, and no other.

An unknown field, a wrong type or a number out of range is an error that names the field. Fields that cannot change what
is generated (ids, metadata, routing hints), nulls and neutral values are accepted.
What the thinking fields mean together is decided in `dial`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_CHOICES = 64
"""Upper bound of `n`, and of `n` times the number of prompts."""
MOST_TOKENS = 1 << 30
"""Upper bound of every number of tokens; a context is smaller, this only keeps numbers sane."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

TokenCount = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
BudgetCount = Annotated[int, Field(ge=-1, le=MOST_TOKENS)]
PositiveCount = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Total = Annotated[PositiveCount | None, BeforeValidator(lambda given: None if given == -1 else given)]
TokenId = Annotated[int, Field(ge=0, le=1 << 31)]
StopString = Annotated[str, Field(min_length=1, max_length=1000)]
WaitString = Annotated[str, Field(min_length=1, max_length=1000)]


class Wire(BaseModel):
    """A part of a body; an unknown field is an error and `"5"` is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _plainly(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        # Clients send null for what they leave out, also in fields not known here. JSON has one kind of number.
        whole = {k: int(v) for k, v in given.items() if type(v) is float and v.is_integer()}
        return {k: v for k, v in (given | whole).items() if v is not None}


def check_parts(given: Wire, kind: str, needed: Mapping[str, tuple[str, ...]]) -> None:
    """Raises ValueError for a missing field that its kind has: an empty one in its place would hide the mistake."""
    for name in needed.get(kind, ()):
        if name not in given.model_fields_set:
            raise ValueError(f"{name} is missing, which every {kind} has")


class Echo(Wire):
    """What gateways and clients add to what they send back; it never reaches the model."""

    cache_control: dict[str, Any] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None
    """OpenAI's `cache_control`."""
    provider_specific_fields: dict[str, Any] | None = None
    extra_content: dict[str, Any] | None = None


def _text_of_pieces(given: Any) -> Any:
    """The text of a list of text parts; anything else as it is."""
    if isinstance(given, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in given):
        return "".join(piece["text"] for piece in given)
    return given


class MessagePart(Echo):
    """A part of a message: text, or thinking that a client sends back with the turn it belongs to."""

    type: Literal["text", "input_text", "output_text", "refusal", "thinking", "reasoning", "reasoning_text"]
    text: str | None = None
    refusal: str | None = None
    thinking: Annotated[str | None, BeforeValidator(_text_of_pieces)] = None
    """Text, or Mistral's list of text parts."""
    signature: str | None = None
    closed: bool | None = None
    """Mistral's; earlier thinking is closed."""
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if self.said is None and (self.thinking is None or "text" in self.type):
            raise ValueError("the text is missing; give a string")
        return self

    @property
    def said(self) -> str | None:
        """The text of the part, None where it has only thinking."""
        return self.refusal if self.type == "refusal" else self.text


class FunctionCall(Wire):
    name: str
    arguments: Annotated[str, BeforeValidator(lambda given: json.dumps(given) if isinstance(given, dict) else given)]
    """JSON text; an object is written as such."""


class ToolCall(Echo):
    index: int | None = None
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


_THINKING_PARTS = ("thinking", "reasoning", "reasoning_text")


class Message(Echo):
    """One turn. What a client echoes from an earlier reply and is not text, thinking or a call is left out."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    type: Literal["message", "text"] | None = None
    """What lm-evaluation-harness and LangGraph call every turn."""
    content: str | list[MessagePart] | None = None
    reasoning: str | None = None
    """An assistant's earlier thinking; whether it is shown to the model again is up to the chat template."""
    reasoning_content: str | None = None
    reasoning_text: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    annotations: list[Any] | None = None
    """Citations of an earlier reply, whose text stands in `content`."""
    reasoning_details: list[dict[str, Any]] | None = None
    """An echo of thinking, as `thinking_blocks`; `reasoning` is what reaches the chat template."""
    thinking_blocks: list[dict[str, Any]] | None = None
    reasoning_opaque: str | None = None
    images: Annotated[list[Any], Field(max_length=0)] | None = None
    prefix: bool | None = None
    """DeepSeek's and Mistral's way to say `continue_final_message`, on the last message."""
    partial: bool | None = None
    """Kimi's."""
    id: str | None = None
    refusal: str | None = None
    """An earlier reply's refusal, which is its text where it has no other."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.content is None and self.role not in ("assistant", "tool"):
            raise ValueError("content is missing; give a string")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls belong to an assistant, not to role {self.role}")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise ValueError("tool_call_id belongs to a message of role tool, and every such message has one")
        return self

    @property
    def thinking(self) -> str | None:
        """Earlier thinking, by whichever of its names, or from the parts of the content."""
        parts = self.content if isinstance(self.content, list) else []
        in_parts = "".join(part.thinking or part.text or "" for part in parts if part.type in _THINKING_PARTS)
        return self.reasoning_content or self.reasoning or self.reasoning_text or in_parts or None

    @property
    def is_begun(self) -> bool:
        """Whether it says of itself that it is the beginning of the answer."""
        return bool(self.prefix or self.partial)

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.said or "" for part in self.content if part.type not in _THINKING_PARTS)
        return self.content or self.refusal or ""


class FunctionSpec(Wire):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = Field(default=None, exclude=True)
    strict: bool | None = None
    """True: a call's arguments follow `parameters` exactly, where the engine can be held to a grammar."""


class Tool(Wire):
    type: Literal["function"] = "function"
    """Mistral's clients leave it out."""
    function: FunctionSpec
    cache_control: dict[str, Any] | None = Field(default=None, exclude=True)
    eager_input_streaming: bool | None = Field(default=None, exclude=True)


class RoutedTool(BaseModel):
    """A tool that OpenRouter or another service runs; the model here is not told of it."""

    type: Annotated[str, Field(pattern="^(openrouter:|web_search|(browser_search|code_interpreter)$)")]


class ChosenFunction(Wire):
    name: str


class NamedChoice(Wire):
    """The one tool that must be called."""

    type: Literal["function"] = "function"
    function: ChosenFunction


class AllowedTools(Wire):
    mode: Literal["auto", "required"]
    tools: list[NamedChoice]


class AllowedChoice(Wire):
    """The tools that may be called; the model is shown no others."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _as_word(given: Any) -> Any:
    is_word = isinstance(given, dict) and set(given) == {"type"} and given["type"] in ("none", "auto", "required")
    return given["type"] if is_word else "required" if given == "any" else given


AsWord = BeforeValidator(_as_word)
"""Reads `{"type": "auto"}`, another way to write `"auto"`, and `"any"`, Mistral's word for `"required"`."""


class JsonSchema(Wire):
    name: str = "output"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Wire):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Padding against who watches the sizes of events; there is none here."""
    continuous_usage_stats: bool = False
    """True: with `include_usage`, every event says the usage so far."""


class ThinkingSwitch(Wire):
    """Anthropic's form. `auto` is what others call `adaptive`."""

    type: Literal["enabled", "disabled", "adaptive", "auto"] | None = None
    """Z.ai's clients leave it out."""
    budget_tokens: BudgetCount | None = None
    """0 beside `adaptive` is how some clients say that they have no number."""
    effort: Effort | None = None
    """The same as `reasoning_effort`."""
    display: Literal["summarized", "omitted", "updates"] | None = None
    """`omitted`: the reply leaves the thinking text out; it is still done and counted."""
    clear_thinking: bool | None = None
    """The same as `chat_template_kwargs.clear_thinking`."""
    block_binding: dict[str, Any] | None = None
    """What becomes of thinking whose signature is not right; none is checked here."""

    @property
    def number(self) -> int | None:
        """The budget that is stated."""
        is_own = self.type in ("adaptive", "auto")
        return None if is_own and self.budget_tokens == 0 else self.budget_tokens


class ReasoningSwitch(Wire):
    """OpenRouter's form."""

    max_tokens: BudgetCount | None = None
    effort: Effort | None = None
    enabled: bool | None = None
    exclude: bool | None = None
    """True: the reply leaves the thinking text out; it is still done and counted."""


class TemplateSwitches(Wire):
    """What chat templates call the budget: Qwen3 and DeepSeek (false is a budget of 0), Seed-OSS and gpt-oss."""

    enable_thinking: bool | None = None
    thinking: bool | None = None
    thinking_budget: BudgetCount | None = None
    reasoning_effort: Effort | None = None
    # These say which earlier thinking the model sees again, and are handed to the template.
    preserve_thinking: bool | None = None
    """True: all of it (Qwen3.6)."""
    clear_thinking: bool | None = None
    """False: all of it (GLM 4.7)."""


class ThinkingFields(Wire):
    """What is said about thinking; several names for one number must agree."""

    budget: Literal["auto"] | None = None
    """`auto`: thinking is left when its answer is settled, within the other fields; needs a server with a rule."""
    thinking_token_budget: BudgetCount | None = None
    """Upper bound on thinking tokens; -1 as much as there is room for, 0 none."""
    max_thinking_tokens: BudgetCount | None = None
    """The same."""
    thinking_budget_tokens: BudgetCount | None = None
    """The same."""
    thinking_budget: BudgetCount | None = None
    """The same."""
    enable_thinking: bool | None = None
    """False: a budget of 0."""
    thinking: ThinkingSwitch | None = None
    """The same as `budget_tokens`; type `disabled` is 0."""
    reasoning: ReasoningSwitch | None = None
    """The same as `max_tokens` or `effort`."""
    reasoning_effort: Effort | None = None
    """A name for a budget; `/v1/models` shows the map."""
    chat_template_kwargs: TemplateSwitches | None = None
    clear_thinking: bool | None = None
    """The same as `chat_template_kwargs.clear_thinking`."""
    min_thinking_tokens: TokenCount | None = None
    """Lower bound: stops before it become waits."""
    num_waits: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """How many stops become waits."""
    wait: WaitString | Annotated[list[WaitString], Field(min_length=1, max_length=64)] | None = None
    """What a stop becomes: a string, or several used in turn; the model's own when left out."""
    closing_phrase: Annotated[str, Field(max_length=1000)] | None = None
    """What follows the end of thinking when the budget ended it; the model's own when left out."""
    answer_tokens: PositiveCount | None = None
    """Room kept for the answer before thinking starts."""
    include_reasoning: bool | None = None
    """False: the reply leaves the thinking text out; it is still done and counted."""
    reasoning_format: Literal["hidden"] | None = None
    """Groq's way to say the same."""

    @property
    def template_switches(self) -> dict[str, tuple[str, bool]]:
        """What is to be handed to the chat template, by its name there: the field that says so, and the value."""
        stated: dict[str, tuple[str, bool | None]] = {"clear_thinking": ("clear_thinking", self.clear_thinking)}
        if self.thinking is not None and self.thinking.clear_thinking is not None:
            stated["clear_thinking"] = ("thinking.clear_thinking", self.thinking.clear_thinking)
        for name in ("preserve_thinking", "clear_thinking"):
            if (value := getattr(self.chat_template_kwargs, name, None)) is not None:
                stated[name] = (f"chat_template_kwargs.{name}", value)
        return {name: (field, value) for name, (field, value) in stated.items() if value is not None}


NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # llama.cpp
    "typical_p": (1,),
    "repeat_penalty": (1,),
    "dry_multiplier": (0,),
    "mirostat": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "top_n_sigma": (-1,),
    "n_keep": (0,),
    "id_slot": (-1,),
    "timings_per_token": (False,),
    "return_progress": (False,),
    "reasoning_format": ("auto", "deepseek", "parsed"),
    # Groq
    "reasoning_effort": ("default",),
    # MiniMax
    "reasoning_split": (True,),
    # vLLM
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "logits_processors": ([],),
    "vllm_xargs": ({},),
    "detokenize": (True,),
    "return_tokens_as_token_ids": (False,),
    # SGLang
    "separate_reasoning": (True,),
    "stream_reasoning": (True,),
    "no_stop_trim": (False,),
}
"""Fields of one engine or another, at the values that mean what happens here anyway; most are unknown at any other."""


def _is_among(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Equality in which false is no number."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


class SamplingFields(Wire):
    """What both endpoints share."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {k: v for k, v in given.items() if k not in NEUTRAL or not _is_among(v, NEUTRAL[k])}

    model: str | None = None
    """As listed at `/v1/models`; the one that is served when left out."""
    max_tokens: Total | None = None
    """Upper bound on thinking, delimiters and answer together; -1: as much as there is room for."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MOST_TOKENS)] | None = None
    """0 and -1: no limit."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=64)] | None = None
    """Strings that end the answer; they are not looked for in the thinking."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
    """Appears in the log as a short hash, to tell users apart."""
    # These cannot change what is generated.
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    cache_prompt: bool | None = None
    cache_salt: str | None = None
    safety_identifier: str | None = None
    client_metadata: dict[str, Any] | None = None
    request_id: str | None = None
    priority: int | None = None
    # Accepted only at the value that changes nothing: these would act on thinking and answer as if they were one text.
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1, le=1)] | None = None
    length_penalty: Annotated[float, Field(ge=1, le=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=0)] | None = None
    ignore_eos: Literal[False] | None = None
    use_beam_search: Literal[False] | None = None
    skip_special_tokens: Literal[True] | None = None
    add_special_tokens: Literal[False] | None = None
    return_token_ids: Literal[False] | None = None
    include_stop_str_in_output: Literal[False] | None = None
    echo: Literal[False] | None = None
    spaces_between_special_tokens: Literal[True] | None = None


class ChatBody(SamplingFields, ThinkingFields):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    continue_final_message: bool | None = None
    """True: the last message is the beginning of the answer, and the reply goes on from there, without thinking."""
    add_generation_prompt: bool | None = None
    """False only together with `continue_final_message`."""
    max_completion_tokens: Total | None = None
    """The same as `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[Tool | RoutedTool] | None = None
    tool_choice: Annotated[Literal["none", "auto", "required"] | NamedChoice | AllowedChoice | None, AsWord] = None
    """`required` and a name need an engine that can be held to a grammar."""
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None
    """False: the reply ends with the first call."""
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    prediction: dict[str, Any] | None = None
    """A guess at the answer, to be faster where it is right; it is not used."""
    verbosity: Literal["low", "medium", "high"] | None = None
    """A hint to OpenAI's models; the reply says that it was left out."""
    # What only the makers' own servers and routers do; the reply says that it was left out.
    moderation: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    search_parameters: dict[str, Any] | None = None
    search_settings: dict[str, Any] | None = None
    provider: dict[str, Any] | None = None
    models: list[Any] | None = None
    route: str | None = None
    transforms: list[Any] | None = None
    plugins: list[Any] | None = None
    usage: dict[str, Any] | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields that were accepted and have no meaning here."""
        found = [f"tools.{i} ({t.type})" for i, t in enumerate(self.tools or []) if isinstance(t, RoutedTool)]
        found += [name for name in _OF_OTHERS if getattr(self, name)]
        return ("verbosity", *found) if self.verbosity in ("low", "high") else tuple(found)

    @property
    def functions(self) -> list[Tool]:
        """The tools that the client runs."""
        return [tool for tool in self.tools or [] if isinstance(tool, Tool)]

    @property
    def wants_tools(self) -> bool:
        """Whether the model may call a tool."""
        return bool(self.functions) and self.tool_choice != "none"


_OF_OTHERS = (
    *("moderation", "web_search_options", "search_parameters", "search_settings"),
    *("provider", "models", "route", "transforms", "plugins", "usage"),
)
"""Fields of a chat for what only the servers of OpenAI, xAI and Groq and OpenRouter do."""


class CompletionBody(SamplingFields, ThinkingFields):
    """The body of `POST /v1/completions`. The prompt is used as it is: no chat template.

    Thinking happens when the prompt ends inside an open thinking block or a thinking field is given.
    """

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: Literal[""] | None = None

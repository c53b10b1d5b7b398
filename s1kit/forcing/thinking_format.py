"""A thinking format: one object owns how a model family's thinking is rendered for training, prompted for, and parsed.

The s1 format, with the question "1+1?", the thinking "two" and the answer "2" (the paper's delimiters):

    <|im_start|>user\\n1+1?<|im_end|>\\n<|im_start|>assistant\\n      the chat template's prompt
    <|im_start|>think\\n                                            `open`
    two                                                            thinking
    \\n                                                             `lead`, left out where thinking already ends with it
    <|im_start|>answer\\n                                           `end`
    2<|im_end|>                                                    answer, `answer_end`

Each piece is tokenised by itself and the ids are concatenated, in training and in decoding: a newline can then never
merge with its neighbour in one of them and not in the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from s1kit.errors import InputError
from s1kit.forcing.delimiters import DELIMITERS, ENDS_OF_MESSAGES, Parsed
from s1kit.forcing.plain_text import CUT, Tokenizer, encode_guarded, guarded

FORMAT_FILE = "thinking_format.json"

DIRECT = "direct"
"""The format of a model that does not think: no delimiters, all of its reply is answer."""

TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What rendering a chat template may raise: templates are programs of others."""


@dataclass(frozen=True, slots=True)
class TrainingIds:
    """The token ids of one sample for training, and which of them the loss covers.

    It covers the thinking, the end delimiter, the answer and the token that ends it.
    """

    ids: list[int]
    loss_mask: list[bool]
    """As long as `ids`; False on the prompt and on the opening delimiter, which are given when decoding."""
    thinking_tokens: int


@dataclass(frozen=True, slots=True)
class ThinkingFormat:
    """Delimiters, wait and closing phrase of one model family."""

    name: str
    """Its name in settings and messages."""
    open: str
    """What begins thinking. Left out where the chat template's prompt already ends with it."""
    end: str
    """What ends thinking and begins the answer. Its first token is the stop attempt when it is a token of its own."""
    lead: str = "\n"
    """Put before `end` unless thinking already ends with it; may be empty."""
    wait: str = "Wait"
    """What replaces a stop (s1 paper, table 4: the best of those tried)."""
    closing_phrase: str = "Final Answer:"
    """What follows `end` when the budget ended thinking (s1, eval)."""
    answer_end: str = "<|im_end|>"
    """The token that ends an answer; the tokenizer's own end of sequence counts too."""
    answer_stops: tuple[str, ...] = ()
    """Further tokens that end an answer, e.g. the marker of a next turn."""
    chat_template: str | None = None
    """Used where the tokenizer brings none; None: such a tokenizer is refused."""
    template: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Switches passed to the chat template, such as `enable_thinking`, `thinking` or `reasoning_effort`."""

    @property
    def thinks(self) -> bool:
        """False for the format `direct`: a model without delimiters, which answers in plain chat."""
        return self.name != DIRECT

    @property
    def delimiters(self) -> str:
        """All texts that are read as more than text, for `guarded`."""
        return " ".join((self.open, self.end, self.answer_end, *self.answer_stops))

    def __post_init__(self) -> None:
        for name in ("open", "end", "wait") if self.thinks else ():
            if not getattr(self, name):
                raise InputError(
                    f"{name} is empty", where=f"thinking format {self.name!r}", fix=f"Give {name} some text."
                )

    def prompt_text(
        self, tokenizer: Tokenizer, question: str, system: str | None = None, messages: Sequence[Mapping[str, str]] = ()
    ) -> str:
        """The chat up to, not including, the opening delimiter.

        Raises InputError where the chat template refuses the chat, or contradicts the format: it has thinking closed
        already, or opened with other delimiters.
        """
        return self.unopened(self._guarded_prompt(tokenizer, question, system, messages)).replace(CUT, "")

    def _guarded_prompt(
        self, tokenizer: Tokenizer, question: str, system: str | None, messages: Sequence[Mapping[str, str]]
    ) -> str:
        """The chat as the template writes it, with a `CUT` in whatever others than the model wrote that spells a
        special token."""
        chat = [{"role": "system", "content": system}] if system is not None else []
        chat += [dict(m) for m in messages]
        chat.append({"role": "user", "content": question})
        return self.render(tokenizer, [guarded_turn(tokenizer, self, turn) for turn in chat])

    def unopened(self, text: str) -> str:
        """A rendered prompt without the opening delimiter that the template may have written at its end.

        Raises InputError where it ends with thinking closed, or opened with other delimiters.
        """
        if not self.thinks:
            return text
        bare = text.rstrip()
        if (found := closed_by(bare, self)) is not None or ((found := opened_by(bare)) and found != self.open.strip()):
            raise InputError(
                f"the chat template's prompt ends with {found!r}, where thinking begins with {self.open!r}",
                where=f"thinking format {self.name!r}",
                fix="Choose the format that fits the template, turn its thinking on with a template switch such as "
                f"enable_thinking=true, or use the format {DIRECT!r}.",
            )
        # The template may write other whitespace after its opening: what counts is that it is opened once.
        if text.endswith(self.open):
            return text.removesuffix(self.open)
        return bare.removesuffix(self.open.strip()) if bare.endswith(self.open.strip()) else text

    def render(self, tokenizer: Tokenizer, chat: Sequence[Mapping[str, str]]) -> str:
        """The chat through the tokenizer's template, ready for a reply. Raises InputError where it refuses."""
        options = dict(self.template)
        if not getattr(tokenizer, "chat_template", None):
            if self.chat_template is None:
                raise InputError(
                    "the tokenizer has no chat template",
                    where=f"thinking format {self.name!r}",
                    fix="Add one to tokenizer_config.json, or chat_template to thinking_format.json.",
                )
            options["chat_template"] = self.chat_template
        try:
            return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options))
        except TEMPLATE_FAULTS as error:
            raise InputError(
                f"the chat template refuses this chat: {error}",
                where=f"thinking format {self.name!r}",
                fix="Change the messages (some templates take no system message), or the template's switches.",
            ) from error

    def prompt_ids(
        self,
        tokenizer: Tokenizer,
        question: str,
        system: str | None = None,
        messages: Sequence[Mapping[str, str]] = (),
    ) -> list[int]:
        """The ids of everything before the first thinking token, the opening delimiter included.

        What the question, the system message and others' turns say is text, also where it spells a delimiter.
        """
        return self.opened_ids(tokenizer, self._guarded_prompt(tokenizer, question, system, messages))

    def opened_ids(self, tokenizer: Tokenizer, rendered: str) -> list[int]:
        """The ids of a prompt that a template rendered, `CUT`s in it, with thinking opened once.

        Where the template opens thinking itself the whole is tokenised at once, as every other program does that serves
        the model. Raises InputError where the template contradicts the format.
        """
        before = self.unopened(rendered)
        if self.open and before + self.open == rendered:
            return encode_guarded(tokenizer, rendered)
        return encode_guarded(tokenizer, before) + encode(tokenizer, self.open)

    def training_ids(
        self, tokenizer: Tokenizer, question: str, thinking: str, answer: str, system: str | None = None
    ) -> TrainingIds:
        """One sample for fine-tuning: the ids that decoding would see. Outer whitespace of the texts is dropped.

        Delimiters that question, thinking or answer quote are text and teach no stop.
        """
        prompt = self.prompt_ids(tokenizer, question, system)
        thought = self._text_ids(tokenizer, thinking.strip())
        rest = [
            *encode(tokenizer, self.lead),
            *encode(tokenizer, self.end),
            *self._text_ids(tokenizer, answer.strip()),
            self.answer_end_id(tokenizer),
        ]
        num_learned = len(thought) + len(rest)
        mask = [False] * len(prompt) + [True] * num_learned
        return TrainingIds([*prompt, *thought, *rest], mask, len(thought))

    def _text_ids(self, tokenizer: Tokenizer, text: str) -> list[int]:
        return encode_guarded(tokenizer, guarded(tokenizer, self.delimiters, text))

    def parse(self, text: str) -> Parsed:
        """Take apart what a model wrote after the prompt, with or without the opening delimiter.

        >>> from s1kit.forcing.formats import FORMATS
        >>> FORMATS["qwen3"].parse("<think>\\nhm\\n</think>\\n\\n4<|im_end|>")
        Parsed(thinking='hm', answer='4', is_closed=True)
        """
        if not self.thinks:
            return Parsed("", text.strip(), True)
        body = text.removeprefix(self.open)
        thinking, found, answer = body.partition(self.end.strip())
        if self.answer_end:
            answer = answer.partition(self.answer_end)[0]
        return Parsed(thinking.strip(), answer.strip(), bool(found))

    def answer_end_id(self, tokenizer: Tokenizer) -> int:
        """The id that ends an answer: that of `answer_end`, else the tokenizer's end of sequence. Raises InputError."""
        if self.answer_end:
            return self.token_id(tokenizer, self.answer_end)
        eos = tokenizer.eos_token_id
        if not isinstance(eos, int):
            raise InputError(
                "neither the format nor the tokenizer says what ends an answer",
                where=f"thinking format {self.name!r}",
                fix=f"Give answer_end in {FORMAT_FILE}, or eos_token in tokenizer_config.json.",
            )
        return eos

    def token_id(self, tokenizer: Tokenizer, token: str) -> int:
        """The id of a text that must be one token; InputError when it is not."""
        ids = encode(tokenizer, token)
        if len(ids) != 1:
            raise InputError(
                f"{token!r} is {len(ids)} tokens, not one",
                where=f"thinking format {self.name!r}",
                fix="This tokenizer is of another family: choose another thinking format ('think' needs no tokens of "
                "its own), or add the token to it.",
            )
        return ids[0]

    def save(self, folder: Path) -> None:
        """Write `thinking_format.json` beside a checkpoint."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / FORMAT_FILE).write_text(text, encoding="utf-8")


def guarded_turn(tokenizer: Tokenizer, fmt: ThinkingFormat, turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn of a chat whose text is kept from being read as special tokens; the model's own turns are left alone."""
    content = turn.get("content")
    if turn.get("role") == "assistant" or not isinstance(content, str):
        return dict(turn)
    return dict(turn) | {"content": guarded(tokenizer, fmt.delimiters, content)}


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokenise one piece of a prompt, without adding anything; special tokens in it are read as such."""
    return list(tokenizer.encode(text, add_special_tokens=False)) if text else []


def closed_by(prompt: str, format: ThinkingFormat) -> str | None:
    """The end delimiter, the format's or a known one, that a prompt without trailing whitespace ends with, or None."""
    # What ends any message says nothing of thinking.
    ends = (format.end.strip(), *(end for _, end in DELIMITERS if end not in ENDS_OF_MESSAGES))
    return next((end for end in ends if end and prompt.endswith(end)), None)


def opened_by(prompt: str) -> str | None:
    """The known opening delimiter that a prompt without trailing whitespace ends with, or None."""
    return next((opening for opening, _ in DELIMITERS if prompt.endswith(opening)), None)

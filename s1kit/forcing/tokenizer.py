"""A tokenizer and its chat template, read from a checkpoint's files with `tokenizers` and `jinja2` alone.

A server in front of another one needs no torch and no transformers, and starts in a blink.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from s1kit.errors import InputError, first_line
from s1kit.forcing.plain_text import check_round_trip


class Templated:
    """A tokenizer's chat template, rendered as transformers does."""

    def __init__(self, chat_template: str | None, names: dict[str, str | None]) -> None:
        """`names` holds the texts of special tokens by their names, such as `bos_token`."""
        self.chat_template = chat_template
        self._names = names
        self._templates: dict[str, Template] = {}

    @property
    def eos_token(self) -> str | None:
        return self._names.get("eos_token")

    @property
    def bos_token(self) -> str | None:
        return self._names.get("bos_token")

    def apply_chat_template(
        self,
        conversation: Any,
        *,
        tokenize: bool = False,
        add_generation_prompt: bool = True,
        tools: Any = None,
        chat_template: str | None = None,
        **more: Any,
    ) -> str:
        """The chat as text. Raises jinja2's TemplateError where the template refuses it."""
        text = chat_template or self.chat_template
        if text is None:
            raise TemplateError("the tokenizer has no chat template")
        return self._compiled(text).render(
            messages=conversation,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **{name: value for name, value in self._names.items() if value is not None},
            **more,
        )

    def _compiled(self, text: str) -> Template:
        if text not in self._templates:
            self._templates[text] = template_environment().from_string(text)
        return self._templates[text]


class FileTokenizer(Templated):
    """A tokenizer read from a checkpoint's files, without transformers."""

    def __init__(self, folder: Path) -> None:
        """Reads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`. Raises InputError."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise InputError(
                f"no tokenizer.json in {folder}",
                where="--tokenizer",
                fix="Give a checkpoint folder, or the Hub id of the model that the upstream serves.",
            )
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        settings = _read_json(folder / "tokenizer_config.json")
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        super().__init__(read_chat_template(folder), {name: _token_text(settings.get(name)) for name in names})
        self.model_max_length = settings.get("model_max_length")
        self.generation: dict[str, Any] = _read_json(folder / "generation_config.json")
        """The model's generation settings; empty where the folder has none."""
        eos = self.generation.get("eos_token_id")
        self.more_eos_ids: tuple[int, ...] = tuple([eos] if isinstance(eos, int) else eos or ())
        """End-of-sequence ids of `generation_config.json`."""
        check_round_trip(self, str(folder))

    @cached_property
    def eos_token_id(self) -> int | None:
        name = self._names["eos_token"]
        return None if name is None else self._tokenizer.token_to_id(name)

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        return dict(self._tokenizer.get_added_tokens_decoder())

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def get_vocab(self) -> dict[str, int]:
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab())


def find_folder(name: str) -> Path:
    """The folder of a checkpoint's tokenizer: a local one, or the files of a Hub id. Raises InputError."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    fix = "Give a folder with tokenizer.json, a GGUF file or the Hub id of the model that is served, with --tokenizer."
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(f"no tokenizer folder {name!r}", where="--tokenizer", fix=fix)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["tokenizer*.json", "chat_template*", "generation_config.json", "thinking_format.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"cannot fetch the tokenizer of {name!r}: {first_line(error)}", where="--tokenizer", fix=fix
        ) from error


class _GenerationMarks(Extension):
    """`{% generation %}`: where templates mark the model's own turns, for loss masks; here only its content counts."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's own attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def template_environment() -> ImmutableSandboxedEnvironment:
    """A jinja2 environment with the filters and globals that transformers gives chat templates."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationMarks]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def read_chat_template(folder: Path) -> str | None:
    """The chat template among a checkpoint's files; None where there is none. Raises InputError for files not JSON."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        by_name = {entry["name"]: entry["template"] for entry in found}
        found = by_name.get("default")
    return found if isinstance(found, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"the file is not JSON: {error}", where=str(path), fix="Correct it, or fetch it again."
        ) from error
    return found if isinstance(found, dict) else {}


def _token_text(found: Any) -> str | None:
    """A special token is written as text or as an object with its content."""
    if isinstance(found, dict):
        found = found.get("content")
    return found if isinstance(found, str) else None

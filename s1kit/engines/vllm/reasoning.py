"""A reasoning parser for vLLM's own server: thinking in `reasoning`, the answer in `content`, thinking tokens counted.

    vllm serve MODEL --reasoning-parser-plugin s1kit.engines.vllm.reasoning --reasoning-parser s1kit

For every thinking format that s1kit knows, of which vLLM itself has no parser for s1's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser, ReasoningParserManager

from s1kit.engines.vllm.configuration import tokens_of
from s1kit.engines.vllm.splitting import ThinkingSplitter
from s1kit.forcing.token_format import last_place


@lru_cache(maxsize=4)
def _splitter(model: str, tokenizer: str) -> ThinkingSplitter:
    tokens = tokens_of(model, tokenizer)
    try:
        prompt = tokens.format.render(tokens.tokenizer, [{"role": "user", "content": "?"}])
    except Exception:  # noqa: BLE001 - a template that wants more than a question says nothing about its end
        prompt = ""
    return ThinkingSplitter(tokens, prompt.rstrip().endswith(tokens.format.open.rstrip()))


class ThinkingParser(ReasoningParser):  # type: ignore[misc]
    """The parser of one choice."""

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        """Raises InputError for a model whose thinking format is not known."""
        super().__init__(tokenizer, *args, **kwargs)
        config = kwargs.get("model_config")
        name = str(tokenizer.name_or_path)
        self._splitter = _splitter(str(config.model) if config is not None else name, name)
        self._stream = self._splitter.stream()

    @property
    def reasoning_start_str(self) -> str | None:
        return self._splitter.tokens.format.open

    @property
    def reasoning_end_str(self) -> str | None:
        return self._splitter.tokens.format.end

    def adjust_request(self, request: Any) -> Any:
        """Delimiters may be special tokens, which vLLM leaves out of the text unless it is told not to."""
        request.skip_special_tokens = False
        return request

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        tokens = self._splitter.tokens
        opened = last_place(input_ids, tokens.open_ids)
        start = opened + len(tokens.open_ids) if opened is not None else 0
        return self._splitter.answer_start(input_ids[start:]) is not None

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        # The API server streams text through this object, the engine only shows it ids.
        return self._stream.is_over if self._stream.num_fed else self.is_reasoning_end(input_ids)

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        start = self._splitter.answer_start(input_ids)
        return [] if start is None else input_ids[start:]

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        return self._splitter.count(token_ids)

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        thinking, answer = self._splitter.split(model_output)
        return thinking or None, answer or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> Any:
        thinking, answer = self._stream.feed(delta_text)
        if not thinking and not answer:
            return None
        return DeltaMessage(reasoning=thinking or None, content=answer or None)


ReasoningParserManager.register_module("s1kit", module=ThinkingParser)

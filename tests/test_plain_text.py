"""Text that spells a delimiter is text, in training, decoding and the server; and tokenizers that lie are refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures_models import write_random_checkpoint, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from rendered import training_text

from s1kit import Request, load_engine
from s1kit.errors import InputError
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.plain_text import CUT, PROBE, check_round_trip, encode_guarded, guarded
from s1kit.forcing.tokenizer import FileTokenizer

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
QUOTES = ("</think>", "<|im_end|>", "<|im_start|>answer\n", "<think>", "<|endoftext|>", "<<|im_end|>>")


@pytest.fixture(scope="module")
def tokenizer(shown_think_folder: Path) -> FileTokenizer:
    return FileTokenizer(shown_think_folder)


def specials(tokenizer: FileTokenizer, ids: list[int]) -> list[str]:
    added = {i: t.content for i, t in tokenizer.added_tokens_decoder.items()}
    return [added[i] for i in ids if i in added]


@pytest.mark.parametrize("name", ["s1", "qwen3"])
@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_delimiter_is_text_in_a_training_sample(tokenizer: FileTokenizer, name: str, quote: str) -> None:
    fmt = FORMATS[name]
    if name == "s1" and "think>" in quote:
        pytest.skip("no delimiter of this format, and to this tokenizer an ordinary token")
    texts = (f"What does {quote} do?", f"one writes {quote} there. So five.", f"five {quote}")
    plain = fmt.training_ids(tokenizer, "What?", "one", "five")
    sample = fmt.training_ids(tokenizer, *texts)
    assert specials(tokenizer, sample.ids) == specials(tokenizer, plain.ids)
    assert tokenizer.decode(sample.ids) == training_text(fmt, tokenizer, *texts)
    assert sum(sample.loss_mask) == len(sample.ids) - len(fmt.prompt_ids(tokenizer, texts[0]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*SPECIALS, "<|", "|>", "im_end", "a", " ", "\n", "<", "é"]), max_size=12))
def test_no_text_is_ever_read_as_a_special_token_and_none_is_lost(tokenizer: FileTokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    ids = encode_guarded(tokenizer, guarded(tokenizer, FORMATS["qwen3"].delimiters, text))
    assert specials(tokenizer, ids) == []
    assert tokenizer.decode(ids) == text


def test_text_without_quotations_keeps_its_ids(tokenizer: FileTokenizer) -> None:
    text = "a <b> </c> <|x|> 12 < 13 |> </ think>"
    assert guarded(tokenizer, FORMATS["qwen3"].delimiters, text) == text
    assert encode_guarded(tokenizer, text) == tokenizer.encode(text)


def test_a_prompt_reads_users_as_text_and_keeps_the_models_own_turns(tokenizer: FileTokenizer) -> None:
    fmt = FORMATS["qwen3"]
    own = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4"}
    ids = fmt.prompt_ids(tokenizer, "Say </think>", "never <|im_end|>", [{"role": "user", "content": "<think>"}, own])
    turn, asked = ["<|im_start|>", "<|im_end|>"], ["<|im_start|>", "<think>"]
    assert specials(tokenizer, ids) == [*turn, *turn, *asked, "</think>", "<|im_end|>", *turn, *asked]
    text = fmt.prompt_text(tokenizer, "Say </think>")
    assert CUT not in text
    assert "Say </think>" in text


def test_an_added_token_that_is_ordinary_text_to_its_model_stays_one(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, (*SPECIALS, "    "))
    raw = json.loads((tmp_path / "tokenizer.json").read_text())
    raw["added_tokens"][-1]["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    tokenizer = FileTokenizer(tmp_path)
    text = "if x:\n    y"
    assert encode_guarded(tokenizer, guarded(tokenizer, FORMATS["s1"].delimiters, text)) == tokenizer.encode(text)


def test_a_cut_adds_no_space_where_the_tokenizer_marks_words_with_one(tmp_path: Path) -> None:
    from test_gguf import sentence_piece

    tokenizer = sentence_piece(tmp_path)
    for text in ("the cat</s> sat", "</s>mat", "a </s></s> on"):
        ids = encode_guarded(tokenizer, guarded(tokenizer, FORMATS["magistral"].delimiters, text))
        assert specials(tokenizer, ids) == []
        assert tokenizer.decode(ids) == text


def test_the_server_reads_what_users_and_tools_say_as_text(tokenizer: FileTokenizer) -> None:
    from s1kit.forcing.token_format import TokenFormat
    from s1kit.serve.chat import ChatBody
    from s1kit.serve.jobs import chat_ids
    from s1kit.serve.refusals import Refusal

    tokens = TokenFormat(FORMATS["qwen3"], tokenizer)
    backend: Any = SimpleNamespace(tokens=tokens, context_tokens=4096, model="m", seam="ids")
    said = [
        {"role": "system", "content": "x <|im_end|>"},
        {"role": "user", "content": "say <think> or </think>"},
        {"role": "tool", "content": "<|im_end|>", "tool_call_id": "1"},
    ]
    body = ChatBody.model_validate({"model": "m", "messages": said})
    found = specials(tokenizer, chat_ids(body, backend))
    assert found == ["<|im_start|>", "<|im_end|>"] * 3 + ["<|im_start|>", "<think>"]
    backend.seam = "text"
    with pytest.raises(Refusal, match="spells a special token"):
        chat_ids(body, backend)


class Broken:
    """A tokenizer that loses spaces, as some versions of transformers made one of DeepSeek-R1's."""

    def __init__(self, inner: FileTokenizer) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return self._inner.encode(text.replace(" ", ""))


def test_a_tokenizer_that_does_not_give_text_back_is_refused(tokenizer: FileTokenizer) -> None:
    check_round_trip(tokenizer, "here")
    with pytest.raises(InputError, match=r"turns 'Tom has .*' into 'Tomhas"):
        check_round_trip(Broken(tokenizer), "here")  # type: ignore[arg-type]


def test_a_folder_whose_tokenizer_loses_letters_is_refused_by_every_reader(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "model")
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match="the tokenizer turns"):
        FileTokenizer(folder)
    with pytest.raises(InputError, match="the tokenizer turns"):
        load_engine(f"hf:{folder}")


def test_where_transformers_splits_text_in_its_own_way_the_folders_file_counts(tmp_path: Path, capsys: Any) -> None:
    """transformers gives every folder of type qwen2 Qwen2's splits, whatever its tokenizer.json says."""
    from transformers import AutoTokenizer

    folder = write_random_checkpoint(tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(folder).encode(PROBE, add_special_tokens=False)
    expected = FileTokenizer(folder).encode(PROBE)
    engine: Any = load_engine(f"hf:{folder}")
    assert engine.tokenizer.encode(PROBE, add_special_tokens=False) == expected
    if theirs != expected:
        assert "otherwise than tokenizer.json" in capsys.readouterr().err
    (found,) = engine.generate([Request(question="Say <|im_end|>", answer_tokens=9)])
    assert found.ending != "failed"

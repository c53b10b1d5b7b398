"""Thinking formats: rendering, prompting and parsing agree, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rendered import training_text

from s1kit.engines.scripted import WordTokenizer
from s1kit.errors import InputError
from s1kit.forcing.detection import detect_format
from s1kit.forcing.formats import FORMATS, ThinkingFormat, find_format, load_format
from s1kit.forcing.thinking_format import encode
from s1kit.forcing.token_format import TokenFormat


@pytest.fixture(scope="module")
def tokenizer(tiny_random_checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_random_checkpoint)


@pytest.fixture(scope="session")
def qwen(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The real Qwen2.5 tokenizer, with ChatML as its chat template."""
    import gzip

    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("qwen")
    raw = gzip.decompress((shared_data / "tokenizer" / "tokenizer.json.gz").read_bytes())
    (folder / "tokenizer.json").write_bytes(raw)
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)


def test_the_s1_sample_is_rendered_as_the_paper_renders_it(tokenizer: Any) -> None:
    assert training_text(FORMATS["s1"], tokenizer, "1+1?", " two\n", "2 ") == (
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
        "<|im_start|>think\ntwo\n<|im_start|>answer\n2<|im_end|>"
    )


@pytest.mark.parametrize("text", ["two", "a.\nb.", "Ends with a dot.", "", "x\n\ny", "Ünïcode 数学"])
def test_training_ids_are_the_ids_that_decoding_sees_and_the_loss_starts_with_the_thinking(
    qwen: Any, text: str
) -> None:
    s1 = FORMATS["s1"]
    sample = s1.training_ids(qwen, "1+1?", text, "2")
    prompt = s1.prompt_ids(qwen, "1+1?")
    assert sample.ids[: len(prompt)] == prompt
    assert sample.loss_mask == [i >= len(prompt) for i in range(len(sample.ids))]
    assert qwen.decode(sample.ids) == training_text(s1, qwen, "1+1?", text, "2")
    tokens = TokenFormat(s1, qwen)
    thinking = sample.ids[len(prompt) :][: sample.thinking_tokens]
    rest = sample.ids[len(prompt) + sample.thinking_tokens :]
    last = thinking[-1] if thinking else None
    assert tokens.needs_lead(last)
    assert rest[: len(tokens.lead_ids) + len(tokens.end_ids)] == [*tokens.lead_ids, *tokens.end_ids]


def test_the_rendered_sample_and_its_mask_are_golden_in_the_real_tokenizer(qwen: Any) -> None:
    sample = FORMATS["s1"].training_ids(qwen, "1+1?", "two.", "2")
    prompt = [151644, 872, 198, 16, 10, 16, 30, 151645, 198, 151644, 77091, 198, 151644, 26865, 198]
    assert sample.ids == [*prompt, 19789, 13, 198, 151644, 9217, 198, 17, 151645]
    assert sample.loss_mask == [False] * 15 + [True] * 8


def test_the_s1_delimiter_is_several_tokens_and_its_first_is_the_stop_attempt(qwen: Any) -> None:
    tokens = TokenFormat(FORMATS["s1"], qwen)
    assert tokens.end_ids == (151644, 9217, 198)
    assert tokens.trigger_id == 151644
    assert tokens.reopen_id is None
    assert 151644 in tokens.answer_stop_ids


def test_a_delimiter_that_ordinary_text_can_spell_must_be_matched_whole(qwen: Any) -> None:
    tokens = TokenFormat(FORMATS["qwen3"], qwen)  # Qwen2.5 knows no </think>
    assert tokens.trigger_id is None
    assert len(tokens.match_ids) > 1
    assert qwen.decode(list(tokens.match_ids)) == "</think>"


def test_think_tokens_are_found_where_the_tokenizer_has_them(think_checkpoint: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(think_checkpoint)
    tokens = TokenFormat(detect_format(tokenizer), tokenizer)
    assert tokens.format.name == "qwen3"
    assert tokenizer.decode([tokens.trigger_id]) == "</think>"
    assert tokenizer.decode([tokens.reopen_id]) == "<think>"


def test_a_prompt_that_already_opens_thinking_is_not_opened_twice() -> None:
    class Opens(WordTokenizer):
        def apply_chat_template(self, conversation: Any, **kwargs: Any) -> str:
            return "user: hi\nassistant:\n<think>\n"

    tokenizer = Opens()
    ids = FORMATS["qwq"].prompt_ids(tokenizer, "hi")
    assert tokenizer.decode(ids) == "user: hi\nassistant:\n<think>\n"


@pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if fmt.thinks])
def test_what_a_format_renders_it_parses_back(name: str) -> None:
    fmt = FORMATS[name]
    text = f"{fmt.open}some thought{fmt.lead}{fmt.end}an answer{fmt.answer_end}"
    for written in (text, text.removeprefix(fmt.open)):
        parsed = fmt.parse(written)
        assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("some thought", "an answer", True)


def test_all_of_a_direct_reply_is_answer() -> None:
    parsed = FORMATS["direct"].parse("just 4")
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("", "just 4", True)


def test_text_that_never_closes_is_all_thinking() -> None:
    parsed = FORMATS["qwen3"].parse("<think>\non and on")
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("on and on", "", False)


def test_a_saved_format_is_loaded_equal(tmp_path: Path) -> None:
    for fmt in FORMATS.values():
        fmt.save(tmp_path)
        assert load_format(tmp_path) == fmt
    (tmp_path / "thinking_format.json").unlink()
    assert load_format(tmp_path) is None


def test_a_file_may_extend_a_known_format(tmp_path: Path) -> None:
    (tmp_path / "thinking_format.json").write_text('{"extends": "s1", "name": "mine", "wait": "Hmm"}', encoding="utf-8")
    fmt = load_format(tmp_path)
    assert fmt is not None
    assert (fmt.name, fmt.wait, fmt.end) == ("mine", "Hmm", FORMATS["s1"].end)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"extends": "s2"}', r"unknown thinking format 's2'.*Known: .*s1"),
        ('{"extends": "s1", "wiat": "x"}', r"unknown field 'wiat'.*Did you mean wait\?"),
        ('{"extends": "s1", "wait": 3}', r"wait is 3, not a text"),
        ('{"extends": "s1", "wait": ""}', r"wait is empty"),
        ('{"name": "x", "open": "<a>"}', r"field 'end' is missing"),
        ("[]", r"not a JSON object"),
        ("{", r"not JSON.*thinking_format.json:1"),
    ],
)
def test_a_broken_format_file_is_refused_with_its_repair(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "thinking_format.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=complaint):
        load_format(tmp_path)


def test_an_unknown_format_lists_the_known() -> None:
    with pytest.raises(InputError, match="Known: deepseek-r1, direct, gemma4, gpt-oss, magistral, qwen3, qwq, s1"):
        find_format("gpt-9")


def test_a_tokenizer_of_no_known_family_is_refused() -> None:
    tokenizer = WordTokenizer()
    encode(tokenizer, "just words")
    with pytest.raises(InputError, match="no known thinking format"):
        detect_format(tokenizer)


def test_a_tokenizer_without_a_chat_template_is_refused_where_the_format_has_none() -> None:
    tokenizer = WordTokenizer()
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        FORMATS["deepseek-r1"].prompt_ids(tokenizer, "hi")


def test_an_answer_end_of_several_tokens_is_refused(tokenizer: Any) -> None:
    fmt = ThinkingFormat(name="odd", open="<think>", end="</think>", answer_end="</s>")
    with pytest.raises(InputError, match="is 4 tokens, not one"):
        _ = TokenFormat(fmt, tokenizer).eos_ids

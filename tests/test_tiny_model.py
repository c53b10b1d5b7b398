"""The tiny model: its tokenizer, what its base may read, and the checkpoint in the package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import s1kit.tiny
from s1kit.records import Question
from s1kit.tiny.corpus import conversation, copying_document, draw_turn, lesson, repeated_list, short_question
from s1kit.tiny.families import FAMILIES, draw_question, read_puzzle
from s1kit.tiny.questions import held_out_questions, split_of, tiny_questions
from s1kit.tiny.teacher import write_trace
from s1kit.tiny.tokenizer import END, START, build_tokenizer

BASE = Path(s1kit.tiny.__file__).parent / "base"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


TOKENIZER = build_tokenizer()


@given(st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_every_word_of_questions_and_traces_is_one_token(tokenizer: Tokenizer) -> None:
    for question in tiny_questions(300, seed=7):
        trace = write_trace(question)
        if trace.finish_reason == "length":
            continue  # broken off in the middle of a word
        for text in (question.text, trace.thinking, trace.answer):
            words = re.findall(r" ?[#+-]?\w+(?:&\w+)?| ?[^\s\w]+|\s", text)
            assert len(tokenizer.encode(text).ids) == len(words), text


def test_the_wait_is_one_token_and_so_is_each_delimiter(tokenizer: Tokenizer) -> None:
    for text in ("Wait", START, END, "think", "answer", "\n"):
        assert len(tokenizer.encode(text).ids) == 1, text


def test_the_parts_of_a_sample_have_the_same_tokens_as_the_whole(tokenizer: Tokenizer) -> None:
    for question in tiny_questions(100, seed=2):
        trace = write_trace(question)
        parts = [f"{START}user\n{question.text}{END}\n{START}assistant\n", f"{START}think\n"]
        parts += [trace.thinking, "\n", f"{START}answer\n", trace.answer, END]
        ids = [token for part in parts for token in tokenizer.encode(part).ids]
        assert ids == tokenizer.encode("".join(parts)).ids


def base_texts(num: int) -> list[str]:
    random = Random(11)
    writers = (repeated_list, copying_document, lesson, short_question)
    return [write(random).text for write in writers for _ in range(num)]


def test_the_base_never_reads_a_guess_a_wait_a_conclusion_or_a_thinking_delimiter() -> None:
    for text in base_texts(300):
        for phrase in ("Wait", "Maybe", "So ", "think", "answer", "done", "check", "not sure"):
            assert phrase not in text, (phrase, text)


def test_the_base_never_reads_a_held_out_question() -> None:
    random = Random(12)
    for _ in range(500):
        text = conversation(random).text
        question = text.partition(f"{START}user\n")[2].partition("end")[0] + "end"
        assert split_of(Question(text=question)) == "pool"


def test_what_the_base_recites_are_the_steps_that_a_right_trace_writes() -> None:
    puzzle = read_puzzle("A coin is under cup 3. Swap the cups:\n#1 3&5\n#2 1&2\n#3 end")
    replies = {draw_turn(Random(seed), puzzle, "walk").reply for seed in range(200)}
    assert "#1 3&5: 3 in -> 5\n#2 1&2: 5 out -> 5\n#3 end: 5" in replies


def test_the_same_seed_writes_the_same_corpus() -> None:
    assert base_texts(20) == base_texts(20)


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds(tokenizer: Tokenizer) -> None:
    assert json.loads(tokenizer.to_str()) == json.loads((BASE / "tokenizer.json").read_text(encoding="utf-8"))


def test_the_shipped_checkpoint_is_small_and_says_what_it_read() -> None:
    assert sum(path.stat().st_size for path in BASE.iterdir()) <= 8 * 2**20
    told = json.loads((BASE / "pretraining.json").read_text(encoding="utf-8"))
    assert told["seen"]["lessons"]["tokens"] > 1_000_000
    assert set(told["exact_replies"]["lookup"]) == set(FAMILIES)


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(BASE)


def test_transformers_loads_the_base_as_an_ordinary_qwen2_with_its_own_tokenizer(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    assert type(model).__name__ == "Qwen2ForCausalLM"
    text = "Wait, check. #3 +2: naïve 東京"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == TOKENIZER.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, "<|endoftext|>")
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "#1 end"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == f"{START}user\n#1 end{END}\n{START}assistant\n"


def test_the_base_looks_up_and_steps_without_fail_and_answers_hard_questions_mostly_wrong(
    loaded: tuple[Any, Any],
) -> None:
    from s1kit.tiny.exam import examine, share_exact

    model, _ = loaded
    exam = examine(model, TOKENIZER, num=12, seed=9, skills=("lookup", "step"))
    for skill in ("lookup", "step"):
        assert sum(exam[skill].values()) / len(exam[skill]) > 0.9, exam
    questions = held_out_questions(60, seed=9, split="development")
    prompts = [f"{START}user\n{q.text}{END}\n{START}assistant\n" for q in questions]
    right = share_exact(model, TOKENIZER, prompts, [f"Final Answer: {q.solution}" for q in questions], 12)
    assert 0 < right < 0.35


def test_the_base_answers_easy_questions_directly_so_that_the_difficulty_filter_has_work(
    loaded: tuple[Any, Any],
) -> None:
    from s1kit.tiny.exam import share_exact

    model, _ = loaded
    random = Random(3)
    questions = [draw_question(random, family, 2) for family in ("add", "letters") for _ in range(20)]
    prompts = [f"{START}user\n{q.text}{END}\n{START}assistant\n" for q in questions]
    assert share_exact(model, TOKENIZER, prompts, [f"Final Answer: {q.solution}" for q in questions], 12) > 0.7

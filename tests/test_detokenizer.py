"""Streamed text with tokenizers that write the space before a word into it, and with characters of several tokens."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_sampler import by_flow, by_rows
from fixtures_models import write_tokenizer
from test_drivers import joined
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from s1kit.forcing import ThinkingBudget
from s1kit.forcing.detokenizer import IncrementalDetokenizer
from s1kit.forcing.formats import ThinkingFormat
from s1kit.forcing.plain_text import PROBE
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.records import Segment

FORMAT = ThinkingFormat(name="own", open="<think>\n", end="</think>\n", closing_phrase="Final", answer_end="</s>")
CORPUS = ["So the last digit is 7, but Wait, no: 8. Final answer: caf\u00e9 \u20ac5 and a map"] * 20
TEXT = "So it is caf\u00e9 \U0001f5fa at \u20ac5, na\u00efve \u4f60\u597d and done"


def metaspace(folder: Path) -> Tokenizer:
    """A unigram tokenizer as SentencePiece makes them: the space is a sign at the beginning of a word."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    from tokenizers.trainers import UnigramTrainer

    alphabet = sorted(set("\u2581\n" + (TEXT + PROBE).replace(" ", "") + CORPUS[0]))
    trainer = UnigramTrainer(vocab_size=120, initial_alphabet=alphabet, unk_token="<unk>", special_tokens=["<unk>"])
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def llama_like(folder: Path) -> Tokenizer:
    """Byte fallback and a space put before every text, as in Llama 2's files."""
    vocabulary = {"<unk>": 0} | {f"<0x{i:02X}>": i + 1 for i in range(256)}
    for sign in ["\u2581", *sorted(set(CORPUS[0].replace(" ", "")) - set("\u00e9\u20ac"))]:
        vocabulary.setdefault(sign, len(vocabulary))
    merges = [("\u2581", "a"), ("\u2581", "n"), ("\u2581", "W"), ("a", "i"), ("\u2581W", "ai"), ("\u2581Wai", "t")]
    for pair in merges:
        vocabulary.setdefault("".join(pair), len(vocabulary))
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def byte_level(folder: Path) -> Tokenizer:
    write_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=[metaspace, llama_like, byte_level], ids=lambda make: make.__name__)
def tokens(request: Any, tmp_path_factory: pytest.TempPathFactory) -> TokenFormat:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = request.param(folder)
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<think>", "</think>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"eos_token": "</s>", "chat_template": "{{ messages[-1].content }}"}', encoding="utf-8"
    )
    return TokenFormat(FORMAT, FileTokenizer(folder))


def writer(plan: Plan, seed: int, num_stops: int) -> Any:
    """Writes TEXT over and over, a token at a time, with stops in between; a pure function of the context's length."""
    encode = plan.tokens.tokenizer.encode
    text = encode(TEXT, add_special_tokens=False) * 9
    stops = set(Random(seed).sample(range(3, 60), num_stops))
    (stop,) = encode("</think>", add_special_tokens=False)[-1:]
    end = min(plan.tokens.eos_ids)

    def sample(context: Any) -> int:
        done = len(context) - len(plan.prompt_ids)
        return stop if done in stops else end if done > 95 else text[done]

    return sample


@pytest.mark.parametrize("drive", [by_rows, by_flow], ids=lambda d: d.__name__)
def test_what_is_streamed_is_what_the_record_says_and_no_space_is_lost(tokens: TokenFormat, drive: Any) -> None:
    num_whole = 0
    for seed in range(40):
        budget = ThinkingBudget(Random(seed).randint(5, 60), 0, 2)
        request = Request(question="Which?", budget=budget, answer_tokens=40, wait="Wait", stop=("never",))
        plan = make_plan(request, tokens, 4096)
        shown: list[Segment] = []
        generation = drive(plan, writer(plan, seed, seed % 3), shown)
        assert joined(shown) == joined(list(generation.segments)), seed
        whole = [i for s in generation.segments for i in s.token_ids]
        text = tokens.decode(whole, plan.prompt_ids[-1:])
        if "\ufffd" not in text:  # no character was cut in two by a budget
            num_whole += 1
            assert "".join(s.text for s in generation.segments) == text, seed
    assert num_whole > 10


def test_the_wait_and_what_follows_it_read_as_they_stand_in_the_context(tokens: TokenFormat) -> None:
    plan = make_plan(Request(question="Which?", budget=ThinkingBudget(60, 0, 1), answer_tokens=9), tokens, 4096)
    encode = tokens.tokenizer.encode
    script = [*encode("no", add_special_tokens=False), tokens.trigger_id]
    script += [*encode("a map", add_special_tokens=False), tokens.trigger_id, *tokens.eos_ids]
    script += [*encode("4", add_special_tokens=False), *tokens.eos_ids]
    generation = by_rows(plan, lambda _: script.pop(0))
    assert generation.num_waits == 1
    if not tokens._is_context_free:
        assert generation.thinking == " no\nWait a map"


def test_a_character_of_several_tokens_is_told_once_and_whole(tokens: TokenFormat) -> None:
    ids = tokens.tokenizer.encode(TEXT, add_special_tokens=False)
    before = tokens.tokenizer.encode("So", add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tokens, before)
    told = [detokenizer.add([i]) for i in ids]
    assert "".join(told) + detokenizer.finish() == tokens.decode(ids, before)
    assert not any("\ufffd" in text for text in told)


def test_a_character_that_is_cut_off_is_left_out_and_what_was_before_it_stays(tokens: TokenFormat) -> None:
    ids = tokens.tokenizer.encode("done \U0001f5fa", add_special_tokens=False)
    whole = tokens.decode(ids, ids[:1])
    for length in range(1, len(ids) + 1):
        text = tokens.decode(ids[:length], ids[:1])
        assert "\ufffd" not in text
        assert whole.startswith(text)
    assert whole.endswith("\U0001f5fa")


def test_bytes_that_never_become_a_character_are_told_at_the_latest_with_the_next_one(tokens: TokenFormat) -> None:
    ids = tokens.tokenizer.encode("\U0001f5fa", add_special_tokens=False)
    if len(ids) < 4:
        pytest.skip("this tokenizer has no tokens for single bytes")
    broken = [*tokens.tokenizer.encode("a", add_special_tokens=False), ids[-1], ids[-2]]
    follow = tokens.tokenizer.encode("map", add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tokens, ())
    told = "".join(detokenizer.add([i]) for i in [*broken, *follow]) + detokenizer.finish()
    assert told == tokens.raw_text([*broken, *follow])
    assert told.endswith("map")

"""Replies of vLLM taken apart: whole, as they come in any pieces, and as ids, for formats of every kind."""

from __future__ import annotations

from random import Random

import pytest
from fake_sampler import ONE_TOKEN, SEVERAL, SPECIALS, SPELLED, WITH_LEAD, LetterTokenizer, by_rows, sampler

from s1kit.engines.vllm.splitting import ThinkingSplitter
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.formats import ThinkingFormat
from s1kit.forcing.plan import make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat

FORMATS = (ONE_TOKEN, WITH_LEAD, SEVERAL, SPELLED)
TOKENS = {f.name: TokenFormat(f, LetterTokenizer(SPECIALS[f.name])) for f in FORMATS}


@pytest.mark.parametrize("is_opened", [False, True])
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_a_reply_is_split_into_the_thinking_and_the_answer_that_forcing_made(
    fmt: ThinkingFormat, is_opened: bool
) -> None:
    tokens = TOKENS[fmt.name]
    splitter = ThinkingSplitter(tokens, opens=is_opened)
    num_cut = 0
    for seed in range(300):
        random = Random(seed)
        budget = ThinkingBudget(random.randint(1, 30), 0, random.randint(0, 2))
        plan = make_plan(Request(question="q", budget=budget, answer_tokens=12, loop_guard=False), tokens, 4096)
        spell = tokens.match_ids if tokens.trigger_id is None else ()
        found = by_rows(plan, sampler(seed, plan, 0.15, spell))
        if any(s.kind == "open" for s in found.segments) or not found.answer_tokens:
            continue  # It thought again inside its answer, which is text to vLLM.
        if is_opened and found.thinking.startswith(fmt.open.rstrip()):
            continue  # A second opening is taken for the first.
        num_cut += found.was_cut_off
        thinking, count = found.thinking, found.thinking_tokens
        if fmt.lead and thinking.endswith(fmt.lead):
            # A line break that the model wrote itself cannot be told from the format's.
            thinking, count = thinking.removesuffix(fmt.lead), count - 1
        ids = [i for s in found.segments for i in s.token_ids]
        text = "".join(s.text for s in found.segments)
        if not is_opened:
            ids, text = [*tokens.open_ids, *ids], fmt.open + text
        assert splitter.split(text) == (thinking, found.answer), seed
        assert splitter.count(ids) == count
        start = splitter.answer_start(ids)
        assert start is not None
        assert tokens.decode(ids[start:]) == found.answer
        stream, pieces = splitter.stream(), []
        at = 0
        while at < len(text):
            size = random.randint(1, 7)
            pieces.append(stream.feed(text[at : at + size]))
            at += size
        pieces.append(stream.finish())
        assert "".join(p.thinking for p in pieces) == thinking
        assert "".join(p.answer for p in pieces) == found.answer
    assert num_cut > 50


def test_a_reply_that_never_opened_thinking_is_an_answer_and_one_cut_inside_it_is_thinking() -> None:
    tokens = TOKENS[SEVERAL.name]
    plain, opened = ThinkingSplitter(tokens, opens=False), ThinkingSplitter(tokens, opens=True)
    assert plain.split("a<b\n") == ("", "a<b\n")
    assert plain.count(tokens.tokenizer.encode("abab")) == 0
    assert plain.split(SEVERAL.open + "ab") == ("ab", "")
    assert opened.split("ab<|s|>") == ("ab<|s|>", "")
    assert opened.split("") == ("", "")
    assert opened.count([*tokens.tokenizer.encode("abab"), *tokens.eos_ids]) == 4

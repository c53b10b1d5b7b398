"""One thinking pass serves every smaller setting, and gives what each would have given by itself."""

from __future__ import annotations

import random

import pytest

from s1kit.analysis.settings import families, grid, parent_of
from s1kit.errors import InputError
from s1kit.evaluate.decode import Decoding, fill
from s1kit.evaluate.sharing import replay
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.request import Request
from s1kit.recipe import Evaluate
from s1kit.records import Generation, Setting
from tests.fake_walker import Walker, walks


@pytest.mark.parametrize("case", range(300))
def test_a_replayed_transcript_is_what_the_smaller_budget_gives(case: int) -> None:
    draw = random.Random(case)
    large = ThinkingBudget(draw.randint(1, 60), num_waits=draw.randint(0, 5))
    small = ThinkingBudget(draw.randint(0, large.max_tokens), num_waits=draw.randint(0, large.num_waits))
    walker = Walker(stride=draw.randint(1, 12))
    (parent,) = walker.generate([Request("Walk 30 steps.", large)])
    (alone,) = walker.generate([Request("Walk 30 steps.", small)])
    replayed = replay(parent, small)
    assert replayed is not None
    (shared,) = walker.generate([Request("Walk 30 steps.", small, prefix=replayed.prefix)])
    assert [s for s in shared.segments if s.num_tokens] == [s for s in alone.segments if s.num_tokens]
    assert replayed.ending == alone.ending
    if replayed.is_all:
        assert parent.thinking == alone.thinking


def test_a_transcript_does_not_hold_a_larger_budget_or_more_waits() -> None:
    walker = Walker(stride=10)
    cut, closed = walker.generate(
        [Request("Walk 30 steps.", ThinkingBudget(5)), Request("Walk 30 steps.", ThinkingBudget(50))]
    )
    assert replay(cut, ThinkingBudget(6)) is None
    assert replay(closed, ThinkingBudget(50, num_waits=1)) is None
    assert replay(closed, ThinkingBudget(500)) is not None


CONFIG = Evaluate(max_tokens=[0, 8, 16, 32], num_waits=[0, 1, 2], votes=[1, 4], baseline="some")


def test_the_grid_holds_each_setting_once_with_its_repeats() -> None:
    cells = dict(grid(CONFIG))
    sequential = {s for s in cells if s.method == "budget_forcing" and not s.temperature}
    assert sequential == {
        Setting(max_tokens=m, num_waits=w)
        for m, w in [(0, 0), (8, 0), (16, 0), (32, 0), (0, 2), (8, 2), (16, 2), (32, 2)]
    } | {Setting(max_tokens=32, num_waits=1)}
    assert [n for s, n in cells.items() if s.temperature] == [4]
    assert [s.model for s in cells if s.method == "direct"] == ["some"]


def test_settings_that_repeat_each_other_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="max_tokens repeats 8"):
        grid(Evaluate(max_tokens=[8, 16, 8]))


def test_shared_thinking_fills_the_same_cells_as_one_call_each_for_a_fraction_of_the_tokens() -> None:
    questions = walks(40)
    cells = [
        (q, s, r) for q in questions for s, n in grid(CONFIG.model_copy(update={"baseline": ""})) for r in range(n)
    ]
    shared, alone = Walker(), Walker()
    together = fill(shared, cells, Decoding(seed=0, answer_tokens=4), lambda _: None)
    one_by_one = [fill(alone, [cell], Decoding(seed=0, answer_tokens=4), lambda _: None)[0] for cell in cells]
    assert [(g.setting, g.repeat, g.ending, g.thinking, g.answer) for g in together] == [
        (g.setting, g.repeat, g.ending, g.thinking, g.answer) for g in one_by_one
    ]
    greedy = [c for c in cells if not c[1].temperature]
    again, alone = Walker(), Walker()
    fill(again, greedy, Decoding(0, 4), lambda _: None)
    for cell in greedy:
        fill(alone, [cell], Decoding(0, 4), lambda _: None)
    assert again.decoded < alone.decoded / 2


def test_the_parent_of_a_family_is_its_largest_budget_with_the_most_waits() -> None:
    (family,) = families([Setting(max_tokens=8, num_waits=4), Setting(max_tokens=64)])
    assert parent_of(family) == Setting(max_tokens=64, num_waits=4)


class TextWalker(Walker):
    """A server that exchanges text: no token ids come back, and none can be handed in."""

    def _generate(self, request: Request) -> Generation:
        if request.prefix is not None:
            raise InputError("a segment without token ids", where="request.prefix", fix="Give token ids.")
        generation = super()._generate(request)
        bare = tuple(s.model_copy(update={"token_ids": ()}) for s in generation.segments)
        return generation.model_copy(update={"segments": bare, "seam": "text"})


def test_an_engine_that_exchanges_text_thinks_again_for_each_setting_and_fills_the_same_cells() -> None:
    questions = walks(20)
    config = CONFIG.model_copy(update={"baseline": ""})
    cells = [(q, s, r) for q in questions for s, n in grid(config) for r in range(n)]
    exact = fill(Walker(), cells, Decoding(0, 4), lambda _: None)
    text = fill(TextWalker(), cells, Decoding(0, 4), lambda _: None)
    assert [(g.setting, g.ending, g.thinking, g.answer) for g in text] == [
        (g.setting, g.ending, g.thinking, g.answer) for g in exact
    ]


class NoWaits(Walker):
    def _generate(self, request: Request) -> Generation:
        if request.budget is not None and request.budget.num_waits:
            raise InputError("this engine cannot wait", where="request.budget", fix="Leave num_waits out.")
        return super()._generate(request)


def test_what_an_engine_cannot_do_is_refused_with_the_setting_that_asked_for_it() -> None:
    (question,) = walks(1)
    cells = [(question, s, 0) for s in (Setting(max_tokens=8), Setting(max_tokens=64, num_waits=3))]
    with pytest.raises(InputError, match=r"cannot wait \(request.budget, evaluating 64 tokens, 3 Waits\)"):
        fill(NoWaits(), cells, Decoding(0, 4), lambda _: None)


def test_cells_are_counted_as_they_are_filled_and_each_once() -> None:
    """A long shard must not look as if nothing happened."""
    engine = Walker(stride=10)
    questions = walks(5)
    # The last two stop at their budget before any Wait: one answer serves both.
    settings = [Setting(max_tokens=n, num_waits=w) for n, w in ((12, 1), (0, 0), (6, 0), (6, 1))]
    cells = [(question, setting, 0) for question in questions for setting in settings]
    told: list[int] = []
    assert len(fill(engine, cells, Decoding(0, 16), told.append)) == len(cells)
    assert sum(told) == len(cells)
    assert sum(1 for each in told if each) > len(questions)
    for left_out in (settings[2:], settings[:1]):
        told.clear()
        some = [cell for cell in cells if cell[1] not in left_out]
        fill(engine, some, Decoding(0, 16), told.append)
        assert sum(told) == len(some)

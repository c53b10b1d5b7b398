"""The draw of a token from its row's distribution."""

from __future__ import annotations

import pytest
import torch

from s1kit.engines.hf.sampling import _AT_ONCE, BLOCK, SHORT, Cut, Knobs, _leave_out, _search, _truncate, draw, logprobs


@pytest.mark.parametrize("size", [3, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 5 * BLOCK + 7])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_a_draw_is_where_the_random_number_falls_in_the_running_sum(size: int, spread: float) -> None:
    num_rows = 256
    given = torch.Generator().manual_seed(size)
    logits = torch.randn(num_rows, size, generator=given) * spread
    logits[torch.rand(num_rows, size, generator=given) < 0.5] = -torch.inf
    logits[:, size // 2] = 0.0  # something to draw in every row
    uniform = torch.rand(num_rows, dtype=torch.float64, generator=given)
    uniform[0], uniform[1] = 0.0, 1 - 2.0**-53
    ones = torch.ones(num_rows)
    drawn = draw(logits, Knobs(ones, torch.zeros(num_rows, dtype=torch.long), ones, uniform), Cut.NONE)
    probabilities = (logits - logits.amax(-1, keepdim=True)).softmax(-1)
    assert bool((probabilities.gather(-1, drawn[:, None]) > 0).all())
    below = probabilities.double().cumsum(-1)
    last = below.gather(-1, drawn[:, None])[:, 0]
    first = last - probabilities.gather(-1, drawn[:, None])[:, 0].double()
    wanted = uniform * below[:, -1]
    assert bool(((first - 1e-12 <= wanted) & (wanted <= last + 1e-12)).all())


def test_a_share_that_rounding_has_made_whole_is_of_the_last_entry_that_weighs_something() -> None:
    found, share = _search(torch.tensor([[1.0, 2.0, 0.0, 0.0]]), torch.ones(1, 1, dtype=torch.float64))
    assert found.tolist() == [[1]]
    assert 0 < float(share) <= 1


def test_rows_of_a_large_vocabulary_are_drawn_as_each_would_be_alone() -> None:
    given = torch.Generator().manual_seed(0)
    logits = (torch.randn(5, _AT_ONCE // 2 - 1, generator=given) * 3).bfloat16()
    before = logits.clone()
    knobs = Knobs(
        torch.tensor([0.5, 0.8, 1.0, 0.7, 1.3]),
        torch.zeros(5, dtype=torch.long),
        torch.ones(5),
        torch.rand(5, dtype=torch.float64, generator=given),
    )
    drawn = draw(logits, knobs, Cut.NONE)
    alone = [draw(logits[[i]], knobs.of(torch.tensor([i])), Cut.NONE) for i in range(5)]
    assert drawn.tolist() == torch.cat(alone).tolist()
    expected = logits.float().log_softmax(-1).gather(-1, drawn[:, None])[:, 0]
    torch.testing.assert_close(logprobs(logits, drawn), expected)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("spread", "top_k", "top_p"),
    [
        (3.0, 0, 0.95),
        (3.0, 500, 1.0),
        (3.0, 500, 0.9),
        (3.0, 2 * SHORT, 1.0),
        (0.5, 0, 0.95),
        (0.0, 0, 0.3),
        (3.0, 0, 1.0),
    ],
)
def test_the_largest_entries_of_a_vocabulary_are_cut_as_the_whole_is(spread: float, top_k: int, top_p: float) -> None:
    given = torch.Generator().manual_seed(0)
    # As coarse as bfloat16: many entries are equal, and the vocabulary's order decides among them.
    logits = (torch.randn(3, 20_000, generator=given) * spread).bfloat16().float()
    logits -= logits.amax(-1, keepdim=True)
    ones = torch.ones(3)
    knobs = Knobs(ones, torch.full((3,), top_k), ones * top_p, ones.double() / 2)
    whole = _leave_out(logits, torch.zeros(3, 1), knobs)
    ids, kept = _truncate(logits, knobs)
    assert torch.equal(torch.full_like(logits, -torch.inf).scatter(-1, ids, kept), whole)
    is_in = whole > -torch.inf
    if top_k:
        assert int(is_in.sum(-1).max()) <= top_k
    else:
        assert bool((logits.softmax(-1).where(is_in, 0).sum(-1) >= top_p - 1e-4).all())

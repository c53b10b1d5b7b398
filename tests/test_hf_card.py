"""What `hf:` does on a card, as far as a processor can go.

Nothing in a step waits for the host, rows beside the running ones change nothing, variable-length attention is compared
before it is used, and what a card refuses is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1kit import Generation, Request, ThinkingBudget, load_engine
from s1kit.engines.options import read_reference
from s1kit.errors import InputError

torch = pytest.importorskip("torch")

import software_graphs  # noqa: E402

from s1kit.engines.hf import attention, kv_cache, recorded  # noqa: E402
from s1kit.engines.hf.batch import HfBatch  # noqa: E402
from s1kit.engines.hf.kv_cache import Slots  # noqa: E402
from s1kit.engines.hf.passes import Passes  # noqa: E402
from s1kit.engines.hf.recorded import RecordedSteps  # noqa: E402
from s1kit.engines.hf.sampling import Cut, Knobs, draw  # noqa: E402
from s1kit.engines.hf.state import LENGTH, How, RowState  # noqa: E402


@pytest.fixture(scope="module")
def engine(tiny_random_checkpoint: Path) -> Any:
    return load_engine(f"hf:{tiny_random_checkpoint}")


def requests() -> list[Request]:
    return [
        Request(
            question=f"{i}?",
            budget=ThinkingBudget(5 + i % 23, 0, i % 3),
            answer_tokens=16,
            temperature=(0.0, 1.0)[i % 2],
            seed=i,
            repeat=i,
            loop_guard=False,
        )
        for i in range(24)
    ]


def decoded(batch: HfBatch, engine: Any, asked: Sequence[Request]) -> dict[int, Generation]:
    for request in asked:
        batch.admit(engine.plan(request))
    found = {}
    while not batch.is_idle:
        for event in batch.step():
            assert event.generation is not None
            found[event.generation.repeat] = event.generation.model_copy(update={"mean_logprob": None})
    return found


def new_batch(engine: Any, **options: Any) -> HfBatch:
    return HfBatch(engine.model, engine.vocabulary_size, 9, tokens=engine.tokens, **options)


def expected(engine: Any) -> dict[int, Generation]:
    return {g.repeat: g.model_copy(update={"mean_logprob": None}) for g in engine.generate(requests())}


class Replayed:
    """In the place of a CUDA graph: replaying does the recorded step again, with the sizes it was recorded for."""

    sizes: list[tuple[int, int]]

    def __init__(self, steps: RecordedSteps, rows: int, width: int, how: How) -> None:
        self._step = lambda: recorded.step(steps._passes, steps._state, rows, width, how)
        self.chosen = torch.zeros((rows, 2 if how.is_measured else 1), dtype=torch.long)
        Replayed.sizes.append((rows, width))

    def replay(self) -> None:
        self.chosen.copy_(self._step())


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_steps_recorded_for_rounder_sizes_give_the_same(
    engine: Any, monkeypatch: pytest.MonkeyPatch, runs_ahead: bool
) -> None:
    def record(self: RecordedSteps, rows: int, width: int, how: How) -> tuple[Any, Any]:
        graph = Replayed(self, rows, width, how)
        return graph, graph.chosen

    Replayed.sizes = []
    monkeypatch.setattr(RecordedSteps, "_record", record)
    monkeypatch.setattr(recorded, "WIDTHS", (48, 64, 100, 512))
    batch = new_batch(engine, runs_ahead=runs_ahead, expected=(9, 120))
    steps = RecordedSteps(batch._passes, batch._state)
    run = steps.run
    # A card copies what a graph has chosen before it runs the next one.
    monkeypatch.setattr(steps, "run", lambda *given: run(*given).clone())
    batch._recorded = steps
    assert decoded(batch, engine, requests()) == expected(engine)
    # One row beside nine, or eight; a few sizes for all the steps.
    assert {rows for rows, _ in Replayed.sizes} >= {1, 2, 4, 8, 9}
    assert len(Replayed.sizes) < 40


@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize("by_rows", [False, True])
def test_steps_replayed_on_the_same_memory_give_the_same(
    engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs_ahead: bool, by_rows: bool
) -> None:
    """The cache grows on the way: what was recorded before is thrown away, and its memory pool with it."""
    graphs = software_graphs.install(monkeypatch)
    monkeypatch.setattr(kv_cache, "_GROWTH", 16)
    monkeypatch.setattr(attention, "varlen_attn", by_lengths)
    batch = new_batch(engine, runs_ahead=runs_ahead)
    batch._passes.reads_lengths = batch._passes.is_unchecked = by_rows
    steps = RecordedSteps(batch._passes, batch._state)
    run = steps.run
    monkeypatch.setattr(steps, "run", lambda *given: run(*given).clone())
    batch._recorded = steps
    assert decoded(batch, engine, requests()) == expected(engine)
    assert "without" not in capsys.readouterr().err
    assert len(graphs.pools) > 1, "the cache grew"
    assert graphs.num_replayed > 5 * graphs.num_recorded > 0


def test_a_row_that_ended_far_out_writes_nowhere_else(engine: Any) -> None:
    batch = new_batch(engine)
    batch.admit(engine.plan(requests()[5]))
    batch.step()
    batch._passes.slots.reserve(4, 64)
    batch._state.reserve(4)
    batch._state.ints[1:, LENGTH] = 10**6
    with torch.inference_mode():
        before = torch.stack([keys[0] for keys in batch._passes.slots.keys])
        recorded.step(batch._passes, batch._state, 4, 64, How(0, Cut.NONE, True))
    after = torch.stack([keys[0] for keys in batch._passes.slots.keys])
    changed = (after != before).any(-1).any(1).any(0)
    assert int(changed.sum()) == 1, "the running row has its one new token"


def test_a_card_that_refuses_a_recording_decodes_without_and_says_so(
    engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(RecordedSteps, "_record", refused)
    batch = new_batch(engine)
    batch._recorded = RecordedSteps(batch._passes, batch._state)
    assert decoded(batch, engine, requests()) == expected(engine)
    said = capsys.readouterr().err
    assert said.count("decodes without CUDA graphs, which were refused: operation not permitted") == 1
    assert "more" not in said


@pytest.mark.parametrize("by_lengths", [False, True])
def test_nothing_in_a_step_needs_a_value_from_the_device(engine: Any, by_lengths: bool) -> None:
    """On the meta device there are no values: whoever asks for one raises."""
    if by_lengths and attention.varlen_attn is None:
        pytest.skip("this torch has no varlen_attn")
    model = type(engine.model)(engine.model.config).to("meta").to(torch.bfloat16)
    device = torch.device("meta")
    slots, state = Slots(device, 4, 64), RowState(device)
    passes = Passes(model, engine.vocabulary_size, slots)
    with torch.inference_mode():
        state.reserve(4)
        _, cache = passes.prefill([[1, 2, 3]])
        slots.add(cache, 0, [0], [3])
        passes.reads_lengths = by_lengths
        for how in (How(0, Cut.NONE, False), How(1, Cut.FEW, True, True), How(1, Cut.ANY, True, True)):
            assert recorded.step(passes, state, 4, 64, how).shape == (4, 1 + how.is_measured)
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(1, device="meta").item()


def by_lengths(
    q: Any,
    k: Any,
    v: Any,
    cu_q: Any,
    cu_k: Any,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    enable_gqa: bool,
    seqused_k: Any,
) -> Any:
    """torch's variable-length attention for one token a row, written out."""
    assert (max_q, len(cu_q)) == (1, len(q) + 1)
    # A recorded step reads nothing on the host, so the rows' lengths stay tensors: all slots are as wide.
    wide = int(max_k)
    keys, values = (x.unflatten(0, (len(q), wide)).repeat_interleave(q.shape[1] // k.shape[1], 2) for x in (k, v))
    is_used = torch.arange(wide) < seqused_k[:, None]
    assert cu_k.shape == cu_q.shape
    weights = torch.einsum("rhd,rthd->rht", q, keys).mul(scale).masked_fill(~is_used[:, None], -torch.inf).softmax(-1)
    return torch.einsum("rht,rthd->rhd", weights, values)


def test_attention_by_the_rows_lengths_is_that_with_a_mask(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "varlen_attn", by_lengths)
    batch = new_batch(engine)
    batch._passes.reads_lengths = batch._passes.is_unchecked = True
    assert decoded(batch, engine, requests()) == expected(engine)
    assert batch._passes.reads_lengths
    assert not batch._passes.is_unchecked
    assert engine.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("fault", "why"), [("wrong", "standard deviations"), ("raises", "RuntimeError: no kernel")])
def test_attention_that_is_wrong_or_missing_is_not_used(
    engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str, why: str
) -> None:
    def faulty(q: Any, *given: Any, **more: Any) -> Any:
        if fault == "raises":
            raise RuntimeError("no kernel image")
        return by_lengths(q, *given, **more) + 1.0

    monkeypatch.setattr(attention, "varlen_attn", faulty)
    batch = new_batch(engine)
    batch._passes.reads_lengths = batch._passes.is_unchecked = True
    assert decoded(batch, engine, requests()) == expected(engine)
    assert why in capsys.readouterr().err
    assert engine.model.config._attn_implementation == "sdpa"


def test_weights_that_a_card_has_no_room_for_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from s1kit.engines.hf.engine import check_card

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (8_000_000_000, 16_000_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    check_card(7_900_000_000, "cuda", "hf:x")
    with pytest.raises(InputError, match=r"take 15\.2 GB, and Tesla T4 has 8\.0 free"):
        check_card(15_200_000_000, "cuda", "hf:x")


def test_attention_by_lengths_is_for_cards_only(engine: Any) -> None:
    assert not attention.can_attend(engine.model)


def test_cuda_graphs_can_be_left_out_by_the_reference(tiny_random_checkpoint: Path) -> None:
    assert read_reference("hf:x,cuda_graphs=false").options == {"cuda_graphs": False}
    engine: Any = load_engine(f"hf:{tiny_random_checkpoint},cuda_graphs=false")
    assert not engine.cuda_graphs
    assert replace(engine, cuda_graphs=True).running_batch()._recorded is None, "there is no card"


def test_few_candidates_are_drawn_as_from_the_sorted_vocabulary() -> None:
    """Logits as coarse as bfloat16's, so that many are equal; each row with settings of its own."""
    torch.manual_seed(0)
    logits = (torch.randn(600, 300) * 3).bfloat16()
    few = Knobs(
        temperature=torch.rand(600) * 2,
        top_k=torch.randint(1, 65, (600,)),
        top_p=torch.where(torch.rand(600) < 0.5, 1.0, torch.rand(600)),
        uniform=torch.rand(600, dtype=torch.double),
    )
    drawn = draw(logits, few, Cut.FEW)
    assert torch.equal(drawn, draw(logits, few, Cut.ANY))
    assert len(drawn.unique()) > 50
    cold = replace(few, temperature=torch.full((600,), 1e-38))
    assert (logits.gather(1, draw(logits, cold, Cut.FEW)[:, None]) == logits.amax(1, keepdim=True)).all()
    assert (logits.gather(1, drawn[:, None]) >= logits.topk(64).values[:, -1:]).all()


@pytest.mark.parametrize(
    ("settings", "cut"),
    [
        ([(20, 0.8), (64, 1.0)], Cut.FEW),
        ([(20, 0.8), (65, 1.0)], Cut.ANY),
        ([(20, 1.0), (0, 1.0)], Cut.ANY),
        ([(0, 1.0), (0, 1.0)], Cut.NONE),
        ([(0, 0.9), (0, 0.9)], Cut.ANY),
    ],
)
def test_rows_are_cut_alike_or_in_the_way_that_serves_all(
    engine: Any, settings: list[tuple[int, float]], cut: Cut
) -> None:
    batch = new_batch(engine)
    greedy = Request(question="?", budget=ThinkingBudget(9), answer_tokens=16)
    for top_k, top_p in settings:
        batch.admit(engine.plan(replace(greedy, temperature=1.0, top_k=top_k, top_p=top_p)))
    batch.admit(engine.plan(greedy))
    batch.step()
    assert batch._rows.how().cut == cut

"""What `hf:` does on a card, as far as a processor can go.

Nothing in a step waits for the host, rows beside the running ones change nothing, variable-length attention is compared
before it is used, and what a card refuses is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s1kit import Generation, Request, ThinkingBudget, load_engine
from s1kit.engines.references import read_reference
from s1kit.errors import InputError

torch = pytest.importorskip("torch")

import software_graphs  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from s1kit.engines import machine  # noqa: E402
from s1kit.engines.hf import attention, cuda_graphs, kv_cache  # noqa: E402
from s1kit.engines.hf.batch import HfBatch  # noqa: E402
from s1kit.engines.hf.cuda_graphs import RecordedSteps  # noqa: E402
from s1kit.engines.hf.device_state import LENGTH, How, RowState  # noqa: E402
from s1kit.engines.hf.kv_cache import Slots  # noqa: E402
from s1kit.engines.hf.passes import Passes, check_steps  # noqa: E402
from s1kit.engines.hf.sampling import Cut, Knobs, draw  # noqa: E402


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
        self._step = lambda: cuda_graphs.step(steps._passes, steps._state, rows, width, how)
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
    monkeypatch.setattr(cuda_graphs, "WIDTHS", (48, 64, 100, 512))
    monkeypatch.setattr(cuda_graphs, "NUM_UNRECORDED", 0)
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
    assert steps._num_sent.keys() - steps._graphs.keys(), "what occurred once or twice was not recorded"


def test_a_row_that_ended_far_out_writes_nowhere_else(engine: Any) -> None:
    batch = new_batch(engine)
    batch.admit(engine.plan(requests()[5]))
    batch.step()
    batch._passes.slots.reserve(4, 64)
    batch._state.reserve(4)
    batch._state.ints[1:, LENGTH] = 10**6
    with torch.inference_mode():
        before = torch.stack([keys[0] for keys in batch._passes.slots.keys])
        cuda_graphs.step(batch._passes, batch._state, 4, 64, How(0, Cut.NONE, True))
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


def test_a_recording_that_fails_leaves_the_stream_as_it_was_and_names_the_cause(
    engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch.cuda.graph does: where it cannot end a recording it raises anew, and its stream stays in use."""
    software_graphs.install(monkeypatch)
    streams: list[Any] = []

    @contextmanager
    def graph(*_: Any, **__: Any) -> Iterator[None]:
        streams.append("recording")
        try:
            yield
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error during capture") from None

    def refused(*_: Any) -> None:
        if streams and streams[-1] == "recording":
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    batch = new_batch(engine)
    decode = batch._passes.decode
    monkeypatch.setattr(batch._passes, "decode", lambda *given: refused() or decode(*given))
    batch._recorded = RecordedSteps(batch._passes, batch._state)
    assert decoded(batch, engine, requests()) == expected(engine)
    assert streams == ["recording", "before"]
    assert "refused: operation not permitted when stream is capturing" in capsys.readouterr().err


def test_a_step_runs_where_the_model_is_on_a_machine_of_several_cards(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events and recordings are the current card's: those of another one had waited for nothing, and held nothing."""
    current: list[Any] = []

    @contextmanager
    def device(wanted: Any) -> Iterator[None]:
        current.append(wanted)
        yield

    monkeypatch.setattr(torch.cuda, "device", device)
    batch = new_batch(engine)
    step = batch._step
    batch._model = SimpleNamespace(device=torch.device("cuda", 1))
    monkeypatch.setattr(batch, "_step", lambda: [*step(), current.pop()][:-1])
    assert decoded(batch, engine, requests()) == expected(engine)
    assert not current


class OnItsDevice(TorchDispatchMode):
    """Within it no operation may take or give a tensor elsewhere: a recording allows no transfer, not of a number."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        elsewhere = {x.device.type for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)}
        assert elsewhere <= {self._device}, (func, elsewhere)
        return out


@pytest.mark.parametrize("by_lengths", [False, True])
def test_nothing_in_a_step_needs_a_value_from_the_device(engine: Any, by_lengths: bool) -> None:
    """On the meta device there are no values: whoever asks for one raises."""
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
            with OnItsDevice("meta"):
                assert cuda_graphs.step(passes, state, 4, 64, how).shape == (4, 1 + how.is_measured)
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(1, device="meta").item()
    with pytest.raises(AssertionError, match="cpu"), OnItsDevice("meta"):
        torch.ones(1, device="meta") * torch.tensor(2.0)


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


def by_operation(
    q: Any,
    k: Any,
    v: Any,
    cu_q: Any,
    cu_k: Any,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float,
    seqused_k: Any,
) -> Any:
    """The operation beneath it, which is all that torch 2.6 to 2.11 have; five values, the first of them the output."""
    assert (dropout_p, is_causal, return_debug_mask) == (0.0, False, False)
    out = by_lengths(q, k, v, cu_q, cu_k, max_q, max_k, scale=scale, enable_gqa=False, seqused_k=seqused_k)
    return out, None, None, None, None


@pytest.mark.parametrize("takes", [{"seqused_k", "enable_gqa"}, {"scale", "window_size"}])
def test_attention_by_the_rows_lengths_is_that_with_a_mask(
    engine: Any, monkeypatch: pytest.MonkeyPatch, takes: set[str]
) -> None:
    monkeypatch.setattr(attention, "_TAKES", takes)
    is_public = "seqused_k" in takes
    monkeypatch.setattr(attention, "varlen_attn", by_lengths if is_public else None)
    monkeypatch.setattr(attention, "_flash_attention", None if is_public else by_operation)
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


def test_the_operation_beneath_variable_length_attention_takes_the_lengths_in_every_release(engine: Any) -> None:
    """torch 2.11's varlen_attn does not: without the operation its cards had decoded with a mask."""
    assert attention._HAS_LENGTHS
    names = [argument.name for argument in attention._flash_attention.default._schema.arguments]
    tensors, sizes = ["query", "key", "value", "cum_seq_q", "cum_seq_k"], ["max_q", "max_k"]
    assert names[:10] == [*tensors, *sizes, "dropout_p", "is_causal", "return_debug_mask"]
    assert {"scale", "seqused_k"} <= set(names[10:])
    a_card = SimpleNamespace(
        device=torch.device("cuda"), dtype=torch.bfloat16, config=type(engine.model.config)(_attn_implementation="sdpa")
    )
    assert attention.can_attend(a_card)


NO_CODE = "CUDA error: no kernel image is available for execution on the device"


@pytest.mark.parametrize(
    ("is_there", "hidden", "fault", "why"),
    [
        (True, None, "", ""),
        (True, "0", RuntimeError(f"{NO_CODE}\nmore"), NO_CODE),
        (True, None, RuntimeError("CUDA-capable device(s) is/are busy or unavailable"), "CUDA-capable device"),
        (True, None, torch.OutOfMemoryError("CUDA out of memory."), ""),
        (False, None, AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA enabled"),
        (False, "7", RuntimeError("No CUDA GPUs are available"), "No CUDA GPUs are available"),
        (False, "", RuntimeError("No CUDA GPUs are available"), ""),
        (False, "-1", RuntimeError("No CUDA GPUs are available"), ""),
        (False, None, "", "it finds none"),
    ],
)
def test_what_keeps_torch_from_a_card_is_known_by_a_computation_there(
    monkeypatch: pytest.MonkeyPatch, is_there: bool, hidden: str | None, fault: Any, why: str
) -> None:
    def try_out(_: Any) -> None:
        if fault:
            raise fault

    monkeypatch.setattr(machine, "_may_have_card", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(machine, "try_out", try_out)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert machine.why_unused().startswith(why)
    assert bool(machine.why_unused()) is bool(why)
    assert machine.can_compute() is (is_there and not why)


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "meta", "gpu"])
def test_a_device_that_computes_nothing_here_is_refused(tiny_random_checkpoint: Path, device: str) -> None:
    with pytest.raises(InputError, match=rf"the device '{device}' cannot be used: \w"):
        load_engine(f"hf:{tiny_random_checkpoint},device={device}")


def test_a_model_whose_numbers_float16_does_not_hold_is_refused_with_the_type_that_does(engine: Any) -> None:
    """As on a card without bfloat16."""
    model = type(engine.model)(engine.model.config)
    with torch.no_grad():
        model.model.norm.weight.fill_(1e3)
        model.lm_head.weight.fill_(3e4)
    check_steps(model, engine.vocabulary_size, engine.windows)
    with pytest.raises(InputError, match=r"are no finite numbers in float16.*Give dtype=float32"):
        check_steps(model.half(), engine.vocabulary_size, engine.windows)


def test_the_data_type_is_that_of_the_card_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from s1kit.engines.hf.engine import card_dtype

    current = ["cuda:0"]

    @contextmanager
    def device(wanted: str) -> Iterator[None]:
        current.append(wanted)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: current[-1] == "cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert [card_dtype(name) for name in ("cuda:0", "cuda:1")] == ["bfloat16", "float16"]


@pytest.mark.parametrize(
    ("names", "machine", "card"),
    [
        (["NVIDIA H100 80GB HBM3"] * 2, ", 2 x NVIDIA H100 80GB HBM3", "H100"),
        (["NVIDIA H100 80GB HBM3", "NVIDIA L4"], ", 1 x NVIDIA H100 80GB HBM3, 1 x NVIDIA L4", "L4"),
        (["NVIDIA L4", "Tesla T4"], ", 1 x NVIDIA L4, 1 x Tesla T4", ""),
        (["NVIDIA H100 80GB HBM3 MIG 1g.10gb"], ", 1 x NVIDIA H100 80GB HBM3 MIG 1g.10gb", ""),
        (["NVIDIA GeForce RTX 4090 Laptop GPU"], ", 1 x NVIDIA GeForce RTX 4090 Laptop GPU", ""),
    ],
)
def test_cards_of_several_kinds_are_all_named_and_reckoned_by_the_slowest(
    monkeypatch: pytest.MonkeyPatch, names: list[str], machine: str, card: str
) -> None:
    from s1kit import environment
    from s1kit.recipe import Train
    from s1kit.train import estimate

    monkeypatch.setattr(estimate, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: names[i])
    assert str(environment.environment()["machine"]).endswith(machine)
    found = estimate.machine_of(Train())
    assert (found.card if found else "") == card
    assert found is None or found.num_cards == len(names)


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_card_that_torch_cannot_use_is_told_and_the_processor_decodes(
    tiny_random_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_asked: bool,
) -> None:
    """A driver older than torch's build: torch only says that no card is available."""

    def too_old() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "_may_have_card", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", too_old)
    loaded: Any = load_engine(f"hf:{tiny_random_checkpoint}" + ",device=cpu" * is_asked)
    assert loaded.model.device.type == "cpu"
    said = "it decodes on the CPU: The NVIDIA driver on your system is too old (found version 11040)."
    assert (said in capsys.readouterr().err) is not is_asked
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not machine.why_unused(), "it was hidden on purpose"


def test_memory_that_an_earlier_model_of_this_process_left_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps it for itself: after a training, an evaluation in the same process was refused for want of it."""
    held = [3]
    monkeypatch.setattr(torch.cuda, "empty_cache", held.clear)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (8 - sum(held), 16))
    assert machine.free_bytes("cuda") == 8


def test_weights_that_do_not_fit_after_all_are_refused_in_a_sentence(
    tiny_random_checkpoint: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, *_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.02 GiB.\nMore")

    monkeypatch.setattr(type(engine.model), "to", full)
    with pytest.raises(InputError, match=r"do not fit: CUDA out of memory\. Tried to allocate 1\.02 GiB.*device=cpu"):
        load_engine(f"hf:{tiny_random_checkpoint}")


def test_what_goes_to_a_card_goes_through_pinned_memory_and_is_not_waited_for() -> None:
    class Seen:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def pin_memory(self) -> Seen:
            self.calls.append("pinned")
            return self

        def to(self, device: Any, non_blocking: bool = False) -> Seen:
            self.calls.append((device.type, non_blocking))
            return self

    for device, wanted in (("cuda", ["pinned", ("cuda", True)]), ("cpu", [("cpu", False)])):
        seen: Any = Seen()
        assert machine.sent_to(seen, torch.device(device)).calls == wanted


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

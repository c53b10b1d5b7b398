"""Tokens a second of fine-tuning against TRL's SFTTrainer: same model, samples, order and settings, in one process.

    python bench/train_throughput.py                  a model of 0.9M parameters on one CPU thread
    python bench/train_throughput.py --model qwen2.5-1.5b --length 8192      on a GPU, random weights in real shapes
    python bench/train_throughput.py --model qwen2.5-7b --length 8192 --shrink 64      the same road on a CPU, in small

Prints both losses (they must agree), both rates and their ratio. On a CPU the rate is per CPU second too, which a busy
machine disturbs less. Both train the same random weights, drawn where they are trained; nothing is written to disk.
With --json a line is added after each measured step, so that what was measured is there when the time is up; the last
line of a trainer is the one that counts. bench/gpu.sh runs what a GPU is to be measured with.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import train_profile

from s1kit.recipe import Layout, Train
from s1kit.train import attention, loading, loop, packing
from s1kit.train.attention import choose_kernel
from s1kit.train.cost import RECOMPUTED
from s1kit.train.encoded import Encoded
from s1kit.train.flops import peak_tflops, training_flops
from s1kit.train.processes import open_world
from s1kit.train.shapes import SHAPES, Shape

TINY = Shape(4, 128, 512, 4, 4, vocab_size=256, tie_word_embeddings=True, max_position_embeddings=1024)


@dataclass
class Run:
    """One trainer's steps after the warm-up ones."""

    losses: list[float]
    tokens: int
    seconds: float
    cpu_seconds: float
    steps: int = 0
    memory_gib: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    """Of the kinds of kernels in the last step, where it was profiled."""

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def make_samples(num: int, vocabulary: int, longest: int, shortest: int) -> list[Encoded]:
    """Random tokens; lengths spread evenly in the logarithm, as reasoning traces are; a quarter is the question."""
    draw = random.Random(0)
    samples = []
    for i in range(num):
        length = int(shortest * (longest / shortest) ** draw.random())
        ids = tuple(draw.randrange(vocabulary) for _ in range(length))
        samples.append(Encoded(f"sample-{i}", ids, length // 4))
    return samples


def draw(shape: Shape, dtype: torch.dtype, **options: Any) -> Any:
    """A model of that shape with random weights, the same at each call on one device. `options`: of from_config."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(_device()):
        return AutoModelForCausalLM.from_config(config_of(shape), dtype=dtype, **options).train()


def config_of(shape: Shape) -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(**shape.qwen2_config())


Note = Callable[[Run], None]
"""Told of what was measured so far, after each measured step."""


def run_s1kit(
    train: Train,
    samples: list[Encoded],
    warmup: int,
    profile: bool = False,
    shape: Shape | None = None,
    note: Note = lambda _: None,
) -> Run:
    """This package's loop, measured between its own log lines; with `profile` one step more, which is not measured.

    `shape`: of random weights to train; None: `train.base` is loaded.
    """
    from transformers import AutoConfig

    config = config_of(shape) if shape else AutoConfig.from_pretrained(train.base.removeprefix("hf:"))
    cpu: list[float] = []
    log: list[dict[str, float]] = []
    profilers: list[Any] = []
    before, load = loop.TrainingMeter.step, loading.load_weights
    last = (train.max_steps or 0) - profile

    def measured() -> Run:
        rows = log[warmup:last]
        return Run(
            [row["loss"] for row in log[:last]],
            int(sum(row["tokens"] for row in rows)),
            sum(row["seconds"] for row in rows),
            cpu[min(len(cpu), last) - 1] - cpu[warmup - 1],
            len(rows),
            log[-1]["memory_gib"],
        )

    def step(self: Any, lengths: Any, **values: float) -> dict[str, float]:
        cpu.append(time.process_time())
        log.append(before(self, lengths, **values))
        if warmup < len(log) <= last:
            note(measured())
        if profile and len(log) == last:
            # Not before: a profiler takes seconds to start, which are the next step's.
            profilers.append(train_profile.start())
        return log[-1]

    loop.TrainingMeter.step = step  # type: ignore[method-assign]
    if shape is not None:
        attention.register()
        loading.load_weights = lambda base, config, dtype, seed: draw(shape, dtype, attn_implementation=attention.NAME)
    try:
        with tempfile.TemporaryDirectory() as folder, open_world(train.layout) as world:
            loop.fit(samples, config, train, 0, Path(folder), world)
    finally:
        loop.TrainingMeter.step, loading.load_weights = before, load  # type: ignore[method-assign]
    found = measured()
    if profilers:
        found.shares = train_profile.shares(profilers[0])
        note(found)
    return found


def run_trl(
    train: Train,
    samples: list[Encoded],
    warmup: int,
    options: dict[str, Any],
    shape: Shape | None = None,
    note: Note = lambda _: None,
) -> Run:
    """TRL's SFTTrainer on the same batches in the same order. `shape`: as in `run_s1kit`."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from transformers.trainer_utils import set_seed
    from trl import SFTConfig, SFTTrainer

    set_seed(0)
    order = [i for members in packing.batches(len(samples), train.batch_size, 1, train.max_steps, 0) for i in members]
    rows = [samples[i] for i in order]
    data = Dataset.from_dict(
        {
            "input_ids": [list(s.ids) for s in rows],
            "completion_mask": [[0] * s.num_prompt + [1] * s.num_learned for s in rows],
        }
    )
    marks: list[tuple[float, float]] = []
    losses: list[float] = []
    cuda = torch.cuda.is_available()

    def measured() -> Run:
        seconds, cpu = (marks[-1][k] - marks[warmup - 1][k] for k in (0, 1))
        tokens = sum(len(s) for s in rows[warmup * train.batch_size : len(marks) * train.batch_size])
        memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
        return Run(list(losses), tokens, seconds, cpu, len(marks) - warmup, memory)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
            marks.append((time.perf_counter(), time.process_time()))

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])
                if len(marks) > warmup:
                    note(measured())

    class InOrder(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *args: Any) -> Any:
            return SequentialSampler(data)

    dtype = train.layout.master_dtype
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=options.pop("per_device", train.batch_size),
            gradient_accumulation_steps=options.pop("accumulate", 1),
            max_steps=train.max_steps or 1,
            learning_rate=train.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=-(-(train.max_steps or 1) * 5 // 100),
            adam_beta1=train.betas[0],
            adam_beta2=train.betas[1],
            weight_decay=train.weight_decay,
            max_grad_norm=train.max_grad_norm or 0.0,
            optim="adamw_torch_fused",
            bf16=train.dtype == "bfloat16",
            use_cpu=not cuda,
            gradient_checkpointing=options.pop(
                "gradient_checkpointing", train.layout.activation_checkpointing != "none"
            ),
            max_length=None,
            completion_only_loss=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=cuda,
            **({} if shape else {"model_init_kwargs": {"dtype": dtype}}),
            **options,
        )
        trainer = InOrder(
            model=draw(shape, getattr(torch, dtype)) if shape else train.base.removeprefix("hf:"),
            args=config,
            train_dataset=data,
            processing_class=_any_tokenizer(PreTrainedTokenizerFast),
            callbacks=[Clock()],
        )
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    return measured()


def _any_tokenizer(kind: Any) -> Any:
    """SFTTrainer wants one although the data is tokenised."""
    from tokenizers import Tokenizer, models

    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    return kind(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def compare(given: argparse.Namespace, train: Train, shape: Shape, samples: list[Encoded], what: dict[str, Any]) -> int:
    """Run both, or the one that is wanted, and print the table; 1 when the losses disagree."""
    peak = peak_tflops(what["card"]) * 1e12
    again = 1 + RECOMPUTED[train.layout.activation_checkpointing] / 3
    lengths = [len(s) for s in samples]
    per_token = training_flops(shape, lengths) / sum(lengths)

    def row(label: str, run: Run) -> dict[str, Any]:
        mfu = per_token * run.rate / peak if peak else 0.0
        figures = {"trainer": label, "mfu": mfu, "hfu": mfu * again, "rate": run.rate, "memory_gib": run.memory_gib}
        figures |= {"steps": run.steps, "seconds_per_step": run.seconds / run.steps}
        return what | figures | {"shares": run.shares, "losses": run.losses}

    def note(label: str) -> Note:
        def write(run: Run) -> None:
            if given.json:
                with Path(given.json).open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row(label, run)) + "\n")

        return write

    runs: dict[str, Run] = {}
    if given.only != "trl":
        runs["s1kit"] = run_s1kit(train, samples, given.warmup, given.profile, shape, note("s1kit"))
    if given.only != "s1kit":
        options = json.loads(given.trl)
        forget_models()
        try:
            runs["TRL"] = run_trl(train, samples, given.warmup, dict(options), shape, note("TRL"))
        except torch.OutOfMemoryError:
            options |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"selective": True}}
            print(f"TRL has too little memory; again with {options}", flush=True)
        if "TRL" not in runs:
            forget_models()
            what |= {"trl": options}
            runs["TRL"] = run_trl(train, samples, given.warmup, dict(options), shape, note("TRL"))
    for label, run in runs.items():
        line = f"{label:6} {run.rate:10,.0f} tokens/s  {run.tokens / run.cpu_seconds:10,.0f} tokens/CPU s"
        if peak:
            line += f"  MFU {row(label, run)['mfu']:.3f}  {run.memory_gib:.1f} GiB"
        if run.shares:
            line += "\n       time: " + ", ".join(f"{kind} {share:.0%}" for kind, share in run.shares.items())
        print(line)
        print(f"{label:6} losses {' '.join(f'{loss:.5f}' for loss in run.losses)}")
    if len(runs) < 2:
        return 0
    ours, theirs = runs["s1kit"], runs["TRL"]
    shared = zip(ours.losses, theirs.losses, strict=False)  # TRL's has the profiled step too
    apart = max(abs(a - b) for a, b in shared)
    per_cpu = ours.tokens / ours.cpu_seconds / (theirs.tokens / theirs.cpu_seconds)
    print(f"losses furthest apart: {apart:.1e}")
    print(f"ratio  {ours.rate / theirs.rate:.2f} by the clock, {per_cpu:.2f} by CPU time")
    return int(apart > (1e-3 if train.dtype == "float32" else 5e-2))


def available(options: dict[str, Any]) -> dict[str, Any]:
    """SFTConfig options without liger's kernels where these are not there: slower figures are better than none."""
    if options.get("use_liger_kernel") and not (find_spec("liger_kernel") and find_spec("triton")):
        print("TRL without liger's kernels, which are not installed", flush=True)
        options = {name: value for name, value in options.items() if name != "use_liger_kernel"}
    return options


def forget_models() -> None:
    """Free the memory of models that nothing uses; the compiler keeps what it has seen."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="tiny", choices=["tiny", *SHAPES])
    parser.add_argument("--layers", type=int, help="keep only so many layers of the shape")
    parser.add_argument("--length", type=int, default=320, help="tokens of the longest sample")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--warmup", type=int, default=3, help="steps that are not measured")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--layout", default="{}", help="JSON of train.layout")
    parser.add_argument("--micro-batch-tokens", type=int, default=2048)
    parser.add_argument("--trl", default="{}", help="JSON of further SFTConfig options")
    parser.add_argument("--only", choices=("s1kit", "trl"), help="one of the two trainers; else both")
    parser.add_argument("--profile", action="store_true", help="where the time of one more step goes")
    parser.add_argument("--shrink", type=int, help="divide lengths by this; the tiny shape, bfloat16, FSDP")
    parser.add_argument("--json", help="append the results to this file, a line after each measured step")
    given = parser.parse_args()
    given.trl = json.dumps(available(json.loads(given.trl)))
    loading.require_torch()
    cuda = torch.cuda.is_available()
    if not cuda:
        torch.set_num_threads(1)
    shape = TINY if given.model == "tiny" else SHAPES[given.model]
    if given.layers:
        shape = replace(shape, num_hidden_layers=given.layers)
    if given.shrink:
        shape = replace(TINY, num_hidden_layers=min(4, shape.num_hidden_layers))
        given.length, given.micro_batch_tokens = given.length // given.shrink, given.micro_batch_tokens // given.shrink
        if not cuda:  # as on a card: sharded over one process
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    dtype = "bfloat16" if cuda or given.shrink else "float32"
    steps = given.steps + given.profile
    samples = make_samples(given.batch_size * steps, shape.vocab_size, given.length, max(8, given.length // 4))
    layout = Layout.model_validate_json(given.layout)
    kernel = choose_kernel(layout.attention, _device(), getattr(torch, dtype))
    name = torch.cuda.get_device_name() if cuda else ""
    print(f"torch {torch.__version__}, attention {kernel}, {name or 'CPU, one thread'}", flush=True)
    train = Train(
        base=f"random:{given.model}",
        batch_size=given.batch_size,
        epochs=1,
        max_steps=steps,
        learning_rate=1e-3 if given.model == "tiny" else 1e-5,
        loss_normalization="per_token",  # TRL's
        dtype=dtype,
        micro_batch_tokens=given.micro_batch_tokens,
        save_every=10_000,
        layout=layout,
    )
    what = {"model": given.model, "layers": given.layers, "length": given.length, "batch_size": given.batch_size}
    what |= {"row_tokens": given.micro_batch_tokens, "parameters": shape.parameters, "card": name, "attention": kernel}
    what |= {"layout": json.loads(given.layout), "trl": json.loads(given.trl)}
    return compare(given, train, shape, samples, what)


if __name__ == "__main__":
    sys.exit(main())

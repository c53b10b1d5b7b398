"""What a batch of prompts of many lengths takes: python bench/prefill_memory.py [num_requests]

Random weights in the shape of Qwen2.5-0.5B (24 layers, vocabulary 151,936), bfloat16, prompts of 30 to 100 tokens, a
few tokens each. Prints the rows that ran together, the peak resident memory above the weights, and seconds of CPU time.
"""

from __future__ import annotations

import resource
import sys
import time
from random import Random
from tempfile import TemporaryDirectory

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from s1kit.engines.hf.engine import of_model
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.request import Request
from tests.fixtures_models import write_tokenizer


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(num: int) -> None:
    from pathlib import Path

    with TemporaryDirectory() as name:
        write_tokenizer(Path(name))
        tokenizer = AutoTokenizer.from_pretrained(name)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen2ForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    engine = of_model(model, tokenizer, FORMATS["s1"])
    random = Random(0)
    requests = [
        Request("a" * random.randint(1, 70), budget=ThinkingBudget(512), answer_tokens=256, repeat=i)
        for i in range(num)
    ]
    batch = engine.running_batch()
    before, started = peak_mib(), time.process_time()
    for request in requests:
        batch.admit(engine.plan(request), is_streamed=True)
    for _ in range(3):
        batch.step()
    print(
        f"{batch.num_running} of {num} rows run together; {peak_mib() - before:,.0f} MiB above the weights' "
        f"{before:,.0f} MiB; {time.process_time() - started:.0f} s of CPU time"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)

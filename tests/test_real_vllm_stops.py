"""A checkpoint of this trainer in vLLM without anything of ours: it ends where the checkpoint says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_models import write_random_checkpoint
from test_train_declared import edit, fine_tuned, token

pytestmark = pytest.mark.engines
pytest.importorskip("vllm", reason="run make engines, then make test-engines")

SCRIPT = """
import sys
from vllm import LLM, SamplingParams
llm = LLM(sys.argv[1], enforce_eager=True, dtype="float32", max_num_seqs=4, max_model_len=512)
for token in map(int, sys.argv[2:]):
    asked = SamplingParams(max_tokens=20, temperature=0, logit_bias={token: 100.0})
    (found,) = llm.chat([{"role": "user", "content": "1+1?"}], asked)
    print("ENDED", found.outputs[0].finish_reason, len(found.outputs[0].token_ids))
"""


def test_vllm_itself_stops_at_the_answers_end_and_at_the_bases_own(tmp_path: Path) -> None:
    """A base that ends at another token than the format: no plugin, no stop ids are given."""
    base = write_random_checkpoint(tmp_path / "base", context=1024, scale=0.1, head_width=32)
    own = token(base, "<|endoftext|>")
    edit(base / "config.json", eos_token_id=own)
    edit(base / "tokenizer_config.json", eos_token="<|endoftext|>")
    (base / "generation_config.json").write_text(f'{{"eos_token_id": {own}, "temperature": 0.7}}')
    checkpoint = fine_tuned(base, tmp_path / "out", dtype="float32").checkpoint
    ends = [str(token(base, text)) for text in ("<|im_end|>", "<|endoftext|>")]
    # In a process of its own: vLLM in this one would be found by the trainer, and the plugin by vLLM.
    ran = subprocess.run([sys.executable, "-c", SCRIPT, str(checkpoint), *ends], capture_output=True, text=True)
    assert [line for line in ran.stdout.splitlines() if line.startswith("ENDED")] == ["ENDED stop 1"] * 2, ran.stderr[
        -2000:
    ]

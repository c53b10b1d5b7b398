"""A program: the parity suite in vLLM's V2 model runner on a CPU, whose kernels run in Triton's interpreter.

    python tests/vllm_on_v2.py CHECKPOINT

The V2 runner asks for a Triton that compiles for the CPU, which no registry has. Triton's interpreter runs the same
kernels, slowly; vLLM only has to be told that the CPU is among Triton's backends before it looks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def main() -> None:
    os.environ |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    import triton.backends

    triton.backends.backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True), compiler=None)
    from engine_parity import (
        SMALL_CACHE,
        assert_bounds_hold_when_sampling,
        assert_same_transcripts,
        assert_same_transcripts_under_preemption,
    )

    from s1kit import load_engine

    folder = sys.argv[1]
    settings: dict[str, Any] = {"enforce_eager": True, "dtype": "float32", "max_num_seqs": 16}
    engine: Any = load_engine(f"vllm:{folder}", **settings)
    assert engine.llm.llm_engine.vllm_config.use_v2_model_runner
    reference = load_engine(f"hf:{folder}")
    assert_same_transcripts(engine, reference)
    # Its kernel for top-p is beyond the interpreter.
    assert_bounds_hold_when_sampling(engine, top_p=1.0)
    small: Any = load_engine(f"vllm:{folder}", **settings, **SMALL_CACHE)
    assert_same_transcripts_under_preemption(small, load_engine(f"hf:{folder}", context_tokens=256), top_p=1.0)
    print("the V2 runner gives the transcripts of transformers, under preemption too")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()

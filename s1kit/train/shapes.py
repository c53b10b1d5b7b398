"""Shapes of models that can be made without a download: for `random:<name>`, for estimates and for benchmarks.

From the config.json of the Qwen2.5 releases on the Hub (rope base 1e6, RMS norm epsilon 1e-6); `qwen2-small` is ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """What memory and floating-point operations depend on."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int = 152064
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 32768
    head_dim: int | None = None

    @property
    def head_size(self) -> int:
        """Size of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def attention_size(self) -> int:
        """Summed size of all query heads."""
        return self.num_attention_heads * self.head_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer's matrices; biases and norms, some 0.03 %, are left out."""
        share = self.num_key_value_heads / self.num_attention_heads
        attention = self.hidden_size * self.attention_size * (2 + 2 * share)
        return int(attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def matmul_parameters(self) -> int:
        """Parameters that each token is multiplied with: all matrices and the output layer, no embedding table."""
        return self.num_hidden_layers * self.layer_parameters + self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All parameters, the embedding table included."""
        return self.matmul_parameters + (0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size)

    @classmethod
    def of_config(cls, config: Any) -> Shape:
        """The shape in a transformers config, or a dictionary with its fields."""
        values = config if isinstance(config, dict) else config.to_dict()
        heads = values["num_attention_heads"]
        return cls(
            num_hidden_layers=values["num_hidden_layers"],
            hidden_size=values["hidden_size"],
            intermediate_size=values["intermediate_size"],
            num_attention_heads=heads,
            num_key_value_heads=values.get("num_key_value_heads") or heads,
            vocab_size=values["vocab_size"],
            tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
            max_position_embeddings=values.get("max_position_embeddings", 32768),
            head_dim=values.get("head_dim"),
        )

    def qwen2_config(self) -> dict[str, Any]:
        """The fields of a transformers Qwen2 config."""
        fields = {k: v for k, v in asdict(self).items() if v is not None}
        return fields | {"rope_theta": 1e6, "rms_norm_eps": 1e-6, "architectures": ["Qwen2ForCausalLM"]}


SHAPES = {
    "qwen2-small": Shape(4, 64, 256, 4, 2, vocab_size=151936, tie_word_embeddings=True, max_position_embeddings=4096),
    "qwen2.5-0.5b": Shape(24, 896, 4864, 14, 2, vocab_size=151936, tie_word_embeddings=True),
    "qwen2.5-1.5b": Shape(28, 1536, 8960, 12, 2, vocab_size=151936, tie_word_embeddings=True),
    "qwen2.5-3b": Shape(36, 2048, 11008, 16, 2, vocab_size=151936, tie_word_embeddings=True),
    "qwen2.5-7b": Shape(28, 3584, 18944, 28, 4),
    "qwen2.5-14b": Shape(48, 5120, 13824, 40, 8),
    "qwen2.5-32b": Shape(64, 5120, 27648, 40, 8),
    "qwen2.5-72b": Shape(80, 8192, 29568, 64, 8),
}

"""The engine `vllm:` and the plugin for a vLLM server of one's own: budget forcing as a logits processor."""

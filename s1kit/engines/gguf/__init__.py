"""GGUF files: metadata and tensors read, checkpoint folders written to them and unpacked from them.

Knows file layouts and architectures; decodes nothing. The engine that runs such files is `s1kit.engines.llama_cpp`.
"""

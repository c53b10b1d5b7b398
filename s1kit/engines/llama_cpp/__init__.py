"""The engine `llama.cpp:`: GGUF files decoded in this process."""

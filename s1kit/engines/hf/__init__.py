"""The engine `hf:`: transformers models under our own batched loop. The only engine that may import torch."""

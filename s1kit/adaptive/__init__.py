"""Thinking that ends when its answer is settled: a rule, its calibration with a guarantee, and asking under it."""

"""Metrics, statistics and comparisons of settings: pure functions over generations. Knows no HTML and no files."""

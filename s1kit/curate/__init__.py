"""samples <- traces that pass quality and difficulty, then a seeded selection over domains and lengths."""

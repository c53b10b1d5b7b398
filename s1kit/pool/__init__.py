"""Questions from their sources, less duplicates and what overlaps with evaluation sets."""

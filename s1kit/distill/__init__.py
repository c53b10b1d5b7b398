"""Turn questions into traces: ask a teacher, once, within a budget."""

"""Stage `distill`: questions become traces. Teachers are asked once a question, within a spend cap."""

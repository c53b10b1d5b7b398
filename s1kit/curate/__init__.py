"""Stage `curate`: traces are filtered by quality and difficulty, then drawn by domain and length with a seed."""

"""What sharing buys: the tiny model over its recipe's grid, against one `generate` call a question and setting.

    python bench/evaluate_grid.py [--questions 10] [--model tiny]

Both fill the same cells with the same engine, one process, one thread. Prints the seconds of each, the ratio, and how
many of the greedy generations are the same, token by token; sampled ones are filled and timed as well.
"""

from __future__ import annotations

import argparse
import time

from s1kit.analysis.settings import DIRECT, grid
from s1kit.engines import load_engine
from s1kit.evaluate.decode import Cell, Decoding, fill
from s1kit.recipe import load_recipe
from s1kit.records import Generation
from s1kit.tiny.questions import held_out_questions


def same(a: Generation, b: Generation) -> bool:
    """Whether two generations hold the same tokens of the same kinds and end alike.

    In one thing they differ: where the parent's stop became a Wait, the delimiter in its place was forced, while in a
    generation of its own the model wrote the delimiter's first token. The tokens are the same, their origin is not.
    """

    def told(g: Generation) -> list[tuple[str, int]]:
        return [(s.kind, id) for s in g.segments for id in s.token_ids]

    return a.ending == b.ending and told(a) == told(b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--model", default="tiny")
    given = parser.parse_args()
    config = load_recipe("tiny").evaluate
    # The baseline is another model, whose one setting has nothing to share.
    settings = [(s, num) for s, num in grid(config) if s.method != DIRECT]
    questions = held_out_questions(given.questions, 0)
    cells: list[Cell] = [(q, s, repeat) for q in questions for s, num in settings for repeat in range(num)]
    how = Decoding(seed=0, answer_tokens=config.answer_tokens)
    engine = load_engine(given.model, max_batch=config.batch_size)
    fill(engine, cells[:2], how, lambda _: None)  # warm

    print(f"{len(questions)} questions x {len(settings)} settings = {len(cells):,} cells of {given.model}", flush=True)
    started = time.monotonic()
    together = fill(engine, cells, how, lambda _: None)
    shared = time.monotonic() - started
    print(f"one thinking pass, shared and batched   {shared:7.1f} s", flush=True)

    started = time.monotonic()
    alone = [fill(engine, [cell], how, lambda _: None)[0] for cell in cells]
    seconds = time.monotonic() - started
    print(f"one call a question and setting         {seconds:7.1f} s   {seconds / shared:5.1f}x", flush=True)
    for name, wanted in (("greedy", 0.0), ("sampled", config.vote_temperature)):
        some = [i for i, (_, setting, _) in enumerate(cells) if setting.temperature == wanted]
        equal = sum(same(together[i], alone[i]) for i in some)
        print(f"the same generations: {equal} of {len(some)} {name}", flush=True)

    started = time.monotonic()
    for setting, num in settings:
        fill(engine, [(q, setting, r) for q in questions for r in range(num)], how, lambda _: None)
    seconds = time.monotonic() - started
    print(f"one call a setting, batched             {seconds:7.1f} s   {seconds / shared:5.1f}x")


if __name__ == "__main__":
    main()

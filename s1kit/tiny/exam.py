"""What a base model can do, skill by skill: the share of greedy replies that are exactly right.

Knowing which skill is missing (lookup, a step, several in a row) says what to change; a loss does not.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer

from s1kit.tiny.corpus import SKILLS, Skill, chat_prompt, draw_base_question, draw_turn
from s1kit.tiny.families import FAMILIES, MAX_ITEMS
from s1kit.tiny.questions import MIN_ITEMS
from s1kit.tiny.tokenizer import END


def examine(
    model: Any,
    tokenizer: Tokenizer,
    num: int = 50,
    seed: int = 1,
    skills: tuple[Skill, ...] = SKILLS,
) -> dict[str, dict[str, float]]:
    """Share of exact greedy replies by skill and family, on questions of 4 to 16 items drawn afresh."""
    random = Random(f"exam:{seed}")
    model.eval()
    table: dict[str, dict[str, float]] = {skill: {} for skill in skills}
    for skill in skills:
        for family in FAMILIES:
            prompts: list[str] = []
            replies: list[str] = []
            while len(prompts) < num:
                puzzle, text = draw_base_question(random, random.randint(MIN_ITEMS, MAX_ITEMS))
                if puzzle.family != family:
                    continue
                before = [draw_turn(random, puzzle, "walk")] if skill in ("resume", "now") else []
                if before and before[0].number > len(puzzle.items):
                    continue
                turns = [*before, draw_turn(random, puzzle, skill, before[0] if before else None)]
                asks = [turn.ask for turn in turns]
                asks[0] = "\n".join(filter(None, [text, asks[0]]))
                prompts.append(chat_prompt(asks, [turn.reply for turn in before]))
                replies.append(turns[-1].reply)
            table[skill][family] = share_exact(model, tokenizer, prompts, replies)
    return table


@torch.inference_mode()
def share_exact(
    model: Any, tokenizer: Tokenizer, prompts: list[str], replies: list[str], max_new_tokens: int = 180
) -> float:
    """Share of prompts whose greedy continuation, up to the end of the turn, is exactly the reply."""
    end = tokenizer.token_to_id(END)
    rows = [tokenizer.encode(prompt).ids for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=0,
    )
    texts = [tokenizer.decode(row, skip_special_tokens=False) for row in out[:, width:].tolist()]
    return sum(text.split(END)[0] == reply for text, reply in zip(texts, replies, strict=True)) / len(prompts)

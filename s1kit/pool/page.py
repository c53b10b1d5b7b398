"""The page of `collect`: where questions came from, what was dropped and why, with the evidence of each drop."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from s1kit.html import environment, write_page
from s1kit.pool.semantic import Pair
from s1kit.records import Dropped, question_id
from s1kit.stage import Stage

PAGE = "collect.html"
EXAMPLES = 25
"""Examples shown of each reason; all of them are in the stage's `dropped` shards."""

PAIRS = 100
"""Pairs of tier `semantic` shown."""

_QUOTED = re.compile(r"'([^']+)'$|\"([^\"]+)\"$")


def write_collect_page(stage: Stage, pairs: Sequence[Pair] = ()) -> None:
    """Write `collect.html` from the finished stage's counts, `dropped` rows and pairs of tier `semantic`."""
    drops = list(stage.rows("dropped", Dropped))
    write_page(stage.folder / PAGE, collect_page(stage, drops, pairs))


def collect_page(stage: Stage, drops: Sequence[Dropped], pairs: Sequence[Pair] = ()) -> str:
    """The page as HTML."""
    counts, config = stage.counts, stage.config
    by_reason: defaultdict[str, list[Dropped]] = defaultdict(list)
    for drop in drops:
        by_reason[drop.reason].append(drop)
    reasons = Counter({reason: len(rows) for reason, rows in by_reason.items()}).most_common()
    kept = stage.figures.get("kept_by_source", {})
    dropped = Counter(json.loads(d.row)["source"] for d in drops)
    # What a reader should look at: pairs near in meaning that nobody judged, or that the judge was unsure of.
    still_open = sorted((p for p in pairs if p.is_open), key=lambda p: -p.near.similarity)
    return (
        environment("s1kit.pool")
        .get_template("collect.jinja")
        .render(
            lead=f"Seed {stage.seed}; duplicates: {config['duplicates']}; decontamination: {config['decontaminate']} "
            f"against {', '.join(config['against']) or 'nothing'}.",
            funnel={"read": counts["in"], **{f"- {reason}": n for reason, n in reasons}, "kept": counts["out"]},
            sources=[
                (name, kept.get(name, 0) + dropped[name], dropped[name], kept.get(name, 0))
                for name in sorted(kept.keys() | dropped.keys())
            ],
            against_paper=[
                (name, *(row[column] for column in ("paper", "read", "dropped", "kept")))
                for name, row in stage.figures.get("against_paper", {}).items()
            ],
            missing=list(stage.figures.get("missing_sources", {}).items()),
            pairs=[_pair(p) for p in still_open[:PAIRS]],
            num_pairs=len(pairs),
            num_open=len(still_open),
            verdicts=Counter(p.verdict or "not judged" for p in pairs),
            reasons=[(reason, n, [_example(d) for d in by_reason[reason][:EXAMPLES]]) for reason, n in reasons],
            examples=EXAMPLES,
        )
    )


def _pair(p: Pair) -> tuple[str, str]:
    return (
        f"{p.near.similarity:.3f} {p.near.set_name} {question_id(p.near.question)} {p.reason}",
        f"{p.text}\n\n--- {p.near.set_name}:\n\n{p.near.question}",
    )


def _example(drop: Dropped) -> tuple[str, str, str]:
    row = json.loads(drop.row)
    quoted = _QUOTED.search(drop.evidence)
    mark = next((group for group in quoted.groups() if group), "") if quoted else ""
    return f"{row['source']} {drop.id}: {drop.evidence}", row["text"], mark

"""The page of `curate`: the funnel, each reason with examples, lengths, domains and sources before and after."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from s1kit.html import environment, histogram, write_page
from s1kit.records import Dropped, Sample, Trace
from s1kit.stage import Stage

PAGE = "curate.html"
EXAMPLES = 12
"""Examples shown of each reason."""


def write_curate_page(
    stage: Stage, candidates: Sequence[Trace], samples: Sequence[Sample], drops: Sequence[Dropped]
) -> None:
    """Write `curate.html`. `candidates` are the traces that passed the filters, with their domains."""
    write_page(stage.folder / PAGE, curate_page(stage, candidates, samples, drops))


def curate_page(stage: Stage, candidates: Sequence[Trace], samples: Sequence[Sample], drops: Sequence[Dropped]) -> str:
    """The page as HTML."""
    counts, config = stage.counts, stage.config
    chosen = [sample.trace for sample in samples]
    by_reason: defaultdict[str, list[Dropped]] = defaultdict(list)
    for drop in drops:
        by_reason[drop.reason].append(drop)
    reasons = sorted(by_reason.items(), key=lambda found: -len(found[1]))
    quality, students = (", ".join(config[key]) or "none" for key in ("quality", "students"))
    return (
        environment("s1kit.curate")
        .get_template("curate.jinja")
        .render(
            lead=f"Selection {config['selection']}, seed {stage.seed}; quality: {quality}; students: {students}.",
            funnel={
                "traces": counts["in"],
                "after quality": counts["after_quality"],
                "after difficulty": counts["after_difficulty"],
                "selected": counts["out"],
            },
            why=dict(Counter(d.reason for d in drops).most_common()),
            candidate_tokens=histogram([t.thinking_tokens for t in candidates]),
            sample_tokens=histogram([t.thinking_tokens for t in chosen]),
            before_after=[
                (
                    "Domains",
                    "domain",
                    _shares((t.question.domain for t in candidates), (t.question.domain for t in chosen)),
                ),
                (
                    "Sources",
                    "source",
                    _shares((t.question.source for t in candidates), (t.question.source for t in chosen)),
                ),
            ],
            picked_by=stage.figures.get("picked_by", {}),
            overlap=stage.figures.get("overlap"),
            confusion=stage.figures.get("domain_confusion"),
            reasons=[(reason, len(found), [_example(d) for d in found[:EXAMPLES]]) for reason, found in reasons],
            examples=EXAMPLES,
        )
    )


def _shares(before: Iterable[str], after: Iterable[str]) -> list[tuple[str, int, float, int, float]]:
    """Each name with its count and percentage among the candidates and among the samples."""
    old, new = Counter(before), Counter(after)
    totals = max(1, old.total()), max(1, new.total())
    return [(name, n, 100 * n / totals[0], new[name], 100 * new[name] / totals[1]) for name, n in old.most_common()]


def _example(drop: Dropped) -> tuple[str, str]:
    row = json.loads(drop.row)
    question = row.get("question", row)
    thinking = f"\n\nThinking: {row['thinking']}\n\nAnswer: {row['answer']}" if "thinking" in row else ""
    return f"{question['source']} {drop.id}: {drop.evidence}", (question["text"] + thinking)[:6000]

"""The page of `curate`: the funnel, each reason with examples, lengths, domains and sources before and after."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from html import escape

from s1kit.html import bars, details, histogram, page, reason_section, section, table, write_page
from s1kit.records import Dropped, Sample, Trace
from s1kit.stage import Stage

PAGE = "curate.html"
EXAMPLES = 12


def write_curate_page(
    stage: Stage, candidates: Sequence[Trace], samples: Sequence[Sample], drops: Sequence[Dropped]
) -> None:
    """Write `curate.html`. `candidates` are the traces that passed the filters, with their domains."""
    write_page(stage.folder / PAGE, curate_page(stage, candidates, samples, drops))


def curate_page(stage: Stage, candidates: Sequence[Trace], samples: Sequence[Sample], drops: Sequence[Dropped]) -> str:
    counts = stage.counts
    chosen = [sample.trace for sample in samples]
    funnel = {
        "traces": counts["in"],
        "after quality": counts["after_quality"],
        "after difficulty": counts["after_difficulty"],
        "selected": counts["out"],
    }
    sections = [
        section("Funnel", bars(funnel)),
        section("Reasons", bars(dict(Counter(d.reason for d in drops).most_common()))),
        section("Thinking tokens of the candidates", bars(histogram([t.thinking_tokens for t in candidates]))),
        section("Thinking tokens of the samples", bars(histogram([t.thinking_tokens for t in chosen]))),
        section(
            "Domains",
            _before_after(
                "domain", _count([t.question.domain for t in candidates]), _count([t.question.domain for t in chosen])
            ),
        ),
        section(
            "Sources",
            _before_after(
                "source", _count([t.question.source for t in candidates]), _count([t.question.source for t in chosen])
            ),
        ),
        section("Picked by", bars(stage.figures.get("picked_by", {}))),
    ]
    if overlap := stage.figures.get("overlap"):
        sections.append(section("Questions that two selections share", overlap_table(overlap)))
    if confusion := stage.figures.get("domain_confusion"):
        sections.append(
            section("Domains by keywords and by the model", table(["keywords", "model", "questions"], confusion))
        )
    by_reason: defaultdict[str, list[Dropped]] = defaultdict(list)
    for drop in drops:
        by_reason[drop.reason].append(drop)
    sections += [
        reason_section(reason, rows, _example, EXAMPLES)
        for reason, rows in sorted(by_reason.items(), key=lambda r: -len(r[1]))
    ]
    config = stage.config
    quality, students = (", ".join(config[key]) or "none" for key in ("quality", "students"))
    lead = f"Selection {config['selection']}, seed {stage.seed}; quality: {quality}; students: {students}."
    return page("From traces to samples", sections, lead)


def overlap_table(overlap: Mapping[str, Mapping[str, int]]) -> str:
    """How many questions each pair of selections has in common, the darker the larger a share of the row's own.

    The diagonal is a selection's size.
    """
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in overlap)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_shaded(shared[other], shared[name]) for other in overlap)}</tr>"
        for name, shared in overlap.items()
    )
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _shaded(num: int, of: int) -> str:
    percent = 100 * num / max(1, of)
    shade = f"background: color-mix(in srgb, var(--bar) {0.8 * percent:.0f}%, transparent)"
    return f'<td class="n" style="{shade}">{num:,}<br><span class="soft">{percent:.0f} %</span></td>'


def _count(names: Sequence[str]) -> Counter[str]:
    return Counter(names)


def _before_after(what: str, before: Counter[str], after: Counter[str]) -> str:
    totals = max(1, before.total()), max(1, after.total())
    rows = [
        (name, num, 100 * num / totals[0], after[name], 100 * after[name] / totals[1])
        for name, num in before.most_common()
    ]
    return table([what, "candidates", "%", "samples", "% of samples"], rows)


def _example(drop: Dropped) -> str:
    row = json.loads(drop.row)
    question = row.get("question", row)
    text = question["text"] + (
        f"\n\nThinking: {row['thinking']}\n\nAnswer: {row['answer']}" if "thinking" in row else ""
    )
    return details(f"{question['source']} {drop.id}: {drop.evidence}", text[:6000])

"""The page of `collect`: where questions came from, what was dropped and why, with the evidence of each drop."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from s1kit.html import bars, details, page, paragraph, reason_section, section, table, write_page
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
    counts, config = stage.counts, stage.config
    by_reason: defaultdict[str, list[Dropped]] = defaultdict(list)
    for drop in drops:
        by_reason[drop.reason].append(drop)
    reasons = Counter({reason: len(rows) for reason, rows in by_reason.items()})
    kept = stage.figures.get("kept_by_source", {})
    dropped_by_source = Counter(json.loads(d.row)["source"] for d in drops)
    sources = [
        (name, kept.get(name, 0) + dropped_by_source[name], dropped_by_source[name], kept.get(name, 0))
        for name in sorted(kept.keys() | dropped_by_source.keys())
    ]
    sections = [
        section(
            "Funnel",
            bars({"read": counts["in"], **{f"- {r}": n for r, n in reasons.most_common()}, "kept": counts["out"]}),
        ),
        section("Sources", table(["source", "read", "dropped", "kept"], sources)),
    ]
    if compared := stage.figures.get("against_paper"):
        columns = ("paper", "read", "dropped", "kept")
        rows = [(name, *(row[column] for column in columns)) for name, row in compared.items()]
        sections.append(section("Beside the paper's pool", table(["source", *columns], rows)))
    if missing := stage.figures.get("missing_sources"):
        sections.append(section("Sources that could not be read", table(["source", "why"], missing.items())))
    if pairs:
        sections.append(_pairs_section(pairs))
    sections += [reason_section(reason, by_reason[reason], _example, EXAMPLES) for reason, _ in reasons.most_common()]
    lead = (
        f"Seed {stage.seed}; duplicates: {config['duplicates']}; decontamination: {config['decontaminate']} against "
        f"{', '.join(config['against']) or 'nothing'}."
    )
    return page("What was collected, and what was not", sections, lead)


def _pairs_section(pairs: Sequence[Pair]) -> str:
    """What a reader should look at: pairs near in meaning that nobody judged, or that the judge was unsure of."""
    left = sorted((p for p in pairs if p.is_open), key=lambda p: -p.near.similarity)
    verdicts = Counter(p.verdict or "not judged" for p in pairs)
    shown = [
        details(
            f"{p.near.similarity:.3f} {p.near.set_name} {question_id(p.near.question)} {p.reason}",
            f"{p.text}\n\n--- {p.near.set_name}:\n\n{p.near.question}",
        )
        for p in left[:PAIRS]
    ]
    more = paragraph(f"{len(shown)} of {len(left):,} are shown, the nearest first; all are in candidates.jsonl.")
    return section(f"Near an evaluation question in meaning ({len(pairs):,} pairs)", bars(dict(verdicts)), more, *shown)


def _example(drop: Dropped) -> str:
    row = json.loads(drop.row)
    quoted = _QUOTED.search(drop.evidence)
    mark = next((group for group in quoted.groups() if group), "") if quoted else ""
    return details(f"{row['source']} {drop.id}: {drop.evidence}", row["text"], mark)

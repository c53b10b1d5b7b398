"""Rows of an evaluation read from its shards into arrays; texts stay on disk until one is shown.

Eighty thousand generations fit in memory because only counts, verdicts and final answers are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1kit.adaptive.answering import probe_tokens
from s1kit.analysis.results import NO_VERDICT, RECORDED, Draws, Results, spent_in_all
from s1kit.analysis.settings import AUTO, REJECTION
from s1kit.records import Generation, Question, Setting, from_arrow

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from s1kit.analysis.statistics import Matrix

ROW_COLUMNS = [
    "question_id",
    "setting",
    "repeat",
    "ending",
    "answer_finish",
    "verdict",
    "final_answer",
    "note",
    "evidence",
    "cost_usd",
    "mean_logprob",
]
SEGMENT_COLUMNS = ["segments.list.element.kind", "segments.list.element.origin", "segments.list.element.num_tokens"]

THINKING = ("thinking", "wait")
ANSWER = ("closing_phrase", "answer")


@dataclass
class StoredResults(Results):
    """Results whose texts lie in Parquet shards."""

    shards: list[Path] = field(default_factory=list, kw_only=True)

    def texts(self, question_ids: Iterable[str], settings: Iterable[Setting]) -> Iterator[Generation]:
        """The whole generations of a few questions and settings, read from disk."""
        import pyarrow.parquet as pq

        wanted, kept = list(set(question_ids)), set(settings)
        for shard in self.shards if wanted else ():
            table = pq.read_table(shard, filters=[("question_id", "in", wanted)])
            for row in table.to_pylist():
                if Setting.model_validate(row["setting"]) in kept:
                    yield from_arrow(Generation, row)


def read_results(questions: Sequence[Question], shards: Sequence[Path], *, states_budget: bool = True) -> StoredResults:
    """The rows of all shards. A question without a row in some setting is left out of that setting."""
    import numpy as np
    import pyarrow.parquet as pq

    place = {question.id: i for i, question in enumerate(questions)}
    parts: dict[Setting, list[_Part]] = {}
    for shard in shards:
        # Not `read_table`: only a ParquetFile reads some fields of a struct and leaves the texts on disk.
        with pq.ParquetFile(shard) as file:
            table = file.read(columns=ROW_COLUMNS + SEGMENT_COLUMNS)
        for setting, rows, columns in _by_setting(table):
            known = [i for i, q in zip(rows, columns["question_id"][rows], strict=True) if q in place]
            parts.setdefault(setting, []).append({n: c[np.array(known, dtype=int)] for n, c in columns.items()})
    draws = {setting: _matrices(setting, _joined(found), place) for setting, found in parts.items()}
    return StoredResults(list(questions), draws, states_budget, shards=list(shards))


_Part = dict[str, Any]


def _by_setting(table: pa.Table) -> Iterator[tuple[Setting, NDArray[np.int64], _Part]]:
    import numpy as np

    there = [name for name in ROW_COLUMNS if name != "setting" and name in table.column_names]
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in there}
    # Rows may be older than these columns.
    columns.setdefault("cost_usd", np.zeros(table.num_rows))
    columns.setdefault("mean_logprob", np.full(table.num_rows, np.nan))
    columns |= _token_columns(table)
    codes: dict[tuple[Any, ...], int] = {}
    settings: list[Setting] = []
    code = np.empty(table.num_rows, dtype=int)
    for i, row in enumerate(table["setting"].to_pylist()):
        values = tuple(row.values())
        if values not in codes:
            codes[values] = len(settings)
            settings.append(Setting.model_validate(row))
        code[i] = codes[values]
    for number, setting in enumerate(settings):
        yield setting, np.flatnonzero(code == number), columns


def _token_columns(table: pa.Table) -> _Part:
    """Token counts a row, summed over its segments."""
    import numpy as np

    segments = table["segments"].combine_chunks()
    parent = np.asarray(segments.value_parent_indices())
    flat = segments.flatten()
    kind = np.array(flat.field("kind").to_pylist(), dtype=object)
    forced = np.array(flat.field("origin").to_pylist(), dtype=object) == "forced"
    num = np.asarray(flat.field("num_tokens"), dtype=float)

    def total(mask: Any, weights: Any = None) -> Any:
        counted = mask if weights is None else weights * mask
        return np.bincount(parent, weights=np.asarray(counted, dtype=float), minlength=table.num_rows)

    return {
        "thinking_tokens": total(np.isin(kind, THINKING), num),
        "answer_tokens": total(np.isin(kind, ANSWER), num),
        "forced_tokens": total(forced, num),
        "waits": total(kind == "wait"),
        "answered": (total((kind == "answer") & (num > 0)) > 0) | _is_unseen(table, total(kind == "answer")),
    }


def _is_unseen(table: pa.Table, num_answers: Any) -> Any:
    """Rows of logs that hold a verdict at most: nothing says whether there was an answer."""
    import numpy as np

    return np.isin(table["evidence"].to_pylist(), [RECORDED, NO_VERDICT]) & (num_answers == 0)


def _joined(parts: list[_Part]) -> _Part:
    import numpy as np

    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _matrices(setting: Setting, rows: _Part, place: dict[str, int]) -> Draws:
    """Rows sorted by question and repeat; that of a question with fewer repeats than others ends in nan or None."""
    import numpy as np

    question = np.array([place[q] for q in rows["question_id"]], dtype=int)
    repeat = rows["repeat"].astype(int)
    # The last row of a cell wins, as a redone shard replaces an older one.
    cell = {(int(q), int(r)): i for i, (q, r) in enumerate(zip(question, repeat, strict=True))}
    order: dict[int, list[int]] = {}
    for q, r in sorted(cell):
        order.setdefault(q, []).append(cell[q, r])
    most = max(map(len, order.values()))
    index = np.array([found + [-1] * (most - len(found)) for found in order.values()], dtype=int)

    def numbers(values: Any) -> Matrix:
        return np.where(index < 0, np.nan, np.asarray(values, dtype=float)[index])

    def objects(values: Any) -> NDArray[np.object_]:
        return np.asarray(np.where(index < 0, None, values[index]), dtype=object)

    return Draws(
        setting=setting,
        question_ids=[str(rows["question_id"][i[0]]) for i in index],
        correct=numbers(rows["verdict"] == "correct"),
        abstained=numbers(rows["verdict"] == "abstain"),
        thinking_tokens=numbers(rows["thinking_tokens"]),
        answer_tokens=numbers(rows["answer_tokens"]),
        forced_tokens=numbers(rows["forced_tokens"]),
        waits=numbers(rows["waits"]),
        ending=objects(rows["ending"]),
        answered=numbers(rows["answered"]),
        truncated=numbers(np.isin(rows["answer_finish"], ["length", "loop"])),
        final_answer=objects(rows["final_answer"]),
        paid_tokens=numbers(_paid(setting, rows)),
        cost_usd=numbers(rows["cost_usd"]),
        note=objects(rows["note"]),
        mean_logprob=numbers(rows["mean_logprob"]),
    )


def _paid(setting: Setting, rows: _Part) -> Matrix:
    import numpy as np

    if setting.method == AUTO:
        spent = [n + probe_tokens(note) for note, n in zip(rows["note"], rows["thinking_tokens"], strict=True)]
        return np.array(spent, dtype=float)
    if setting.method != REJECTION:
        return np.asarray(rows["thinking_tokens"], dtype=float)
    return np.array([spent_in_all(note, n) for note, n in zip(rows["note"], rows["thinking_tokens"], strict=True)])

"""The rows that touch disk or the wire, one frozen record a kind.

Nothing here knows where a row comes from or goes to; `stage` writes them as Parquet, `s1kit show` prints them.
"""

from __future__ import annotations

from s1kit.records.generations import Generation, Segment, Setting
from s1kit.records.record import (
    AnswerFinish,
    Ending,
    Origin,
    Record,
    SegmentKind,
    Terms,
    Verdict,
    arrow_schema,
    from_arrow,
    to_arrow,
)
from s1kit.records.traces import Agreement, Dropped, FinishReason, Question, Sample, Trace, Usage, question_id

__all__ = [
    "Agreement",
    "AnswerFinish",
    "Dropped",
    "Ending",
    "FinishReason",
    "Generation",
    "Origin",
    "Question",
    "Record",
    "Sample",
    "Segment",
    "SegmentKind",
    "Setting",
    "Terms",
    "Trace",
    "Usage",
    "Verdict",
    "arrow_schema",
    "from_arrow",
    "question_id",
    "to_arrow",
]

"""Structured logs: one JSON object a line on standard error. Never a prompt, a reply, a key or a user's name."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

LOGGER = logging.getLogger("s1kit.serve")

LogFormat = Literal["json", "text", "none"]


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={_safe(v)}" for k, v in getattr(record, "fields", {}).items() if v is not None)
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{time} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _safe(value: object) -> str:
    """One word of one line: field names are a client's text, which may hold line breaks and terminal escapes."""
    text = str(value)[:500]
    return text if text.isprintable() else json.dumps(text)


def set_up(form: LogFormat) -> None:
    """Send the server's log to standard error in this form; `none` keeps warnings only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    # What loading a model, uvicorn and asyncio say are lines of this log too.
    for name in ("s1kit", "uvicorn", "asyncio"):
        logging.getLogger(name).handlers[:] = [handler]
    LOGGER.setLevel(logging.WARNING if form == "none" else logging.INFO)


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """One line. Fields that are None are left out."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={"fields": {k: v for k, v in fields.items() if v is not None}})


def hashed(user: str | None) -> str | None:
    """A stable stand-in for a user's name."""
    return hashlib.sha256(user.encode()).hexdigest()[:12] if user else None

"""The tokenizer of a server in front of another one; see `s1kit.tokenizer`."""

from __future__ import annotations

from s1kit.tokenizer import FileTokenizer, find_folder

__all__ = ["FileTokenizer", "find_folder"]

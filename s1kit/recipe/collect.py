"""Settings of the stage `collect`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from s1kit.errors import InputError
from s1kit.recipe.config import Config


class Source(Config):
    """Where questions come from: exactly one of `builtin`, `path` and `hub`."""

    builtin: str = ""
    """`tiny`: the question families that ship with s1kit; `s1`: the paper's sixteen sources on the Hub; `math`: the
    mathematical ones of the README's figures, on the Hub too."""
    only: list[str] = Field(default_factory=list)
    """The data sets of a built-in pool to take, by name; empty: all."""
    path: str = ""
    """A .jsonl, .jsonl.gz, .csv or .parquet file; several with a glob such as `pool/*.jsonl.gz`."""
    hub: str = ""
    """A data set on the Hugging Face Hub."""
    files: list[str] = Field(default_factory=list)
    """Files of the Hub data set, as globs, e.g. `["data/train-*.parquet"]`. Without them the package `datasets` finds
    those of `subset` and `split`; it reads no data set that is a script."""
    subset: str = ""
    """Subset (configuration) of the Hub data set, where there are several."""
    split: str = "train"
    """Split of the Hub data set."""
    revision: str = ""
    """Commit, tag or branch of the Hub data set; pin it to draw the same pool again."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our field to the source's column, e.g. `{ text = "problem" }`; the rest is guessed from the usual names."""
    template: str = ""
    """Puts the question's text together from columns, e.g. `{passage}\\n\\n{question}`; a list has a line each."""
    conversation: bool = False
    """Take a row's whole conversation, with its system message, turns, tools and their results, as the question, and
    the model's last message as the reference; otherwise the first exchange is the question."""
    keep: dict[str, str | int] = Field(default_factory=dict)
    """Column to the value that its rows must have; also `<=2021`, `not empty` and `test/*`. An empty string matches
    none."""
    shuffle_options: bool = False
    """Put the template's options `(A) ... (D)`, of which the first is right, in an order drawn from their text."""
    name: str = ""
    """The `source` of its rows where they do not say it themselves."""
    licence: str = ""
    """Licence of its rows where they do not say it themselves."""
    num: int | None = Field(default=None, ge=1)
    """At most so many rows, from the start; of a built-in pool so many of each data set."""
    sample: bool = False
    """Draw the `num` rows from all of them, with the recipe's seed, instead of taking the first: files are often
    sorted."""
    optional: bool = False
    """Go on without it, and say so, when it cannot be read."""

    @field_validator("template")
    @classmethod
    def _names_a_column(cls, template: str) -> str:
        if template and not re.search(r"\{[^{}]+\}", template):
            raise InputError(
                f"the template {template!r:.60} names no column, so each row would be the same question",
                where="collect.sources.template",
                fix="Put a column's name in braces where its text goes, for example {question}.",
            )
        return template


class Semantic(Config):
    """What tier `semantic` adds to `strict`: questions that mean an evaluation question, whatever their words."""

    model: str
    """Folder of a sentence-embedding model (config.json, tokenizer.json, .safetensors), e.g. all-MiniLM-L6-v2."""
    similarity: float = Field(default=0.85, gt=0, le=1)
    """Cosine from which on a question is a candidate. What is right depends on the model: the page shows the pairs."""
    judge: str = ""
    """A chat model that says which candidates are the evaluation question again."""
    unjudged_similarity: float = Field(default=0.9, gt=0, le=1)
    """Cosine from which on a candidate is dropped where `judge` is empty; the others are listed and stay."""


class Collect(Config):
    """questions <- sources, less duplicates and what overlaps with evaluation sets."""

    sources: list[Source] = Field(default_factory=list)
    """Where questions come from, in order; see `collect.sources[]`."""
    hub_folder: str = ""
    """A folder with copies of Hub data sets, each in `<owner>/<name>/` as `hf download --local-dir` writes it. What
    is there is read from there, and the Hub is asked for the rest."""
    duplicates: Literal["none", "exact", "near"] = "near"
    """`exact`: equal texts after normalising are dropped; `near`: near duplicates too."""
    near_threshold: float = Field(default=0.9, gt=0, le=1)
    """Jaccard similarity of word shingles from which on two questions are near duplicates."""
    decontaminate: Literal["none", "s1", "strict", "template", "semantic"] = "s1"
    """`s1`: any shared lower-cased word 8-gram drops the question, as in the s1 release (data/collect_data.py).
    `strict`: half of an evaluation question's n-grams do. `template`: also the same sentences with other numbers,
    letters or names. `semantic`: also what a sentence model finds near and a judge calls the same."""
    against: list[str] = Field(default_factory=list)
    """Evaluation sets: built-in names, or files like those of a source."""
    coverage: float = Field(default=0.5, gt=0, le=1)
    """Share of an evaluation question's informative n-grams from which on `strict`, and the tiers that add to it, drop
    a question."""
    semantic: Semantic | None = None
    """Settings of tier `semantic`, which needs them."""
    executor: Literal["local", "ray"] = "local"
    """Where batches of the pool are looked at; the rows that come out are the same."""
    address: str = ""
    """Address of the Ray cluster, as in `evaluate.address`."""
    processes: int = Field(default=1, ge=1)
    """Worker processes of the executor; 1 on Ray: one a processor."""
    allow_rejects: bool = False
    """Go on with the good rows of a broken file; the others are written to rejects.jsonl with their line numbers."""

"""Evaluation sets as hashes of their n-grams: enough to find overlaps, not enough to read a question.

The shipped ones are in `hashes/<name>.parquet`, written by `write_hashes` from the texts; any file of questions makes
another one. Two are read from the Hub when asked for: GPQA, whose authors ask that its questions be not published (an
account that accepted its terms is needed), and LiveCodeBench, which grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from s1kit.errors import InputError, nearest
from s1kit.files import write_atomically
from s1kit.pool.ngrams import Tier, hash_ngrams
from s1kit.pool.sources import read_source
from s1kit.pool.templates import num_plain, template_words
from s1kit.questions import find_files, read_questions
from s1kit.recipe import Source
from s1kit.records import question_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUM_HELD_OUT = 1000
"""Held-out questions of the built-in families to stay clear of: those of a smaller evaluation are the first of them."""

MIN_PLAIN_WORDS = 4
"""An evaluation question with fewer plain words has no hashes in tier `template`: "Compute # + #" says nothing."""

_BATCH = 128


class HubSet(NamedTuple):
    """The place of an evaluation set's questions on the Hugging Face Hub."""

    hub: str
    revision: str
    files: list[str]
    column: str


ON_THE_HUB = {
    "gpqa-diamond": HubSet(
        "Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd", ["gpqa_diamond.csv"], "Question"
    ),
    "livecodebench": HubSet(
        "livecodebench/code_generation_lite",
        "5c923977ac2edd278a385f2d78179ead9450fb63",
        ["test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl"],
        "question_content",
    ),
}
"""Sets that the s1 release compared with (data/collect_data.py) and that are not shipped."""


def shipped_sets() -> list[str]:
    """Names of the sets in `hashes/`."""
    folder = resources.files("s1kit.pool") / "hashes"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".parquet") for name in names if name.endswith(".parquet"))


def builtin_sets() -> list[str]:
    """Every name that `collect.against` knows."""
    return sorted([*shipped_sets(), *ON_THE_HUB, "tiny"])


@dataclass(frozen=True)
class HashedSet:
    """One evaluation set in one tier."""

    name: str
    ids: tuple[str, ...]
    """`question_id` of each question."""
    hashes: NDArray[np.uint64]
    """Distinct within a question; in tier `template` every one, in order."""
    owners: NDArray[np.int64]
    """Position in `ids` of each hash's question; ascending."""


def load_set(name: str, tier: Tier, seed: int = 0) -> HashedSet:
    """An evaluation set by built-in name, or from a file of questions or of hashes.

    Raises InputError for a name that is neither.
    """
    if name in shipped_sets():
        with resources.as_file(resources.files("s1kit.pool") / "hashes" / f"{name}.parquet") as path:
            return read_hashes(path, name, tier)
    if hashes := _file_of_hashes(name):
        return read_hashes(hashes, hashes.stem, tier)
    label, texts = read_set(name, seed)
    return hash_texts(label, texts, tier)


def read_set(name: str, seed: int = 0) -> tuple[str, list[str]]:
    """What an evaluation set is called, and its questions, where they are at hand.

    Raises InputError for a set of which only hashes are there, and for a name that is none.
    """
    if name == "tiny":
        from s1kit.tiny.questions import held_out_questions

        return name, [q.text for q in held_out_questions(NUM_HELD_OUT, seed)]
    if name in ON_THE_HUB:
        there = ON_THE_HUB[name]
        columns = {"text": there.column}
        source = Source(hub=there.hub, revision=there.revision, files=there.files, columns=columns, name=name)
        return name, [q.text for q in read_source(source, seed)]
    if name in shipped_sets() or _file_of_hashes(name):
        raise InputError(
            f"of the evaluation set {name!r} only hashes are there, and this tier reads its questions",
            where="collect.against",
            fix="Give a file of its questions, or use decontaminate = template or strict.",
        )
    return Path(name).name.split(".")[0], [q.text for q in read_questions(name)]


def _find_set(name: str) -> list[Path]:
    try:
        return find_files(name)
    except InputError as error:
        raise InputError(
            f"there is no evaluation set {name!r}",
            where="collect.against",
            fix="Give a file of questions, or a built-in name. " + nearest(name, builtin_sets()),
        ) from error


def _file_of_hashes(name: str) -> Path | None:
    """The file that a name gives, when it holds hashes; InputError when the name is neither built in nor a file."""
    if name in builtin_sets():
        return None
    files = _find_set(name)
    return files[0] if len(files) == 1 and files[0].suffix == ".parquet" and _holds_hashes(files[0]) else None


def hash_texts(name: str, texts: Sequence[str], tier: Tier) -> HashedSet:
    """The hashes of an evaluation set given as texts."""
    import numpy as np

    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for first in range(0, len(texts), _BATCH):
        batch = texts[first : first + _BATCH]
        ngrams = hash_ngrams(batch, tier)
        if tier == "template":
            says = np.array([num_plain(template_words(text)) >= MIN_PLAIN_WORDS for text in batch], bool)
            kept = says[ngrams.texts]
            owners.append(ngrams.texts[kept] + first)
            hashes.append(ngrams.hashes[kept])
        else:
            pairs = np.unique(np.stack([ngrams.texts.astype(np.uint64) + np.uint64(first), ngrams.hashes]), axis=1)
            owners.append(pairs[0].astype(np.int64))
            hashes.append(pairs[1])
    ids = tuple(question_id(text) for text in texts)
    return HashedSet(name, ids, np.concatenate(hashes), np.concatenate(owners))


def write_hashes(path: Path, name: str, texts: Sequence[str]) -> None:
    """A file of hashes of every tier, to ship or to share in place of the questions."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for tier in get_args(Tier):
        hashed = hash_texts(name, texts, tier)
        tables.append(
            pa.table(
                {
                    "tier": pa.array([tier] * len(hashed.hashes)).dictionary_encode(),
                    "question": pa.array([hashed.ids[o] for o in hashed.owners.tolist()], pa.string()),
                    "hash": pa.array(hashed.hashes, pa.uint64()),
                }
            )
        )
    table = pa.concat_tables(tables, promote_options="default").replace_schema_metadata({"name": name})
    write_atomically(path, lambda p: pq.write_table(table.unify_dictionaries(), p, compression="zstd"))


def read_hashes(path: Path, name: str, tier: Tier) -> HashedSet:
    """One tier of a file of hashes. InputError when the file was written without it."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(path, filters=[("tier", "=", tier)])
    if not table.num_rows:
        raise InputError(
            f"the file holds no hashes of tier {tier!r}",
            where=str(path),
            fix="Write it again with s1kit.pool.evaluation_sets.write_hashes, or give a file of the questions.",
        )
    column = table.column("question").to_pylist()
    ids = list(dict.fromkeys(column))
    position = {id: number for number, id in enumerate(ids)}
    owners = np.array([position[id] for id in column], np.int64)
    order = np.argsort(owners, kind="stable")
    hashes = table.column("hash").to_numpy().astype(np.uint64)
    return HashedSet(name, tuple(ids), hashes[order], owners[order])


def _holds_hashes(path: Path) -> bool:
    import pyarrow.parquet as pq

    return {"tier", "question", "hash"} <= set(pq.read_schema(path).names)

"""EvaluationOverlap: n-gram hashes, the tiers, boilerplate, and what the real pool shares with real benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1kit.errors import InputError
from s1kit.pool.collect import collect
from s1kit.pool.decontaminate import EvaluationOverlap, OverlapIndex, TemplateIndex
from s1kit.pool.evaluation_sets import hash_texts, load_set, read_hashes, shipped_sets, write_hashes
from s1kit.pool.ngrams import Tier, hash_ngrams, s1_words
from s1kit.questions import read_questions
from s1kit.questions.wording import strict_words
from s1kit.recipe import Recipe
from s1kit.records import Dropped, question_id
from s1kit.stage import open_run

AIME = "where m and n are relatively prime positive integers. Find m + n."
QUESTION = "Let ABCD be a tetrahedron with AB = CD = 41 whose faces all touch one sphere; its radius is m/n, " + AIME


def find_strict(pool: list[str], held_out: list[str], coverage: float = 0.5) -> set[int]:
    index = OverlapIndex([hash_texts("set", held_out, "strict")], "strict")
    matches = index.match(pool)
    boilerplate = index.boilerplate([matches], len(pool))
    return set(index.decide(dict(enumerate(pool)), matches, boilerplate, coverage))


def find_s1(pool: list[str], held_out: list[str]) -> set[int]:
    return set(OverlapIndex([hash_texts("set", held_out, "s1")], "s1").find(pool))


def plain_s1(pool: list[str], held_out: list[str], size: int = 8) -> set[int]:
    """What the rule says, in so many words."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {tuple(words[n : n + size]) for n in range(len(words) - size + 1)}

    there = set().union(*(grams(text) for text in held_out)) if held_out else set()
    return {n for n, text in enumerate(pool) if grams(text) & there}


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab \n\t  \x1cİΣß", max_size=60)), st.lists(st.text(alphabet="ab ΣßİI", max_size=40)))
def test_mode_s1_finds_exactly_what_the_rule_says(pool: list[str], held_out: list[str]) -> None:
    assert find_s1(pool, held_out) == plain_s1(pool, held_out)


@settings(deadline=None)
@given(st.lists(st.text(alphabet="xyz ", max_size=80), min_size=1), st.integers(1, 9))
def test_hashes_of_a_batch_are_those_of_its_texts_alone(texts: list[str], size: int) -> None:
    for tier in ("s1", "strict"):
        batch = hash_ngrams(texts, tier, size)
        for number, text in enumerate(texts):
            alone = hash_ngrams([text], tier, size)
            assert batch.hashes[batch.texts == number].tolist() == alone.hashes.tolist()
            assert batch.firsts[batch.texts == number].tolist() == alone.firsts.tolist()


def test_hashes_are_the_same_on_every_machine() -> None:
    assert hash_ngrams(["one two three four five six seven eight"], "s1").hashes.tolist() == [7574749475312414052]


def test_a_text_of_seven_words_overlaps_with_nothing_in_mode_s1_and_with_itself_in_strict() -> None:
    seven = "what is the sum of two numbers"
    assert find_s1([seven], [seven]) == set()
    assert find_strict([seven], [seven]) == {0}


def test_boilerplate_is_overlap_in_mode_s1_and_none_in_strict() -> None:
    held_out = [QUESTION]
    pool = [f"A bag holds {n} balls; the chance of red is m/n, {AIME}" for n in range(30)]
    assert find_s1(pool, held_out) == set(range(30))
    assert find_strict(pool, held_out) == set()


def test_strict_finds_a_copy_that_is_spelled_otherwise() -> None:
    original = r"Evaluate $\left(\dfrac{1}{2}\right)^{10} + \sqrt{144} \cdot 12{,}000$ and round it to a whole number."
    copy = r"Evaluate \((\frac12)^{10} + \sqrt {144} \cdot 12000\) and round   it to a whole number"
    assert strict_words(original) != s1_words(original)
    assert find_s1([copy], [original]) == set()
    assert find_strict([copy], [original]) == {0}


def test_strict_lets_a_question_of_the_same_kind_pass() -> None:
    assert find_strict(["What is the sum of the first 20 odd numbers above 100, rounded to the nearest ten?"], [
        "What is the sum of the first 35 even numbers below 900, given as a fraction of the largest of them?"
    ]) == set()  # fmt: skip


def test_an_empty_set_and_an_empty_pool_overlap_with_nothing() -> None:
    for tier in ("s1", "strict"):
        index = OverlapIndex([], tier)
        assert len(index.match(["one two three four five six seven eight nine"]).matched) == 0
    assert find_s1([], [QUESTION]) == set()
    assert find_s1([""], [QUESTION]) == set()


def test_a_file_of_hashes_finds_the_same_and_holds_no_words(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    write_hashes(path, "set", [QUESTION, "short one"])
    assert b"tetrahedron" not in path.read_bytes()
    for tier in ("s1", "strict"):
        shipped, made = load_set(str(path), tier), hash_texts("set", [QUESTION, "short one"], tier)
        assert sorted(shipped.hashes.tolist()) == sorted(made.hashes.tolist())
        assert OverlapIndex([shipped], tier).match([QUESTION]).matched == (0,)
    assert read_hashes(path, "set", "strict").ids == hash_texts("set", [QUESTION, "short one"], "strict").ids


@pytest.fixture(scope="module")
def math_rows(shared_data: Path) -> list[str]:
    return [q.text for n in ("train", "test_minus500") for q in read_questions(str(shared_data / f"pool_math_{n}.*"))]


def overlaps(shared_data: Path, rows: list[str], tier: Tier, name: str = "math500") -> int:
    index = OverlapIndex([load_set(str(shared_data / f"bench_{name}.jsonl.gz"), tier)], tier)
    if tier == "s1":
        return sum(len(index.find(rows[n : n + 1024])) for n in range(0, len(rows), 1024))
    matches = index.match(rows)
    return len(index.decide(dict(enumerate(rows)), matches, index.boilerplate([matches], len(rows))))


def test_978_rows_of_math_share_an_8_gram_with_math500(shared_data: Path, math_rows: list[str]) -> None:
    assert overlaps(shared_data, math_rows, "s1") == 978


def test_of_them_strict_finds_the_copies_and_near_copies_only(shared_data: Path, math_rows: list[str]) -> None:
    assert 60 <= overlaps(shared_data, math_rows, "strict") <= 100


def find_template(pool: list[str], held_out: list[str]) -> dict[int, EvaluationOverlap]:
    return TemplateIndex([hash_texts("set", held_out, "template")]).find(pool)


POLAR = (
    r"Convert the point $(0,3)$ in rectangular coordinates to polar coordinates, where $r > 0$ and $\theta < 2 \pi.$"
)


@pytest.mark.parametrize(
    ("pool", "held_out"),
    [
        (POLAR.replace("(0,3)", "(-2, -7)").replace("r >", "s >"), POLAR),
        ("The square root of x is greater than 3 and less than 4. How many integers x are there?",
         "The square root of t is greater than 2.5 and less than seven. How many integers t are there?"),
        ("Anna buys 3 pens at the shop of Mr. Lee and pays $4 for each. How much does Anna pay?",
         "Bertrand buys twelve pens at the shop of Mrs. Wu and pays $2.50 for each. How much does Bertrand pay?"),
    ],
)  # fmt: skip
def test_the_same_sentence_with_other_numbers_letters_or_names_has_the_same_template(pool: str, held_out: str) -> None:
    assert find_strict([pool], [held_out], 0.9) == set()
    overlap = find_template([pool], [held_out])[0]
    assert overlap.question_id == question_id(held_out)
    assert "of its template" in overlap.evidence


@pytest.mark.parametrize(
    ("pool", "held_out"),
    [
        ("Let x and y be positive reals with x + y = 1. Find the least value of x/y.",
         "Let x be a real with x^2 = 2. How many values can x + 1 take?"),
        ("How many pens does the shop sell in a week if it sells 3 a day?",
         "If the shop sells 3 a day, a week does it in sell pens many how?"),
    ],
)  # fmt: skip
def test_the_same_words_in_another_order_or_to_another_end_are_another_template(pool: str, held_out: str) -> None:
    assert find_template([pool], [held_out]) == {}


def test_a_template_of_few_plain_words_drops_nothing() -> None:
    assert find_template([r"Compute $\dbinom{8}{2}$."], [r"Compute $\dbinom{31}{28}$."]) == {}


def test_tier_template_drops_what_strict_does_and_the_same_template_besides(tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": POLAR}) + "\n" + json.dumps({"question": QUESTION}))
    rows = [POLAR.replace("(0,3)", "(7,9)").replace("2 ", "4 "), f"In a story, once told: {QUESTION}", "What is 2 + 2?"]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps({"question": row}) + "\n" for row in rows))
    config = {"sources": [{"path": str(tmp_path / "pool.jsonl")}], "against": [str(tmp_path / "bench.jsonl")]}
    recipe = Recipe.model_validate(
        {"name": "t", "out": str(tmp_path), "collect": config | {"decontaminate": "template", "coverage": 0.95}}
    )
    run = open_run(recipe.folder, recipe.name, recipe.model_dump())
    collect(recipe, run)
    evidence = {json.loads(d.row)["text"]: d.evidence for d in run.rows("collect", "dropped", Dropped)}
    assert "of its template" in evidence[rows[0]]
    assert "of its n-grams" in evidence[rows[1]]
    assert rows[2] not in evidence


def test_hashes_written_without_templates_are_refused_by_name(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "old.parquet"
    write_hashes(path, "old", [QUESTION])
    pq.write_table(pq.read_table(path, filters=[("tier", "!=", "template")]), path)
    assert load_set(str(path), "strict").ids
    with pytest.raises(InputError, match="no hashes of tier 'template'"):
        load_set(str(path), "template")


def test_shipped_hashes_hold_every_tier() -> None:
    for name in shipped_sets():
        assert len(load_set(name, "template").ids) > 20

"""Questions of more than ten options, as some of BIG-Bench Hard are: letters beyond J are letters of options there."""

from __future__ import annotations

import pytest

from s1kit.grade import load_grader
from s1kit.grade.choice import letter, options
from s1kit.grade.several import chosen_letters

COUNTS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ASKED = "How many objects are left?\nOptions:\n" + "\n".join(f"({chr(65 + n)}) {text}" for n, text in enumerate(COUNTS))
FEW = "Which is even?\n(A) 3\n(B) 4"


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("The answer is (M).", "M"),
        ("\\boxed{\\text{L}}", "L"),
        ("(K) ten", "K"),
        ("**M**", "M"),
        ("So it is twelve.", "M"),
        ("I first thought (B). No: the correct option is L.", "L"),
        ("Options K and M are correct.", "KM"),
        ("The count is right.\n\nL", "L"),
        ("answer: m", "M"),
        ("The answer is (B).", "B"),
    ],
)
def test_letters_of_all_options_are_read(answer: str, chosen: str) -> None:
    assert list(options(ASKED)) == list("ABCDEFGHIJKLM")
    assert chosen_letters(answer, options(ASKED)) == chosen
    kind = "choice"
    assert load_grader()(answer, ", ".join(chosen), kind, ASKED).verdict == "correct"
    assert load_grader()(answer, "A", kind, ASKED).verdict == "wrong"


def test_the_sort_of_a_question_is_known_by_its_options_and_few_options_have_few_letters() -> None:
    assert load_grader()("The answer is (L).", "L", "", ASKED).evidence == "options: L and L"
    assert letter("The answer is X.", options(FEW)) == ""
    assert load_grader()("L = 3, so it is (B).", "B", "choice", FEW).verdict == "correct"

"""The grader on kinds of answers that it misjudged before: bare answers, money, corrections, Unicode and others."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s1kit.cli import main
from s1kit.grade.cascade import Cascade
from s1kit.grade.cases import Case, Judgement
from s1kit.grade.choice import letter
from s1kit.grade.extract import final_answer
from s1kit.grade.rules import judge_by_rules

pytest.importorskip("math_verify")

ROOT = Path(__file__).parents[1]
MORE_KINDS = ROOT / "bench" / "grader" / "more_kinds.jsonl"
KINDS = ROOT / "bench" / "grader" / "kinds.jsonl"
PUBLISHED = ROOT / "bench" / "grader" / "published.jsonl"
SHARED = ROOT.parent / "shared" / "cases" / "grader_pairs.jsonl"


def shares(path: Path) -> tuple[int, dict[str, float]]:
    """How many pairs there are, and which share is falsely correct, falsely wrong and abstained."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    grader = Cascade(processes=2)
    judged = grader.grade([Case(r["answer"], r["solution"], r.get("kind", ""), r.get("question", "")) for r in rows])
    grader.close()
    counts = Counter((row["equal"], one.verdict) for row, one in zip(rows, judged, strict=True))
    num = len(rows)
    abstained = counts[True, "abstain"] + counts[False, "abstain"]
    errors = {
        "falsely correct": counts[False, "correct"],
        "falsely wrong": counts[True, "wrong"],
        "abstained": abstained,
    }
    return num, {name: count / num for name, count in errors.items()}


def test_pairs_of_these_kinds_are_graded_within_the_bounds() -> None:
    num, found = shares(KINDS)
    assert num >= 200
    assert found["falsely correct"] <= 0.01
    assert found["falsely wrong"] <= 0.04
    assert found["abstained"] <= 0.04
    num, found = shares(MORE_KINDS)
    assert num >= 400
    assert found["falsely correct"] <= 0.01
    assert found["falsely wrong"] <= 0.04
    assert found["abstained"] <= 0.04


def test_pairs_from_the_tests_of_other_graders_are_graded_but_those_marked_as_open() -> None:
    rows: list[dict[str, Any]] = [json.loads(line) for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    grader = Cascade(processes=2)
    judged = grader.grade([Case(r["answer"], r["solution"], r.get("kind", ""), r.get("question", "")) for r in rows])
    grader.close()
    for row, one in zip(rows, judged, strict=True):
        is_open = one.verdict != ("correct" if row["equal"] else "wrong")
        assert is_open == row.get("open", False), (row, one)
        assert row["equal"] or one.verdict != "correct", (row, one)


def test_published_labelled_pairs_are_graded_within_the_bounds() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there")
    num, found = shares(SHARED)
    assert num == 162
    assert found["falsely correct"] <= 0.01
    assert found["falsely wrong"] <= 0.04
    assert found["abstained"] <= 0.04


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0, 1)", "[0, 1)"),
        ("3.5cm", "3.5cm"),
        ("She sells 9 eggs for $2 each, so she makes $18 every day.", "$18"),
        ("He pays $5 for each and $60 for all. Therefore, Kylar needs to pay $64 for 16 glasses.", "$64"),
        ("The profit is $200,000 - $130,000 = $70,000", "$70,000"),
        ("The answer is 3. Wait, the answer is 4.", "4"),
        (r"$\boxed{3}$ and $\boxed{5}$", "3, 5"),
        (r"\boxed{3}. Then \boxed{5}", "5"),
        ("<answer>42</answer>", "42"),
        ("<boxed>42</boxed>", "42"),
        ("因此，答案为：12", "12"),
    ],
)
def test_the_final_answer_of_prose_and_of_a_bare_answer_is_found(text: str, expected: str) -> None:
    found = final_answer(text)
    assert found is not None
    assert found.text == expected


@pytest.mark.parametrize(
    "text",
    [
        "not (A), rather (D)",
        "The answer is for sure D, it can't be A or B",
        "The answer is A. Wait, actually the answer is D.",
        "the answer must be\n\nD.",
        "Option D is correct.",
        "Answer: I think it is D",
        "Final Answer\nD",
        "故选D。",
        "\\boxed{\\Delta E}\n\n**Answer: D**",
    ],
)
def test_the_choice_is_read_as_models_phrase_it(text: str) -> None:
    assert letter(text, {}) == "D"


METALS = "Which metal is liquid at room temperature?\nA. iron\nB. mercury\nC. lead\nD. tin foil"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        # Options that are named to be rejected are no choice.
        (
            "Thus, **mercury** is liquid. Iron (Option A) and lead (Option C) melt much later.",
            "correct",
        ),
        ("Thus, mercury is the liquid one, while tin foil (Option D) is a distractor.", "correct"),
        ("A, C and D are solid, making **B. mercury** the correct answer.", "correct"),
        ("Solid are the others, making option B the only right one.", "correct"),
        ("Therefore, lead is liquid. Mercury (Option B) is not.", "wrong"),
        ("It is soft, making C the best choice.", "wrong"),
        ("Option B looks right at first, but option A is heavier, and options C and D are soft.", "abstain"),
        ("I do not know.", "wrong"),
    ],
)
def test_an_option_is_chosen_by_what_is_concluded_not_by_what_is_mentioned_last(text: str, verdict: str) -> None:
    judged = judge_by_rules(Case(text, "B", "choice", METALS))
    assert isinstance(judged, Judgement)
    assert judged.verdict == verdict, judged.evidence


CITIES = "Which lie in the south?\nA. Lyon\nB. Paris\nC. Nice\nD. Lille"


@pytest.mark.parametrize("solution", ["A, C", "C;A", "AC", "A and C", "['A', 'C']", "(A)(C)", "Lyon, Nice"])
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("C, A", "correct"),
        ("AC", "correct"),
        ("A. Lyon\nC. Nice", "correct"),
        ("Nice and Lyon", "correct"),
        ("The answers are **C** and **A**.", "correct"),
        ("Options A and C are correct, while B is false.", "correct"),
        ("The correct options are:\n* **A.** It is in the south.\n* **C.** So is this.", "correct"),
        (r"\boxed{\text{A, C}}", "correct"),
        (r"\boxed{A} and \boxed{C}", "correct"),
        ("<answer>C,A</answer>", "correct"),
        ("故选AC。", "correct"),
        ("A", "wrong"),
        ("The answer is C.", "wrong"),
        ("A, B and C are all correct; D is not.", "wrong"),
        (r"\boxed{ACD}", "wrong"),
        ("Not only A but also C is right.", "abstain"),
    ],
)
def test_all_right_options_and_no_other_are_to_be_chosen(solution: str, answer: str, verdict: str) -> None:
    judged = judge_by_rules(Case(answer, solution, "choice", CITIES))
    assert isinstance(judged, Judgement)
    assert judged.verdict == verdict, judged.evidence


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("D, since both A and C are true.", "correct"),
        ("Both A and C are correct, so the answer is D.", "correct"),
        ("A and C are wrong, so the answer is D.", "correct"),
        ("It must be option D; option B would need more heat.", "correct"),
        ("The answers are D and A.", "wrong"),
        ("The answer is D or A.", "wrong"),
        ("A and D", "wrong"),
    ],
)
def test_several_options_are_no_answer_to_a_question_of_one(answer: str, verdict: str) -> None:
    judged = judge_by_rules(Case(answer, "D", "choice"))
    assert isinstance(judged, Judgement)
    assert judged.verdict == verdict, judged.evidence


def test_letters_without_a_separator_are_a_product_unless_the_question_has_them_as_options() -> None:
    assert not isinstance(judge_by_rules(Case("CA", "AC")), Judgement)
    judged = judge_by_rules(Case("A", "AC", "", CITIES))
    assert isinstance(judged, Judgement)
    assert judged.verdict == "wrong"


@pytest.mark.parametrize(
    ("solution", "answer", "verdict"),
    [
        # A parameter may have any name, and a family may begin anywhere.
        (r"x = \frac{\pi}{4} + k\pi", "x = π/4 + nπ, n ∈ ℤ", "correct"),
        (r"x = \frac{\pi}{4} + k\pi", "x = π/4 + 2nπ, n ∈ ℤ", "wrong"),
        (r"k\pi, k\in\mathbb{Z}", r"x = (m + 1)\pi \text{ for } m \in \mathbb{Z}", "correct"),
        (r"30^\circ + 180^\circ k, k \in \mathbb{Z}", r"\frac{\pi}{6} + n\pi, n \in \mathbb{Z}", "correct"),
        # The order of a set's elements says nothing.
        (r"\{-2, 3\}", "x = 3 or x = -2", "correct"),
        (r"\{-2, 3\}", "x = 2 or x = -3", "wrong"),
        (r"\{-2, 3\}", "The solutions are -2 and 3.", "correct"),
        ("-2, 3", r"$x_1 = 3,\ x_2 = -2$", "correct"),
        # Times, dates and quantities of two parts, in a sentence or alone.
        ("4:35 PM", "The train arrives at 4:35 in the afternoon.", "correct"),
        ("4:35 PM", "The train arrives at 4:35 in the morning.", "wrong"),
        ("noon", "12:00 PM", "correct"),
        ("March 15", "15 March", "correct"),
        ("March 15", "The party is on the 16th of March.", "wrong"),
        ("160", "It takes 2 hours and 40 minutes.", "correct"),
        ("150", "It takes 2 hours and 40 minutes.", "wrong"),
        # Distances are intervals.
        ("[-2, 2]", "|a| ≤ 2", "correct"),
        ("[-2, 2]", "|a| < 2", "wrong"),
        ("(1, 5)", "|x - 3| < 2", "correct"),
        (r"(-\infty, -1) \cup (1, \infty)", "|x| > 1", "correct"),
        # Bases, digits that repeat, terms that are written out.
        ("1A_{16}", "26_{10}", "correct"),
        ("1A_{16}", "27_{10}", "wrong"),
        ("1/7", "0.142857142857...", "correct"),
        ("1/6", "0.1666...", "correct"),
        ("1/6", "0.1555...", "wrong"),
        (r"1, 4, 9, \ldots, n^2", r"1, 4, 9, \ldots, (n+1)^2", "wrong"),
        (r"1+\frac12+\frac14+\cdots", "1 + 1/2 + 1/4 + ...", "correct"),
        # What a sentence has exactly and rounded; how often something is done; no solution in LaTeX's text.
        (r"\frac{3}{56}", "The probability is 3/56 ≈ 0.0536.", "correct"),
        ("0.0536", "The probability is 3/56, or about 0.0536.", "correct"),
        ("1", "Wendi needs to give 20 cups of feed in the final meal for her 1 flock.", "wrong"),
        ("infinitely many", "There are infinitely many solutions.", "correct"),
        ("infinitely many", "There are not infinitely many solutions.", "wrong"),
        (r"\text{no real solutions}", "∅", "correct"),
        # Congruences, temperatures, formulas of substances, other units and prefixes.
        (r"n \equiv 1 \pmod{4}", "n = 4k + 1 for integers k", "correct"),
        (r"n \equiv 1 \pmod{4}", "n ≡ 3 (mod 4)", "wrong"),
        ("25 °C", "298.15 K", "correct"),
        ("25 °C", "77°F", "correct"),
        ("25 °C", "25 K", "wrong"),
        (r"\text{H}_2\text{SO}_4", "H₂SO₄", "correct"),
        (r"\text{H}_2\text{SO}_4", "H₂SO₃", "wrong"),
        (r"0.23 \mathrm{~nm}", "2.3 Å", "correct"),
        ("11011_2", "0b11011", "correct"),
        # A purpose, what is compared with, another line: none of these is the answer.
        ("75", "You need a 75 on the final exam to average exactly 80 over 4 tests.", "correct"),
        ("80", "You need a 75 on the final exam to average exactly 80 over 4 tests.", "wrong"),
        (r"\text{Evelyn}", "Carla has a greater average speed than Evelyn.", "wrong"),
        ("x=1", "The axis of symmetry is y = 1.", "abstain"),
        # Mixed numbers and listed formulas in a sentence; amounts in bold; phrases; a total in Chinese; times in words.
        (r"\frac{14}{3}", "Evaluating gives 4 2/3.", "correct"),
        ("10", r"**Answer:** Weng earned **\$10** yesterday.", "correct"),
        ("all odd primes", "every odd prime", "correct"),
        ("120", "他一共跑了120米，用时36秒。", "correct"),
        ("36", "他一共跑了120米，用时36秒。", "wrong"),
        ("7:45 a.m.", "She must leave at quarter to eight in the morning.", "correct"),
        # Ratios of several terms, multiples, alternating families, numbers in other bases by their names.
        ("3:4:5", "The sides are in the ratio 3 : 4 : 5.", "correct"),
        ("3:4:5", "6:8:10", "correct"),
        ("3:4:5", "3:5:4", "wrong"),
        (r"x = k\pi, k \in \mathbb{Z}", "x is any integer multiple of π", "correct"),
        (
            r"\frac{\pi}{6} + 2k\pi, \frac{5\pi}{6} + 2k\pi",
            r"$x = (-1)^n \frac{\pi}{6} + n\pi$, $n \in \mathbb{Z}$",
            "correct",
        ),
        (r"x \equiv 3 \pmod{7}", "x = 7m + 3, m ∈ ℤ", "correct"),
        ("3AF_{16}", "3AE (hex)", "wrong"),
        # An expression with a unit; a unit before other words; who is meant, where a sentence says it of another.
        (r"5\sqrt{3} \text{ cm}", "5√3 centimeters", "correct"),
        (r"5\sqrt{3} \text{ cm}", "50√3 mm", "correct"),
        (r"500 \text{ N}", "The force is 0.5 kN directed downward.", "correct"),
        (r"1.2 \times 10^{-3} \text{ mol/L}", "1.2 mM", "correct"),
        ("Wednesday", "It was Wednesday, so 100 days later it is a Friday.", "wrong"),
        ("undefined", "The expression is undefined at x = 0.", "correct"),
        ("no real solutions", "The equation has no real roots, since the discriminant is −7.", "correct"),
        ("0.75", "Three quarters of the tank is full.", "correct"),
        ("0 < k < 1", "k must lie strictly between 0 and 1.", "correct"),
        ("14", "Maria has 6 + 8 = 14 stickers left; she gave 5 of them away earlier.", "correct"),
        ("5", "Maria has 6 + 8 = 14 stickers left; she gave 5 of them away earlier.", "wrong"),
        (r"1 \pm \sqrt{19}", r"$\{1-\sqrt{19}, 1+\sqrt{19}\}$", "correct"),
    ],
)
def test_values_are_compared_and_not_their_spelling(solution: str, answer: str, verdict: str) -> None:
    judged = judge_by_rules(Case(answer, solution))
    assert isinstance(judged, Judgement)
    assert judged.verdict == verdict, judged.evidence


def test_choices_are_read_in_linear_time() -> None:
    begun = time.process_time()
    for text in ("(A) " * 5000, "A, " * 6000, "answer" + " " * 20000, "options:\n" + "A. b\n" * 4000):
        judge_by_rules(Case(text, "A, C", "choice"))
    assert time.process_time() - begun < 10


def test_a_formula_with_dots_is_never_equal_to_another_by_pattern() -> None:
    grader = Cascade(processes=1)
    for answer, solution in (
        (r"\boxed{1, 3, 5, \ldots, 2n-1}", r"1, 2, \ldots, n"),
        (r"\boxed{1+2+\cdots+n}", r"1+3+\cdots+(2n-1)"),
        (r"\boxed{1:4:9:\ldots}", r"1:2:3:\ldots"),
    ):
        assert grader(answer, solution).verdict != "correct"
    grader.close()


def test_equal_values_at_positive_points_do_not_prove_roots_equal() -> None:
    grader = Cascade(processes=1)
    assert grader(r"\boxed{\sqrt{x^2}}", "x").verdict != "correct"
    grader.close()


def test_the_summary_says_between_what_the_accuracy_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"answer": "3", "solution": "3"},
        {"answer": "4", "solution": "3"},
        {"answer": "3", "solution": "It is left as an exercise, and nothing in this sentence marks an answer." * 9},
        {"answer": "3", "solution": "3"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["grade", str(path)]) == 0
    assert "accuracy: 50.0 % if all abstentions are wrong, 75.0 % if all are right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "solution", "verdict"),
    [
        (r"L = 7 \times 10^{37}\ \text{erg s}^{-1}", r"7 \times 10^{30}\ \mathrm{W}", "correct"),
        (r"L = 7 \times 10^{36}\ \text{erg s}^{-1}", "7e37", "wrong"),
        ("ΔE = 1.3 eV", "1.3", "correct"),
        (r"q = 2.1\ \mu\text{C}", r"2.1 \times 10^{-6} \mathrm{~C}", "correct"),
        (r"q = 2.1\ \text{mC}", r"2.1 \times 10^{-6} \mathrm{~C}", "wrong"),
        ("9.81 m s⁻²", r"9.81 \mathrm{~m} / \mathrm{s}^{2}", "correct"),
        ("9.81 m/s", r"9.81 \mathrm{~m} / \mathrm{s}^{2}", "wrong"),
        ("3.5 kg", "3500", "abstain"),  # the question may ask for grams
        ("1.2 kg", "1.2 N", "wrong"),
        ("2 miles", "3.22 km", "abstain"),  # rounded between two systems of units
    ],
)
def test_quantities_are_compared_in_base_units(answer: str, solution: str, verdict: str) -> None:
    judged = judge_by_rules(Case(answer, solution))
    assert isinstance(judged, Judgement)
    assert judged.verdict == verdict, judged.evidence


def test_a_unit_takes_linear_time_to_read() -> None:
    from s1kit.grade.units import MAX_LENGTH, quantity, unit_at_end

    for text in ("3 " + "a" * 190, "3 " + "m " * 95 + "?", "1" * 200, "1/" * 99):
        assert len(text) <= MAX_LENGTH
        assert quantity(text) is None
        assert unit_at_end(text) is None


@pytest.mark.parametrize(
    ("answer", "solution", "verdict"),
    [
        ("The target keys are 7, 8, 10 and 14.", "[7, 8, 10, 14]", "correct"),
        ("So **[8, 4]** is the answer.", "[8, 4]", "correct"),
        ("The answer is [4, 8].", "[8, 4]", "wrong"),
        ("He has 7 quarters and 4 half dollars.", r"7 \mathrm{q}, 4 \mathrm{~h}", "abstain"),
        ("He has 4 quarters and 7 half dollars.", r"7 \mathrm{q}, 4 \mathrm{~h}", "wrong"),
        ("x = 1, y = 4, z = 2", "(1,2,4)", "wrong"),
        ("The single solution is x = 1, y = 0.", "(x, y)=(1,0)", "correct"),
        ("All real numbers greater than or equal to 2", r"[2, \infty)", "correct"),
        ("All real numbers greater than 2", r"[2, \infty)", "wrong"),
        ("So, Maya has **36** marbles. Let me know if you have 2 more questions!", "36", "correct"),
        ("The bill is $42.50, which includes the $7.50 tip.", "7.50", "wrong"),
        ("Answer: 12\n\nEdit: I mis-added; it should be 14.", "12", "wrong"),
        ("The area of the triangle is √3.", "3", "wrong"),
        ("故三角形的面积为√3。", r"\sqrt{3}", "correct"),
        ("所以a的取值范围是a>3。", r"(3,+\infty)", "correct"),
        ("If she leaves at 6:45 and needs 45 minutes, she arrives at 7:30.", "7:30", "correct"),
        ("all real numbers", r"\mathbb{R}", "correct"),
        (r"\langle -1, 2\rangle", r"\begin{pmatrix}2\\-1\end{pmatrix}", "wrong"),
        ("1 eV (about 1.6e-19 J)", r"1.6 \times 10^{-19} \mathrm{J}", "abstain"),
        ("Hence n = 104 is the least value; n = 103 does not work.", "103", "wrong"),
        ("The minimum value is negative three.", "3", "wrong"),
        ("The minimum value is negative three.", "-3", "correct"),
        ("Ella is faster than Ben, but Cara is the fastest.", "Ella", "abstain"),
        ("Final answer: 30. Correction: final answer: 31.", "30", "wrong"),
        (r"\boxed{(x,y)=(3,2)}", "x=2,y=3", "wrong"),
        ("The curves meet at (0,0) and (1,1).", "(0,0),(1,1)", "correct"),
        ("6.02 × 10^23 molecules", r"6.02 \times 10^{23}", "correct"),
        ("(A) and (B) are both false; only (C) holds.", "A", "wrong"),
        ("It converges, so yes.", "no", "wrong"),
        ("The domain is all real numbers except 2.", r"(-\infty, 2)\cup(2,\infty)", "correct"),
        ("All real numbers except 3 and -1.", r"(-\infty,-1)\cup(-1,3)\cup(3,\infty)", "correct"),
        (r"x \ne 3", r"(-\infty, 2)\cup(2,\infty)", "wrong"),
        ("all nonzero real numbers", r"(-\infty,0)\cup(0,\infty)", "correct"),
        ("C(10,3)", r"\binom{10}{3}", "correct"),
        ("10C4", "120", "wrong"),
        ("atan(2)", r"\tan^{-1} 2", "correct"),
        (r"\boxed{\sin h}", r"\sinh", "wrong"),
        ("KLM42", "K", "wrong"),
        ("5,0000", "50000", "correct"),
        ("log10(5)", r"\log_{10} 5", "correct"),
        ("abs(x-3)", "|x-3|", "correct"),
        ("Ed has 45 now: 30 more than the 15 he began with.", "15", "wrong"),
        ("I thought it was 8, but counting again I find 9.", "8", "wrong"),
        ("Since f'(x)=0 only at x=2, the function has exactly one critical point.", "1", "correct"),
        ("6.36 × 10^{-34} J·s", r"6.63 \times 10^{-34}", "wrong"),
        ("所以及格率是百分之七十五。", "75%", "correct"),
        ("The statement is not correct.", "False", "correct"),
        ("They are heading east.", "east", "correct"),
        ("There is no such integer, so the set of solutions is empty.", r"\emptyset", "correct"),
    ],
)
def test_prose_is_read_in_the_form_of_the_solution(answer: str, solution: str, verdict: str) -> None:
    grader = Cascade(processes=1)
    judged = grader(answer, solution)
    grader.close()
    assert judged.verdict == verdict, judged.evidence


def test_expressions_that_only_a_parser_of_all_of_it_can_tell_apart() -> None:
    grader = Cascade(processes=1)
    binomial = r"\frac{4^{2024}}{\binom{4048}{2024}}-2"
    assert grader(r"\boxed{\frac{2^{4048}}{\dbinom{4048}{2024}}-2}", binomial).verdict == "correct"
    assert grader(r"\boxed{\frac{2^{4048}}{\dbinom{4048}{2023}}-2}", binomial).verdict == "wrong"
    assert grader(r"(2x+1)^{4/15}", r"\sqrt[15]{(2 x+1)^{4}}").verdict == "correct"
    assert grader(r"y = (2x - 1)/4 + C e^{-2x}", "x / 2-1 / 4+c e^{-2 x}").verdict == "correct"
    assert grader("$E_1/c$", r"\frac{E_0}{c}").verdict == "wrong"
    grader.close()


@pytest.mark.parametrize(
    ("answer", "solution", "verdict"),
    [
        ("$5M", "5000000", "correct"),
        ("She owes $2.5M.", "2500000", "correct"),
        ("$3b", "3000000000", "correct"),
        ("€2 bn", "2000000000", "correct"),
        ("5M", "5000000", "correct"),
        (r"\$2M", "2", "abstain"),
        ("5M", "5", "wrong"),
        ("$5M", "5000", "wrong"),
        # Moles a litre, of which the solution leaves the unit out.
        ("0.5 M", "0.5", "correct"),
        ("0.5 M", "0.5 mol/L", "correct"),
    ],
)
def test_millions_of_money_are_no_moles_a_litre(answer: str, solution: str, verdict: str) -> None:
    grader = Cascade(processes=1)
    judged = grader(answer, solution)
    grader.close()
    assert judged.verdict == verdict, judged.evidence

"""Several teachers a question, and what they agree on: python examples/several_teachers.py [FOLDER]

Two teachers answer every question; a trace stays where more than half of the replies say the same. The built-in
teacher and one that is often wrong stand in for real ones: write `chat:<provider>/<model>` in their place.
"""

import subprocess
import sys
from pathlib import Path

from s1kit.records import Question, Trace

RECIPE = """
name = "several-teachers"
stages = ["collect", "distill", "curate"]

[collect]
sources = [{ builtin = "tiny", num = 60 }]
duplicates = "exact"
decontaminate = "none"

[distill]
# A table sets what holds for one teacher only: { teacher = "chat:openai/o3", reasoning_effort = "high" }
teachers = ["tiny", "several_teachers:careless"]

[curate]
quality = ["s1", "minority_answer"]
selection = "full"
"""


class Careless:
    """Knows the answer, and is one too high on every third question."""

    async def ask(self, question: Question, draw: int) -> Trace:
        answer = question.solution or ""
        if int(question.id, 16) % 3 == 0 and answer.isdigit():
            answer = str(int(answer) + 1)
        return Trace(
            question=question,
            teacher="careless",
            thinking=f"I believe that it is {answer}.",
            answer=f"Final Answer: {answer}",
            thinking_tokens=6,
            terms="permits",
            draw=draw,
        )


def careless(recipe: object) -> Careless:
    """What `distill.teachers` names."""
    return Careless()


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "several-teachers")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "several_teachers.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    for command in (["check"], ["run"], ["show"]):
        target = "runs/several-teachers/curate" if command == ["show"] else "recipe.toml"
        done = subprocess.run([sys.executable, "-m", "s1kit", *command, target], cwd=folder, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

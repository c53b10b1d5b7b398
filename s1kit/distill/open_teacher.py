"""From `distill.teacher` to a teacher that can be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from s1kit.distill.teachers import RecordedTeacher, SolutionsTeacher, TinyTeacher
from s1kit.errors import InputError
from s1kit.providers import Teacher
from s1kit.recipe import Recipe


@dataclass
class Asked:
    """A teacher, and what the stage must know about asking it."""

    teacher: Teacher
    inputs: list[Path] = field(default_factory=list)
    """Files that the traces come from."""

    async def __aenter__(self) -> Asked:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self) -> str:
        """What to show beside the count: cost, failures."""
        return ""


def open_teacher(recipe: Recipe) -> Asked:
    """The teacher that `distill.teacher` names. Raises InputError for a reference that names none."""
    reference = recipe.distill.teacher
    match reference.partition(":"):
        case ("tiny", "", ""):
            return Asked(TinyTeacher())
        case ("solutions", "", ""):
            return Asked(SolutionsTeacher())
        case ("recorded", ":", path) if path:
            return Asked(RecordedTeacher(Path(path)), inputs=[Path(path)])
        case _:
            raise InputError(
                f"no teacher is called {reference!r}",
                where="distill.teacher",
                fix="Give tiny, solutions, recorded:<file>, chat:<provider>/<model>, or an engine's model reference.",
            )

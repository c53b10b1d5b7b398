"""What a stage would refuse, and a collector that runs checks and keeps all of their faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from s1kit.errors import InputError
from s1kit.providers.contact import Servers

P = ParamSpec("P")
T = TypeVar("T")


class Fault(NamedTuple):
    """One thing that a stage would refuse."""

    stage: str
    error: InputError

    def __str__(self) -> str:
        return f"{self.stage}: {self.error}"


class FaultCollector:
    """Runs checks of one stage and keeps what each of them refuses."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.faults: list[Fault] = []
        self.servers: list[Servers] = []
        """What the stage would connect to."""

    def run(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What the check gives; None where it refuses. What another check has said already is not said twice."""
        try:
            return check(*args, **kwargs)
        except InputError as error:
            fault = Fault(self.stage, error)
            if str(fault) not in map(str, self.faults):
                self.faults.append(fault)
        except FileNotFoundError as error:
            self.add(f"there is no file {error.filename}", fix="Check the path in the recipe.")
        return None

    def model(self, check: Callable[..., list[str]], reference: str, where: str, **options: Any) -> bool:
        """Check a model reference with one of `cli.references`, and note the servers that it names.

        Returns whether nothing is wrong with it.
        """
        urls = self.run(check, reference, where, **options)
        if urls:
            self.servers.append(Servers(tuple(urls), where, by_proxy=reference.startswith("chat:")))
        return urls is not None

    def add(self, what: str, where: str = "", fix: str = "") -> None:
        self.faults.append(Fault(self.stage, InputError(what, where=where, fix=fix)))

"""`POST /v1/requests/{id}/stop_thinking`: a running request stops thinking at the next token, and answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import Choice


@dataclass(slots=True)
class RunningRequest:
    """A request that runs, as others may act on it: they can end its thinking."""

    key: str | None
    """The name of the key that it came with."""
    choices: Sequence[Choice]

    def stop_thinking(self) -> int:
        """End the thinking of its choices; returns how many were thinking, or had yet to begin."""
        thinking = [choice for choice in self.choices if choice.is_thinking]
        for choice in thinking:
            choice.stop.ask()
        return len(thinking)


@dataclass(slots=True)
class RunningRequests:
    """The requests that run, by each of the ids that a client can know."""

    _by_id: defaultdict[str, list[RunningRequest]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def listed(self, ids: Iterable[str], request: RunningRequest) -> Iterator[None]:
        """Let the request be found by these ids meanwhile. Clients choose `x-request-id`, so two may have the same."""
        names = set(ids)
        for name in names:
            self._by_id[name].append(request)
        try:
            yield
        finally:
            for name in names:
                self._by_id[name].remove(request)
                if not self._by_id[name]:
                    del self._by_id[name]

    def names(self) -> Sequence[str]:
        """The ids of all that run."""
        return tuple(self._by_id)

    def find(self, name: str) -> Sequence[RunningRequest]:
        """The requests of this id."""
        return tuple(self._by_id.get(name, ()))

    def stop_thinking(self, name: str, key: str | None) -> int:
        """End the thinking of every request of this id and key; returns the number of choices.

        Raises Refusal: 404 where no such request runs, 409 where none of its choices is thinking.
        """
        found = [request for request in self.find(name) if request.key == key]
        if not found:
            raise Refusal(
                404,
                f"no request {name!r} is running under this key. Give the id of its reply, or its x-request-id.",
                param="id",
                code="unknown_request",
            )
        stopped = sum([request.stop_thinking() for request in found])
        if not stopped:
            raise Refusal(409, f"the request {name!r} is answering already.", param="id", code="not_thinking")
        return stopped

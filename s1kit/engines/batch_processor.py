"""Logits processor for a whole batch: keeps each row in sync with its output and forces ids in the logits.

    batch = BatchLogitsProcessor()
    batch.put(slot, row, output)             # `output` is the engine's own list: it grows by what is sampled
    batch.steer(logits)                      # before each sampling
    batch.drop(slot)

It runs in every step of another project's engine, so it must cost next to nothing: a row is synced only when a token
that matters to it arrives, the number of torch calls does not grow with the number of rows, and work that grows with
the vocabulary is done once for the largest logit, and again only for rows that may stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from s1kit.engines.steering import Refused, Steered

AnyRow = TypeVar("AnyRow", bound="Steered | Refused")


class SlotState(Generic[AnyRow]):
    """State of one slot: its row, the engine's list of sampled ids, and what it forces until the next sync."""

    __slots__ = ("_batch", "columns", "due", "ends_thinking", "output", "rare", "row", "script", "slot", "start")

    def __init__(self, batch: BatchLogitsProcessor, slot: int, row: AnyRow, output: list[int]) -> None:
        self._batch, self.slot, self.row, self.output = batch, slot, row, output
        self.due = self.start = 0
        """Length of `output` at which the row must be synced next, and at which it was synced last."""
        self.script: tuple[int, ...] = ()
        self.rare: frozenset[int] = frozenset()
        self.ends_thinking = False
        """Set by whoever wants thinking to end at the next token; cleared by the `steer` that did so."""
        self.columns: tuple[int, ...] = ()
        """While nothing is forced: indices of the batch's stop ids that are stops for this row."""

    def catch_up(self, output: Sequence[int] | None = None) -> None:
        """Sync the row with its output, or with the given one where the engine reports it elsewhere."""
        row = self.row
        row.catch_up(self.output if output is None else output)
        self._take_over()

    def end_thinking(self) -> None:
        """Sync the row, then end its thinking. Only in `steer`, where no token is under way."""
        self.ends_thinking = False
        if isinstance(self.row, Steered):
            self.row.catch_up(self.output)
            self.row.end_thinking()
            self._take_over()

    def _take_over(self) -> None:
        row = self.row
        self.due, self.start, self.script = row.due, row.num_observed, row.script
        self.rare = row.rare if not self.script else frozenset()
        self._batch.note(self)


class BatchLogitsProcessor:
    """The rows of an engine's batch by slot; see the module."""

    def __init__(self) -> None:
        self._members: dict[int, SlotState[Any]] = {}
        self._vocabulary_size = 0
        self._stop_ids: tuple[int, ...] = ()
        self._patterns: dict[frozenset[int], tuple[tuple[int, ...], Any]] = {}
        """For a set of stops: their places in `_stop_ids`, and the same as a row of `_mask`."""
        self._mask = np.zeros((0, 0), dtype=np.float32)
        """`[slot, stop id]`: minus infinity where nothing is forced and this id would be a stop of that row, else 0."""

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, slot: int) -> bool:
        return slot in self._members

    def __getitem__(self, slot: int) -> SlotState[Any]:
        return self._members[slot]

    def put(self, slot: int, row: AnyRow, output: list[int]) -> SlotState[AnyRow]:
        """Put a row into a slot and remove the one that had it."""
        self._remove(slot)
        member = SlotState(self, slot, row, output)
        self._place(slot, member)
        return member

    def drop(self, slot: int) -> None:
        """Remove a slot's row, if any, after syncing it with its output, so that it can be rebuilt from its tokens."""
        member = self._remove(slot)
        if member is not None and min(member.output[member.row.num_observed :], default=0) >= 0:
            member.catch_up()

    def move(self, first: int, second: int, is_swap: bool) -> None:
        """Move a row to another slot, or swap two."""
        a, b = self._remove(first), self._remove(second)
        if a is not None:
            self._place(second, a)
        if b is not None and is_swap:
            self._place(first, b)

    def steer(self, logits: torch.Tensor, slots: Sequence[int] | None = None) -> torch.Tensor:
        """Change `logits` `[row, vocabulary]` in place and return them; row i is in `slots[i]`, or in slot i.

        A forced id keeps logit 0 and all others get minus infinity. A stop is drawn at the row's temperature, before
        any truncation; at temperature 0 it is drawn exactly when it is the largest. All other stops are masked.
        """
        if logits.shape[-1] != self._vocabulary_size:
            self._vocabulary_size = logits.shape[-1]
            self._learn([*self._patterns])
        places: Any = range(len(logits)) if slots is None else {slot: i for i, slot in enumerate(slots)}
        forced: list[tuple[int, int]] = []
        greedy: list[tuple[int, SlotState[Steered]]] = []
        sampled: list[tuple[int, SlotState[Steered]]] = []
        for slot, member in self._members.items():
            output = member.output
            if len(output) >= member.due or (output and output[-1] in member.rare):
                member.catch_up()
            if member.ends_thinking:
                member.end_thinking()
            if slot not in places:
                continue
            if member.script:
                forced.append((places[slot], member.script[len(output) - member.start]))
                continue
            if member.row.is_stopping:
                # Drawn before, but no token came: an engine computes logits, too, for prompts in several pieces.
                member.row.settle(False)
            (sampled if member.row.temperature else greedy).append((places[slot], member))
        if greedy or sampled:
            forced += self._draw(logits, greedy, sampled, slots)
        if forced:
            rows, ids = (torch.tensor(column, device=logits.device) for column in zip(*forced, strict=True))
            logits.index_fill_(0, rows, -torch.inf)
            logits[rows, ids] = 0.0
        return logits

    def note(self, member: SlotState[Any]) -> None:
        """Update the indices after a slot's state has changed."""
        if self._members.get(member.slot) is not member or not member.due:
            return
        if member.script:
            self._mask[member.slot] = 0
            return
        stop_ids = member.row.stop_ids
        if stop_ids not in self._patterns:
            self._learn([*self._patterns, stop_ids])
        member.columns, self._mask[member.slot] = self._patterns[stop_ids]

    def _draw(
        self,
        logits: torch.Tensor,
        greedy: Sequence[tuple[int, SlotState[Steered]]],
        sampled: Sequence[tuple[int, SlotState[Steered]]],
        slots: Sequence[int] | None,
    ) -> list[tuple[int, int]]:
        """Draw for each of the rows whether it stops; masks their stops, returns what is forced on those that do."""
        columns = _as_tensor(self._stop_ids, logits.device)
        # Of each row the logits of the stops, then the largest of all.
        values = torch.cat((logits.index_select(1, columns), logits.amax(-1, keepdim=True)), 1).tolist()
        stopping = _largest(logits, values, greedy) + _drawn(logits, columns, values, sampled)
        self._reserve(len(logits) if slots is None else max(slots) + 1)
        mask = self._mask[: len(logits)] if slots is None else self._mask[slots]
        logits.index_add_(1, columns, torch.from_numpy(mask).to(logits))
        out = []
        for index, member in stopping:
            member.catch_up()
            out.append((index, member.row.settle(True)))
            member.due = member.row.due
        return out

    def _learn(self, sets: Sequence[frozenset[int]]) -> None:
        """Rebuild the list of all stop ids and each slot's columns in it; ids beyond the vocabulary are left out."""
        ids = sorted(i for i in frozenset().union(*sets) if i < self._vocabulary_size)
        self._stop_ids, self._patterns = tuple(ids), {}
        self._mask = np.zeros((len(self._mask), len(ids)), dtype=np.float32)
        for stop_ids in sets:
            places = tuple(i for i, known in enumerate(ids) if known in stop_ids)
            self._patterns[stop_ids] = places, np.where(np.isin(ids, list(stop_ids)), np.float32(-np.inf), 0)
        for member in self._members.values():
            self.note(member)

    def _place(self, slot: int, member: SlotState[Any]) -> None:
        self._reserve(slot + 1)
        self._members[slot], member.slot = member, slot
        self.note(member)

    def _remove(self, slot: int) -> SlotState[Any] | None:
        member = self._members.pop(slot, None)
        if member is not None:
            self._mask[slot] = 0
        return member

    def _reserve(self, num_slots: int) -> None:
        more = num_slots - len(self._mask)
        if more > 0:
            self._mask = np.pad(self._mask, ((0, max(more, len(self._mask))), (0, 0)))


def _largest(
    logits: torch.Tensor, values: Sequence[Sequence[float]], rows: Sequence[tuple[int, SlotState[Steered]]]
) -> list[tuple[int, SlotState[Steered]]]:
    """The greedy rows whose largest logit is that of a stop; of equal logits the first counts, as in argmax."""
    near = []
    for index, member in rows:
        row = values[index]
        for column in member.columns:
            if row[column] >= row[-1]:
                near.append((index, member))
                break
    if not near:
        return []
    largest = logits[[index for index, _ in near]].argmax(-1).tolist()
    return [row for row, token in zip(near, largest, strict=True) if token in row[1].row.stop_ids]


def _drawn(
    logits: torch.Tensor,
    columns: torch.Tensor,
    values: Sequence[Sequence[float]],
    rows: Sequence[tuple[int, SlotState[Steered]]],
) -> list[tuple[int, SlotState[Steered]]]:
    """The sampled rows whose random number is below the total probability of their stops."""
    near = []
    for index, member in rows:
        row, temperature = values[index], member.row.temperature
        # No probability is larger than its ratio to the largest, which spares nearly all rows the whole softmax.
        most = sum([exp((row[column] - row[-1]) / temperature) for column in member.columns])
        if member.row.draw(len(member.output)) < most * 1.001:
            near.append((index, member))
    if not near:
        return []
    heats = torch.tensor([[member.row.temperature] for _, member in near], device=logits.device)
    shares = (logits[[index for index, _ in near]] / heats).softmax(-1, dtype=torch.float32).index_select(1, columns)
    out = []
    for (index, member), share in zip(near, shares.tolist(), strict=True):
        if member.row.draw(len(member.output)) < sum([share[column] for column in member.columns]):
            out.append((index, member))
    return out


@lru_cache(maxsize=64)
def _as_tensor(ids: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(ids, device=device, dtype=torch.long)

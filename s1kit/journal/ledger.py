"""What counts against a run's cap: reservations, replies that were paid, and requests that were lost on the way.

It is in the journal, so the cap holds over kills, copies of the run folder, and several processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1kit.journal.claims import Claims
from s1kit.journal.database import Database, in_bulk
from s1kit.journal.entries import Charge, now

PUT_CHARGE = (
    "INSERT INTO charges (id, run, key, state, dollars, created) VALUES {rows}"
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state, dollars = excluded.dollars"
)
JOB = "job:"
"""What the key of a batch job's reservation begins with: it outlives the process that submitted it."""


def charge_row(charge: Charge) -> tuple[object, ...]:
    return (charge.id, charge.run, charge.key, charge.state, charge.dollars, now())


@dataclass(frozen=True)
class Ledger:
    """The charges in one journal."""

    database: Database
    claims: Claims

    def total(self, run: str) -> float:
        """Dollars held, paid and lost by a run."""
        rows = self.database.rows("SELECT dollars FROM totals WHERE run = ?", (run,))
        return float(rows[0][0]) if rows else 0.0

    def has(self, key: str) -> bool:
        """Whether a request was charged to any run."""
        return bool(self.database.rows("SELECT 1 FROM charges WHERE key = ? LIMIT 1", (key,)))

    def held(self, run: str) -> float:
        """Dollars of requests under way, in any process."""
        ((dollars,),) = self.database.rows(
            "SELECT coalesce(sum(dollars), 0) FROM charges WHERE run = ? AND state = 'held'", (run,)
        )
        return float(dollars)

    def hold(self, charges: Sequence[Charge], cap: float) -> list[bool]:
        """Reserve the charges that fit below the cap (dollars), in order and in one transaction; True for each."""
        fits = []
        with self.database.transaction() as writing:
            for charge in charges:
                row = writing.execute("SELECT dollars FROM totals WHERE run = ?", (charge.run,)).fetchone()
                is_below = (row[0] if row else 0.0) + charge.dollars <= cap + 1e-12
                if is_below:
                    writing.execute(*in_bulk(PUT_CHARGE, [charge_row(charge)]))
                fits.append(is_below)
        return fits

    def put(self, *charges: Charge) -> None:
        """Write charges down, whatever the cap."""
        self.database.write((PUT_CHARGE, [charge_row(charge) for charge in charges]))

    def drop(self, *ids: str) -> None:
        """Free reservations of requests that were not sent."""
        self.database.write(("DELETE FROM charges WHERE id = ? AND state = 'held'", [(id,) for id in ids]))

    def settle_orphans(self, run: str) -> float:
        """Count as lost what processes held that are dead, and return how many dollars that is.

        Whoever asks a request has its claim, so a reservation whose claim is free belongs to nobody. Its request may
        have been sent, and charged at most what was reserved.
        """
        rows = self.database.rows("SELECT id, key, dollars FROM charges WHERE run = ? AND state = 'held'", (run,))
        dollars = 0.0
        for id, key, held in rows:
            if key.startswith(JOB) or not self.claims.take(key):
                continue
            try:
                self.database.write(("UPDATE charges SET state = 'lost' WHERE id = ? AND state = 'held'", [(id,)]))
                dollars += held
            finally:
                self.claims.drop(key)
        return dollars

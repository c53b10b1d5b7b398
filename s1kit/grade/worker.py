"""Entry point of a worker process, which runs math-verify: one JSON line in, one out, until its input closes.

Symbolic comparison can run for ever or eat all memory (`9^{9^{9^9}}`), and a signal does not interrupt big-integer
arithmetic. So it runs here, with little memory, and whoever started this process kills it when it is late.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

MEMORY_BYTES = 3 << 30


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    from s1kit.grade.symbolic import compare

    # The first parse builds tables; it should not count against the first comparison.
    compare(r"\frac{x}{2} + \sqrt{3}", "0.5 x + 3")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer: dict[str, Any] = compare(job["answer"], job["solution"])._asdict()
        except (MemoryError, RecursionError) as error:
            answer = {"failure": type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

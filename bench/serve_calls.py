"""Python calls of the server for one stream, beside another checkout: python bench/serve_calls.py OTHER [--rounds N]

Calls do not depend on what else the machine does, as seconds do, as long as every word is passed on by itself: few
streams, four at a time, a word every 20 ms from a scripted upstream. `bench/serve_load.py` has the seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pstats
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1]
INTERVAL, STREAMS, PORT = 0.02, 4, 8600

SERVER = """
import cProfile, signal, sys
from s1kit.cli import main
profile = cProfile.Profile()
signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
def stop(*_):
    profile.disable()
    profile.dump_stats({out!r})
signal.signal(signal.SIGUSR2, stop)
sys.exit(main())
"""


def measure(checkout: Path, rounds: int) -> float:
    """Calls for each finished stream. Run in a process of its own: the checkout's modules and its load are imported."""
    sys.path[:0] = [str(checkout), str(checkout / "bench"), str(checkout / "tests")]
    os.environ["PYTHONPATH"] = str(checkout)
    import serve_load as load

    with tempfile.TemporaryDirectory() as name:
        folder, num = Path(name), 0
        with load.running(load.canned(folder, INTERVAL), PORT, folder / "upstream.log"):
            target = load.targets(argparse.Namespace(litellm=None, optillm=None), folder)[1]
            command = [*target.command[:2], SERVER.format(out=str(folder / "profile")), *target.command[3:]]
            with load.running(command, target.port, folder / "server.log", {"PYTHONPATH": str(checkout)}) as pid:
                asyncio.run(load.warm_up(target))
                os.kill(pid, signal.SIGUSR1)
                time.sleep(0.2)
                for _ in range(rounds):
                    num += asyncio.run(load.drive(target, STREAMS)).num_finished
                os.kill(pid, signal.SIGUSR2)
                time.sleep(2)
        return pstats.Stats(str(folder / "profile")).total_calls / num  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout, e.g. of git worktree")
    parser.add_argument("--rounds", type=int, default=8, help="of 4 streams (default: %(default)s)")
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(measure(given.other.resolve(), given.rounds))
        return
    import subprocess

    found = []
    for checkout in (given.other.resolve(), HERE):
        command = [sys.executable, __file__, str(checkout), "--rounds", str(given.rounds), "--only"]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(float(ran.stdout.split()[-1]))
        print(f"{found[-1]:9,.0f} calls a stream   {checkout}")
    print(f"{found[1] / found[0]:.3f} times the other's")


if __name__ == "__main__":
    main()

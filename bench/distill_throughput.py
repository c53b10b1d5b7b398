"""How fast distill asks, what it takes, what a kill loses, and how fast a finished run resumes; beside curator.

    python bench/distill_throughput.py                        # 59,029 questions, 256 in flight, 200 ms, 5K tokens
    python bench/distill_throughput.py --in-flight 64
    python bench/distill_throughput.py --num 5000 --peer .venv-bench-curator/bin/python

The server is a process of its own on the same machine. CPU seconds and memory are those of the client and of all that
it starts, summed. The capacity is measured: what a client that only sends and counts bytes reaches with as many in
flight (`distill_capacity.py`); in theory 256 / 0.2 s = 1,280 a second. A run is timed from its process's start to its
end.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

OURS = """
import sys
from pathlib import Path
from s1kit.distill.distill import distill
from s1kit.recipe import Recipe
from s1kit.stage import open_run
recipe = Recipe.model_validate_json(sys.argv[1])
distill(recipe, open_run(recipe.folder, "r", {}))
"""

CURATOR = """
import os, sys, json
os.environ["TELEMETRY_ENABLED"] = "0"; os.environ["CURATOR_VIEWER"] = "0"; os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CURATOR_CACHE_DIR"] = sys.argv[3]
os.environ["OPENAI_API_KEY"] = "k"
# It counts tokens with a vocabulary that it downloads; litellm, which it depends on, brings the same file.
from importlib.util import find_spec
from pathlib import Path
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(find_spec("litellm").origin).parent / "litellm_core_utils" / "tokenizers")
from bespokelabs import curator
from datasets import Dataset
class Asker(curator.LLM):
    def prompt(self, row): return row["text"]
    def parse(self, row, response): return {"text": row["text"], "reply": response}
# A name that litellm knows: curator asks it for the model's longest output.
llm = Asker(model_name="gpt-4o-mini", backend="openai", backend_params={
    "base_url": sys.argv[1], "api_key": "k", "max_requests_per_minute": 10**6, "max_tokens_per_minute": 10**10,
    "max_concurrent_requests": 256, "require_all_responses": False, "in_mtok_cost": 1, "out_mtok_cost": 1})
rows = [json.loads(line) for line in open(sys.argv[2])]
out = llm(Dataset.from_list(rows))
print(len(getattr(out, "dataset", out)))
"""


@dataclass
class Measured:
    seconds: float
    cpu_seconds: float
    mib: list[float]
    """Memory, sampled five times a second."""
    returncode: int

    def line(self, name: str, num: int) -> str:
        rate = num / self.seconds if num else 0.0
        quarters = [max(self.mib[len(self.mib) * n // 4 : len(self.mib) * (n + 1) // 4] or [0.0]) for n in range(4)]
        return (
            f"{name:24s} {self.seconds:6.1f} s  {rate:6.0f} req/s  {self.cpu_seconds:6.1f} CPU s"
            f"  peak MiB by quarter {' '.join(f'{mib:.0f}' for mib in quarters)}  exit {self.returncode}"
        )


class TestServer:
    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "distill_server.py"), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + "/stats") as reply:
            return dict(json.load(reply))

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def measure(command: list[str], *, kill_after: int = 0, server: TestServer | None = None, log: Path) -> Measured:
    """Run a client, watching its memory; kill it once the server has answered so many."""
    started = time.monotonic()
    mib: list[float] = []
    cpu: dict[int, float] = {}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        while process.poll() is None:
            mib.append(sum(look_at(pid, cpu) for pid in family(process.pid)))
            if kill_after and server is not None and server.stats()["requests"] >= kill_after:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.2)
    return Measured(time.monotonic() - started, sum(cpu.values()), mib, process.returncode)


def family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            found += [
                int(child)
                for task in Path(f"/proc/{parent}/task").iterdir()
                for child in (task / "children").read_text().split()
            ]
    return found


def look_at(pid: int, cpu: dict[int, float]) -> float:
    """MiB of one process; its CPU seconds so far go into `cpu`."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


def make_run(folder: Path, num: int) -> None:
    from s1kit.records import Question
    from s1kit.stage import open_run

    stage = open_run(folder / "r", "r", {}).open("collect", config={}, seed=0)
    for start in range(0, num, 10_000):
        stage.write("questions", Question, [Question(text=text_of(n)) for n in range(start, min(num, start + 10_000))])
    stage.finish()


def text_of(n: int) -> str:
    return f"Question {n}: find the number of pairs (x, y) with x + y = {n}. " + "Explain every step in detail. " * 4


def recipe_json(folder: Path, url: str, in_flight: int, **settings: Any) -> str:
    distill = {"teacher": f"chat:{url}/v1#m", "concurrency": in_flight, **settings}
    return json.dumps({"name": "r", "out": str(folder), "distill": distill, "train": {"base": "hf:none"}})


def ours(num: int, ms: float, in_flight: int, scratch: Path) -> None:
    server = TestServer("--ms", str(ms))
    try:
        capacity = capacity_of(server, in_flight)
        folder = scratch / "whole"
        make_run(folder, num)
        command = [sys.executable, "-c", OURS, recipe_json(folder, server.url, in_flight)]
        whole = measure(command, log=scratch / "ours.log")
        stats = server.stats()
        print(whole.line("s1kit distill", num))
        rate, theory, each = num / whole.seconds, in_flight / (ms / 1000), whole.cpu_seconds / num * 1000
        print(
            f"  {rate / capacity:.1%} of the measured capacity {capacity:.0f}/s, {rate / theory:.1%} of {theory:.0f}/s;"
        )
        print(f"  {stats['most_in_flight']} in flight at most; {each:.2f} CPU ms a request; {steady(stats)}")
        print(measure(command, log=scratch / "ours.log").line("  run again, finished", 0))
        shutil.rmtree(folder / "r" / "distill")
        again = measure(command, log=scratch / "ours.log")
        print(
            again.line("  traces from the journal", num), f" {server.stats()['requests'] - stats['requests']} requests"
        )
        shutil.rmtree(folder)
        kill_part(num, in_flight, server, scratch)
    finally:
        server.stop()


def capacity_of(server: TestServer, in_flight: int) -> float:
    """Requests a second that a client reaches which does nothing with the replies."""
    command = [sys.executable, str(HERE / "distill_capacity.py"), server.url, "--in-flight", str(in_flight)]
    out = subprocess.run([*command, "--num", "10000"], capture_output=True, text=True, check=True)
    return float(json.loads(out.stdout)["requests_per_second"])


def steady(stats: dict[str, Any]) -> str:
    """The rate between the first tenth and the last, as the server saw it."""
    times = stats["accepted_at"][10_000:]  # the first are the capacity's
    if len(times) < 1000:
        return "too few for a steady rate"
    first, last = times[len(times) // 10], times[len(times) * 9 // 10]
    return f"{len(times) * 0.8 / (last - first):.0f}/s once it runs"


def kill_part(num: int, in_flight: int, server: TestServer, scratch: Path) -> None:
    folder, before = scratch / "killed", server.stats()
    make_run(folder, min(num, 5000))
    command = [sys.executable, "-c", OURS, recipe_json(folder, server.url, in_flight, prompt="Again: {question}")]
    measure(command, kill_after=before["requests"] + min(num, 5000) // 2, server=server, log=scratch / "ours.log")
    measure(command, log=scratch / "ours.log")
    print(
        f"  sent again after a kill halfway: {server.stats()['sent_again'] - before['sent_again']} of {min(num, 5000)}"
    )


def peer(python: str, num: int, ms: float, scratch: Path) -> None:
    server = TestServer("--ms", str(ms))
    try:
        rows = scratch / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": text_of(n)}) + "\n" for n in range(num)))
        command = [python, "-c", CURATOR, server.url + "/v1", str(rows), str(scratch / "curator")]
        print(measure(command, log=scratch / "curator.log").line("bespokelabs-curator", num))
        stats = server.stats()
        print(f"  {stats['requests']} requests, {stats['most_in_flight']} in flight")
        if stats["requests"] == 0:
            print((scratch / "curator.log").read_text()[-1500:])
            return
        shutil.rmtree(scratch / "curator", ignore_errors=True)
        half = stats["requests"] + num // 2
        before = server.stats()["sent_again"]
        measure(command, kill_after=half, server=server, log=scratch / "curator.log")
        measure(command, log=scratch / "curator.log")
        again = server.stats()["sent_again"] - before
        print(f"  sent again after a kill halfway: {again - num} of {num}")
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=59_029)
    parser.add_argument("--ms", type=float, default=200.0)
    parser.add_argument("--in-flight", type=int, default=256, help="requests at once, of s1kit")
    parser.add_argument("--peer", default="", help="a python that has bespokelabs-curator; empty: leave it out")
    parser.add_argument("--only-peer", action="store_true")
    parser.add_argument(
        "--key-characters", type=int, default=0, help="length of an API key, which replies are searched for"
    )
    given = parser.parse_args()
    if given.key_characters:
        os.environ["S1KIT_API_KEY"] = secrets.token_hex(given.key_characters)[: given.key_characters]
    print(f"{given.num} questions, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    scratch = Path(tempfile.mkdtemp(prefix="s1kit-bench-"))
    try:
        if not given.only_peer:
            ours(given.num, given.ms, given.in_flight, scratch)
        if given.peer:
            peer(given.peer, given.num, given.ms, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()

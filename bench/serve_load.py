"""The server under load, beside LiteLLM's proxy and optillm, all in front of the same scripted upstream.

    python bench/serve_load.py --litellm .venv-bench-litellm --optillm .venv-bench-optillm

Prints, at 64 concurrent streams: finished streams a second, processor seconds per 1,000 chunks of each server (its own
processes, not the upstream's nor the client's), and the median latency a chunk gains over going to the upstream
directly. Then `--hold N` holds N slow streams for `--minutes` and watches memory, and `--cancel N` begins N streams,
leaves them, and looks for what is left behind.

The peers pass `/v1/chat/completions` through. The dial does more: it renders the template, asks for thinking and for
the answer separately, and counts. Peers live in environments of their own:

    python -m venv .venv-bench-litellm && .venv-bench-litellm/bin/pip install 'litellm[proxy]'
    python -m venv .venv-bench-optillm && .venv-bench-optillm/bin/pip install optillm

optillm's own requirements are several gigabytes; passing through needs few of them: `pip install --no-deps optillm`,
then openai, flask, cerebras_cloud_sdk, z3-solver, networkx, numpy, sympy, math_verify, aiohttp, requests and PyYAML.

All on the loopback address of one machine, which upstream, servers and client share: with two cores the client and the
upstream take their part of them, so the ratios are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))

THINKING, ANSWER = 60, 20
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Load:
    """What the client saw."""

    num_finished: int = 0
    num_failed: int = 0
    num_chunks: int = 0
    seconds: float = 0.0
    delays: list[float] = field(default_factory=list)
    """Seconds from the upstream's writing of a chunk to the client's reading of it."""
    first_error: str = ""


@contextmanager
def running(command: Sequence[str], port: int, log: Path, more: dict[str, str] | None = None) -> Iterator[int]:
    """A server process that answers on a port; its process id."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (more or {})
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True, cwd=REPO)
        try:
            for _ in range(1200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if process.poll() is not None:
                    raise SystemExit(f"{command[0]} ended:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [pid]
    if children.exists():
        for child in children.read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    total = 0.0
    for one in family(pid):
        with suppress(OSError):
            parts = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(parts[11]) + int(parts[12])) / TICKS
    return total


def memory_mb(pid: int) -> float:
    total = 0
    for one in family(pid):
        with suppress(OSError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total / 1e6


def num_files(pid: int) -> int:
    """Open files and connections of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def metrics(port: int) -> dict[str, float]:
    """The dial's own counts, those without labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        lines = [line.rpartition(" ") for line in reply.read().decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, _, value in lines if "{" not in name}


def request(port: int, path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Authorization: Bearer sk-bench\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


async def one_stream(port: int, raw: bytes, load: Load) -> None:
    """One streamed request, read to its end with as little work as will do."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(raw)
        tail, status = b"", b""
        while data := await reader.read(1 << 16):
            now = time.monotonic()
            status = status or data[9:12]
            text = tail + data
            # What every chunk has once, whoever wrote it.
            load.num_chunks += data.count(b'"choices"')
            for at in _times(data):
                load.delays.append(now - at)
            if b"data: [DONE]" in text or status != b"200":
                break
            tail = data[-20:]
        writer.close()
        if b"[DONE]" in text and status == b"200":
            load.num_finished += 1
            return
        load.first_error = load.first_error or text[:300].decode("latin-1")
    except OSError as error:
        load.first_error = load.first_error or str(error)
    load.num_failed += 1


def _times(data: bytes) -> Iterator[float]:
    """The times that a paced upstream writes in place of words."""
    for key in (b'"content":', b'"reasoning":'):
        start = 0
        while (start := data.find(key, start)) >= 0:
            start += len(key)
            found = data[start : start + 16].strip().partition(b'"')[2].partition(b'"')[0].strip()
            if found[:1].isdigit():
                with suppress(ValueError):
                    yield float(found)


@dataclass(frozen=True)
class Target:
    name: str
    command: tuple[str, ...]
    port: int
    body: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    path: str = "/v1/chat/completions"


async def drive(target: Target, streams: int, seconds: float = 0.0) -> Load:
    """`streams` at a time; each is followed by another for so many seconds, and all are read to their end."""
    load, raw = Load(), request(target.port, target.path, target.body)
    started = time.monotonic()

    async def worker() -> None:
        await one_stream(target.port, raw, load)
        while time.monotonic() < started + seconds:
            await one_stream(target.port, raw, load)

    await asyncio.gather(*(worker() for _ in range(streams)))
    load.seconds = time.monotonic() - started
    return load


MESSAGES = [{"role": "user", "content": "How many r's are in raspberry?"}]
PORTS = {"upstream": 8600, "s1kit": 8601, "litellm": 8602, "optillm": 8603}


def targets(given: argparse.Namespace, folder: Path) -> list[Target]:
    upstream = f"http://127.0.0.1:{PORTS['upstream']}"
    chat = {"model": "canned", "messages": MESSAGES, "stream": True}
    found = [Target("upstream alone", (), PORTS["upstream"], chat)]
    python = str(Path(sys.executable))
    code = "import sys; from s1kit.cli import main; sys.exit(main())"
    dial = (python, "-c", code, "serve", "--upstream", upstream, "--tokenizer", str(folder), "--log", "none")
    # A machine that is paused in the middle of a long run is no silent upstream.
    dial += ("--port", str(PORTS["s1kit"]), "--max-running", "2000", "--upstream-timeout", "900")
    found.append(Target("s1kit serve", dial, PORTS["s1kit"], chat | {"thinking_token_budget": 1000}))
    if given.litellm:
        config = folder / "litellm.yaml"
        parameters = {"model": "openai/canned", "api_base": upstream + "/v1", "api_key": "sk-bench"}
        config.write_text(json.dumps({"model_list": [{"model_name": "canned", "litellm_params": parameters}]}))
        command = (f"{given.litellm}/bin/litellm", "--config", str(config), "--port", str(PORTS["litellm"]))
        more = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True"}
        # It asks for no key, as the others do: the least work.
        more["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
        found.append(Target("LiteLLM proxy", (*command, "--host", "127.0.0.1"), PORTS["litellm"], chat, more))
    if given.optillm:
        command = (f"{given.optillm}/bin/optillm", "--approach", "none", "--port", str(PORTS["optillm"]))
        command += ("--base-url", upstream + "/v1", "--host", "127.0.0.1", "--log", "error")
        found.append(Target("optillm", command, PORTS["optillm"], chat, {"OPENAI_API_KEY": "sk-bench"}))
    return found


def canned(folder: Path, interval: float, thinking: int = THINKING, answer: int = ANSWER) -> tuple[str, ...]:
    """The command of the upstream. The tokenizer that belongs to it is written into `folder`."""
    from fixtures_models import SPECIALS, write_tokenizer
    from tokenizers import Tokenizer

    from s1kit.forcing.tokenizer import FileTokenizer

    write_tokenizer(folder, (*SPECIALS, "<think>", "</think>"))
    # The word that the upstream repeats is one token: an answer whose ids read as white space would be asked for again.
    file = str(folder / "tokenizer.json")
    words = Tokenizer.from_file(file)
    words.add_tokens([" so"])
    words.save(file)
    tokenizer = FileTokenizer(folder)
    ids = {"so": tokenizer.encode(" so"), "end": tokenizer.encode("</think>"), "eos": [tokenizer.eos_token_id]}
    program = str(REPO / "tests" / "servers" / "canned_upstream.py")
    numbers = ("--thinking", str(thinking), "--answer", str(answer), "--interval", str(interval))
    return (sys.executable, program, "--port", str(PORTS["upstream"]), *numbers, "--ids", json.dumps(ids))


def measure(target: Target, streams: int, seconds: float, folder: Path, upstream_pid: int) -> tuple[Load, float]:
    """The load that a server took, and the processor seconds that it took for it."""
    if not target.command:
        before = cpu_seconds(upstream_pid)
        load = asyncio.run(drive(target, streams, seconds))
        return load, cpu_seconds(upstream_pid) - before
    with running(target.command, target.port, folder / f"{target.port}.log", target.environment) as pid:
        asyncio.run(warm_up(target))
        before = cpu_seconds(pid)
        load = asyncio.run(drive(target, streams, seconds))
        return load, cpu_seconds(pid) - before


async def warm_up(target: Target) -> None:
    for _ in range(120):
        load = await drive(target, 4)
        if not load.num_failed:
            return
        await asyncio.sleep(1)
    raise SystemExit(f"{target.name} does not answer: {load.first_error}")


def throughput(given: argparse.Namespace, folder: Path) -> None:
    at_once = f"{given.streams} streams of {THINKING + ANSWER} words at a time"
    print(f"\n{at_once}, as fast as they go, {given.seconds:g} s or more")
    print(f"{'':16}{'streams/s':>11}{'chunks/s':>11}{'CPU s/1000 words':>18}{'failed':>8}")
    rates: dict[str, float] = {}
    with running(canned(folder, 0.0), PORTS["upstream"], folder / "upstream.log") as upstream_pid:
        for target in targets(given, folder):
            load, used = measure(target, given.streams, given.seconds, folder, upstream_pid)
            rates[target.name] = load.num_finished / load.seconds
            words = max(load.num_finished * (THINKING + ANSWER), 1)
            print(
                f"{target.name:16}{rates[target.name]:11.1f}{load.num_chunks / load.seconds:11.0f}"
                f"{1000 * used / words:18.4f}{load.num_failed:8}"
                + (f"  {load.first_error[:100]!r}" if load.num_failed else ""),
                flush=True,
            )
    for name, rate in rates.items():
        if name not in ("s1kit serve", "upstream alone") and rate:
            print(f"s1kit serve finishes {rates['s1kit serve'] / rate:.1f} times the streams of {name}")


def latency(given: argparse.Namespace, folder: Path) -> None:
    interval = 0.05
    print(f"\n{given.streams} streams, a word every {1000 * interval:.0f} ms: milliseconds from upstream to client")
    print(f"{'':16}{'median':>9}{'95 %':>9}{'99 %':>9}{'added':>9}{'CPU s/1000 chunks':>19}{'seconds':>9}{'failed':>8}")
    direct = 0.0
    with running(canned(folder, interval), PORTS["upstream"], folder / "upstream.log") as upstream_pid:
        for target in targets(given, folder):
            load, used = measure(target, given.streams, 5.0, folder, upstream_pid)
            cost = 1000 * used / max(1, load.num_finished * (THINKING + ANSWER))
            rest = f"{cost:19.4f}{load.seconds:9.1f}{load.num_failed:8}"
            if len(load.delays) < 100:
                print(f"{target.name:16}  no chunk carried its time: not streamed{rest}", flush=True)
                continue
            cuts = statistics.quantiles(load.delays, n=100)
            direct = direct or cuts[49]
            figures = (cuts[49], cuts[94], cuts[98], cuts[49] - direct)
            print(f"{target.name:16}" + "".join(f"{1000 * f:9.2f}" for f in figures) + rest, flush=True)


def hold(given: argparse.Namespace, folder: Path) -> None:
    """Many slow streams for long: memory must be flat."""
    seconds = given.minutes * 60
    target = targets(argparse.Namespace(litellm=None, optillm=None), folder)[1]
    print(f"\n{given.hold} streams held for {given.minutes:g} minutes, a word every {given.interval:g} s each")
    with (
        running(canned(folder, given.interval, 100_000, 1), PORTS["upstream"], folder / "upstream.log"),
        running(target.command, target.port, folder / "s1kit.log") as pid,
    ):
        # The same word for ever is a loop, which is left alone before the minimum.
        body = target.body | {"thinking_token_budget": 20_000, "min_thinking_tokens": 19_000}

        async def main() -> list[tuple[float, float]]:
            load, raw = Load(), request(target.port, target.path, body)
            tasks = [asyncio.ensure_future(one_stream(target.port, raw, load)) for _ in range(given.hold)]
            started, samples = time.monotonic(), []
            before = cpu_seconds(pid)
            for mark in range(10, int(seconds) + 1, 10):
                await asyncio.sleep(max(0.0, started + mark - time.monotonic()))
                samples.append((float(mark), memory_mb(pid)))
                if mark % 60 == 0 or mark == 10:
                    live = sum(not t.done() for t in tasks)
                    print(
                        f"  {mark:5} s: {live} streams, {load.num_chunks} chunks, {samples[-1][1]:.1f} MB", flush=True
                    )
            used = cpu_seconds(pid) - before
            print(f"  {1000 * used / max(1, load.num_chunks):.4f} CPU s/1000 chunks, {load.num_failed} failed")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return samples

        samples = asyncio.run(main())
        settled = [s for s in samples if s[0] >= 60] or samples
        slope = statistics.linear_regression(*zip(*settled, strict=True)).slope * 60 if len(settled) > 1 else 0.0
        print(f"  first {samples[0][1]:.1f} MB, last {samples[-1][1]:.1f} MB, {slope:+.3f} MB a minute after the first")
        time.sleep(3)
        print(f"  after they left: {memory_mb(pid):.1f} MB, {num_files(pid)} open files", flush=True)


def cancel(given: argparse.Namespace, folder: Path) -> None:
    """Streams that are begun and left: nothing may stay behind."""
    target = targets(argparse.Namespace(litellm=None, optillm=None), folder)[1]
    print(f"\n{given.cancel} streams begun and left")
    with (
        running(canned(folder, 0.2, 1000, 1), PORTS["upstream"], folder / "upstream.log") as upstream,
        running(target.command, target.port, folder / "s1kit.log") as pid,
    ):
        raw = request(target.port, target.path, target.body)

        async def one(gate: asyncio.Semaphore) -> None:
            async with gate:
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
                writer.write(raw)
                await reader.readuntil(b'"num_tokens"')
                writer.close()

        async def round() -> None:
            gate = asyncio.Semaphore(64)
            await asyncio.gather(*(one(gate) for _ in range(given.cancel)))

        def state() -> str:
            gauges = metrics(target.port)
            busy = f"{gauges['s1kit_in_flight']:g} running, {gauges['s1kit_queue']:g} waiting"
            left = f"{gauges['s1kit_cancelled_total']:g} left"
            files = f"{num_files(pid)} open files, {num_files(upstream)} at the upstream"
            return f"{memory_mb(pid):.1f} MB, {files}, {busy}, {left}"

        print(f"  before: {state()}")
        for i in range(given.rounds):
            asyncio.run(round())
            time.sleep(2)
            print(f"  after round {i + 1}: {state()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", metavar="VENV")
    parser.add_argument("--optillm", metavar="VENV")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of each server at full speed (default: %(default)s)"
    )
    parser.add_argument("--hold", type=int, default=0, metavar="N", help="e.g. 500; 0: leave it out")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="from word to word of a held stream")
    parser.add_argument("--cancel", type=int, default=0, metavar="N", help="e.g. 1000; 0: leave it out")
    parser.add_argument("--rounds", type=int, default=4, help="of --cancel; memory must not grow from one to the next")
    parser.add_argument("--only", choices=("throughput", "latency", "hold", "cancel"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only in (None, "throughput"):
            throughput(given, folder)
        if given.only in (None, "latency"):
            latency(given, folder)
        if given.hold:
            hold(given, folder)
        if given.cancel:
            cancel(given, folder)


if __name__ == "__main__":
    main()

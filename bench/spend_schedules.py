"""The cap of a run against a server that keeps its own ledger, over random schedules of faults, kills and processes.

    python bench/spend_schedules.py --num 1000

Each schedule draws a cap, prices, a concurrency, faults (429, 500, charged 504 and timeouts, streams and bodies that
are cut or end in an error), one to three processes on one run, and kills; the last processes run until the cap is
reached or nothing is left. Then the server's ledger and the journal's are compared:

- charged <= cap + one reservation (the claim; the excess found is printed);
- stopped by the cap only when the journal's total and one more reservation pass it;
- the journal's own total <= cap + one reservation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

PRICE = 1000.0
"""Dollars per million tokens, in and out."""
QUESTION_TOKENS = 3
FAULTS = ("429", "500", "504", "late", "cut", "stream cut", "error in 200", "error after text")


@dataclass
class Account:
    """What the server knows of one schedule."""

    charged: float = 0.0
    num_charged: int = 0
    num_delivered: int = 0
    seen: set[str] = field(default_factory=set)


class LedgerServer:
    """Chat completions by the token; `/<seed>/...` keeps the account of one schedule."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    async def chat(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        account = self.accounts.setdefault(name, Account())
        body = await request.json()
        dice = random.Random(f"{name} {body['messages'][-1]['content']} {len(account.seen)}")
        account.seen.add(str(account.num_charged + len(account.seen)))
        tokens = dice.randint(1, body["max_tokens"]) * body.get("n", 1)
        fault = dice.choice(FAULTS) if dice.random() < float(request.match_info["faults"]) else ""
        await asyncio.sleep(dice.uniform(0.0, 0.02))
        if fault in ("429", "500"):
            return web.json_response({"error": {"message": fault}}, status=int(fault), headers={"Retry-After": "0.01"})
        if fault == "error in 200":
            return web.json_response({"error": {"code": 502, "message": "upstream"}})
        account.charged += (QUESTION_TOKENS + tokens) * PRICE / 1e6
        account.num_charged += 1
        if fault == "504":
            return web.json_response({"error": {"message": "gateway"}}, status=504)
        if fault == "late":
            await asyncio.sleep(1.0)
        usage = {
            "prompt_tokens": QUESTION_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": QUESTION_TOKENS + tokens,
        }
        message = {"role": "assistant", "content": "<think>hm</think>4"}
        text = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
        content_type = "application/json"
        if body.get("stream"):
            content_type = "text/event-stream"
            chunk = {"choices": [{"index": 0, "delta": message, "finish_reason": None}]}
            last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
            text = f"data: {json.dumps(chunk)}\n\ndata: {json.dumps(last)}\n\ndata: [DONE]\n\n"
        if fault == "error after text":
            text = json.dumps({"choices": [{"message": message}], "error": {"code": 502, "message": "upstream"}})
            if body.get("stream"):
                text = f"data: {json.dumps(chunk)}\n\ndata: {json.dumps({'error': {'code': 502}})}\n\n"
        is_cut = "cut" in fault
        response = web.StreamResponse(headers={"Content-Type": content_type, "Content-Length": str(len(text))})
        await response.prepare(request)
        await response.write((text[: len(text) // 2] if is_cut else text).encode())
        if is_cut:
            assert request.transport is not None
            request.transport.close()
            return response
        account.num_delivered += 1
        return response

    async def account(self, request: web.Request) -> web.Response:
        account = self.accounts.get(request.match_info["name"], Account())
        fields = ("charged", "num_charged", "num_delivered")
        return web.json_response({name: getattr(account, name) for name in fields})


def serve() -> None:
    async def run() -> None:
        server = LedgerServer()
        app = web.Application()
        app.router.add_post("/{name}/{faults}/v1/chat/completions", server.chat)
        app.router.add_get("/{name}/account", server.account)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


@dataclass(frozen=True)
class Schedule:
    seed: int
    cap: float
    max_tokens: int
    extra_n: int
    concurrency: int
    faults: float
    kills: tuple[tuple[int, float], ...]
    """Groups of processes that are killed, with the seconds after which."""
    last: int
    """Processes that run to the end."""
    stream: bool

    @property
    def reservation(self) -> float:
        """The most one request can cost, as the client reckons: a token a byte of the question, and its markup."""
        return (len("question 0000") + 32 + self.max_tokens * self.extra_n) * PRICE / 1e6


def draw(seed: int) -> Schedule:
    dice = random.Random(seed)
    max_tokens, extra_n = dice.choice((20, 60, 200)), dice.choice((1, 1, 1, 4))
    each = max_tokens * extra_n * PRICE / 1e6
    return Schedule(
        seed=seed,
        cap=each * dice.choice((dice.uniform(1.5, 40.0), dice.uniform(40.0, 100.0))),
        max_tokens=max_tokens,
        extra_n=extra_n,
        concurrency=dice.choice((1, 4, 16, 64)),
        faults=dice.choice((0.0, 0.1, 0.3)),
        kills=tuple((dice.randint(1, 3), dice.uniform(0.02, 0.3)) for _ in range(dice.randint(0, 3))),
        last=dice.randint(1, 3),
        stream=dice.random() < 0.5,
    )


def client(schedule: Schedule, port: int, journal: Path, first: int) -> None:
    """One process of a run, in a child of a fork. Exits 3 when the cap stopped it."""
    from s1kit.journal import Journal
    from s1kit.providers import patience
    from s1kit.providers.chat import Parameters, Stopped
    from s1kit.providers.client import open_client
    from s1kit.providers.spend_cap import CapReached
    from s1kit.providers.sync import chat_many
    from s1kit.providers.throttle import ThrottleSettings

    patience.MAX_SECONDS_BETWEEN = 0.02
    extra = {"n": schedule.extra_n} if schedule.extra_n > 1 else {}
    with Journal(journal) as opened:
        opened_client = open_client(
            f"chat:http://127.0.0.1:{port}/{schedule.seed}/{schedule.faults}/v1#m",
            opened,
            parameters=Parameters(max_output_tokens=schedule.max_tokens, extra=extra),
            price={"input": PRICE, "output": PRICE},
            cap_usd=schedule.cap,
            run="r",
            throttle=ThrottleSettings(max_in_flight=schedule.concurrency, breaker_seconds=0.05, breaker_trials=50),
            timeout_seconds=0.5,
            stream=schedule.stream,
        )
        questions = [[{"role": "user", "content": f"question {n:04d}"}] for n in range(first, first + 60)]
        try:
            chat_many(opened_client, questions, opened, concurrency=schedule.concurrency)
        except CapReached:
            os._exit(3)
        except Stopped as stopped:
            print(f"schedule {schedule.seed}: {stopped}", file=sys.stderr)
            os._exit(4)
    os._exit(0)


def start(schedule: Schedule, port: int, journal: Path, num: int, first: int) -> list[int]:
    children = []
    for number in range(num):
        child = os.fork()
        if not child:
            try:
                client(schedule, port, journal, first + number * 30)  # half of the questions are shared
            finally:
                os._exit(5)
        children.append(child)
    return children


def play(schedule: Schedule, port: int, folder: Path) -> dict[str, Any]:
    journal = folder / "journal.sqlite"
    first = 0
    for num, seconds in schedule.kills:
        children = start(schedule, port, journal, num, first)
        time.sleep(seconds)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        first += 500
    ends = [
        os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in start(schedule, port, journal, schedule.last, first)
    ]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{schedule.seed}/account") as reply:
        account = json.load(reply)
    from s1kit.journal import Journal

    with Journal(journal) as opened:
        total, held = opened.ledger.total("r"), opened.ledger.held("r")
        lost = opened.ledger.database.rows("SELECT count(*) FROM charges WHERE run = 'r' AND state = 'lost'")[0][0]
    return account | {"ends": ends, "total": total, "held": held, "lost": lost}


def judge(schedule: Schedule, seen: dict[str, Any]) -> list[str]:
    """What the schedule shows to be wrong."""
    wrong = []
    if seen["charged"] > schedule.cap + schedule.reservation + 1e-9:
        wrong.append("the server charged more than the cap and one reservation")
    if 3 in seen["ends"] and seen["total"] + schedule.reservation <= schedule.cap:
        wrong.append("it stopped although another reservation would have fitted")
    if seen["total"] > schedule.cap + schedule.reservation + 1e-9:
        wrong.append("the journal counts more than the cap and one reservation")
    if seen["held"] > 1e-9 and len(seen["ends"]) == 1:
        wrong.append("something is still held at the end")
    if set(seen["ends"]) - {0, 3}:
        wrong.append(f"a process ended with {seen['ends']}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return 0
    import s1kit.providers.sync  # noqa: F401 - before the forks, so that each starts at once

    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    port, num_wrong, shares, num_capped = int(server.stdout.readline()), 0, [], 0
    started = time.monotonic()
    try:
        for seed in range(given.seed, given.seed + given.num):
            schedule = draw(seed)
            with tempfile.TemporaryDirectory(prefix="s1kit-spend-") as folder:
                seen = play(schedule, port, Path(folder))
            if len(shares) % 100 == 99:
                print(f"{len(shares) + 1} schedules", flush=True)
            num_capped += 3 in seen["ends"]
            shares.append(seen["charged"] / schedule.cap)
            for text in judge(schedule, seen):
                num_wrong += 1
                print(f"schedule {seed}: {text}\n  {schedule}\n  {seen}")
    finally:
        server.kill()
        server.communicate()
    over = [share for share in shares if share > 1.0]
    print(
        f"{given.num} schedules in {time.monotonic() - started:.0f} s, {num_capped} reached the cap: {num_wrong} wrong;"
        f" {len(over)} charged above the cap; most {max(shares):.1%} of it"
    )
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())

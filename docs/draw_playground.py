"""The pictures of the playground: python docs/draw_playground.py [FOLDER]

Serves the tiny model, opens the page in Chromium at 1280 by 900 and, as a phone, 390 by 844 pixels, runs a question
under several settings, and keeps what is in view in docs/images.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.chromium import Tab, chromium, find_chromium
from serving import serving

from s1kit import load_engine
from s1kit.serve.local import Local
from s1kit.tiny.questions import held_out_questions

IMAGES = Path(__file__).parent / "images"
DONE = "!document.querySelector('.run.busy') && document.getElementById('news').textContent.startsWith('Done')"
RUNS = "run=max%3D16&run=&run=waits%3D1"


async def backend(_: AsyncExitStack) -> Local:
    return Local(load_engine("tiny"), "tiny")


async def run(tab: Tab, url: str, button: str = "run") -> None:
    """Open the page, press a button, and wait for all runs to be done."""
    await tab.open(url)
    await tab.js(f"document.getElementById({button!r}).click()")
    await tab.until(DONE, seconds=240)
    await asyncio.sleep(1)


async def draw(url: str, question: str, folder: Path) -> None:
    asked = f"{url}/#q={quote(question)}&"
    browser = find_chromium()
    if browser is None:
        raise SystemExit("there is no Chromium here; install the package `chromium`")
    async with chromium(browser) as tab:
        for name, dark in (("playground", False), ("playground-dark", True)):
            await tab.resize(1280, 900, dark=dark)
            await run(tab, asked + RUNS)
            await tab.js("scrollTo(0, 0)")
            await tab.picture(folder / f"{name}.png")
        await tab.resize(1280, 900)
        await run(tab, asked, "waits")
        await tab.picture(folder / "playground-waits.png")
        await tab.resize(390, 844, phone=True)
        await run(tab, asked + "run=waits%3D1")
        await tab.js("scrollTo(0, 0)")
        await tab.picture(folder / "playground-phone.png")
        assert await tab.js("document.documentElement.scrollWidth") <= 390
        assert await tab.js("innerWidth") == 390
        if tab.complaints:
            raise SystemExit(f"the page complains: {tab.complaints}")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    examples = [question.text for question in held_out_questions(8, seed=0, split="development")]
    with serving(backend, examples=examples) as server:
        asyncio.run(draw(server.url, examples[0], folder))


if __name__ == "__main__":
    main()

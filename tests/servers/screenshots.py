"""Pictures of the playground, for the documentation: `python tests/servers/screenshots.py URL FOLDER [QUESTION]`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))
from chromium import chromium, find_chromium

DONE = "!document.querySelector('.run.busy') && document.getElementById('news').textContent.startsWith('Done')"
RUNS = {
    "playground": ["max=16", "", "waits=1"],
    "playground-dark": ["max=0", "max=16", ""],
    "playground-phone": ["waits=1"],
    "playground-waits": ["", "waits=1", "waits=2&wait=Alternatively"],
}


async def main(url: str, folder: Path, question: str) -> None:
    path = find_chromium()
    assert path, "no Chromium here"
    async with chromium(path) as tab:
        for name, runs in RUNS.items():
            is_phone = name.endswith("phone")
            width, height = (390, 844) if is_phone else (1280, 900)
            await tab.resize(width, height, dark=name.endswith("dark"), phone=is_phone)
            asked = question or await first_example(tab, url)
            await tab.open(f"{url}/#q={quote(asked)}" + "".join(f"&run={quote(run)}" for run in runs))
            await tab.js("document.getElementById('run').click()")
            await tab.until(DONE, seconds=60)
            await tab.js("document.activeElement.blur(), scrollTo(0, 0)")
            await tab.picture(folder / f"{name}.png")


async def first_example(tab: object, url: str) -> str:
    await tab.open(url)  # type: ignore[attr-defined]
    return str(await tab.js("document.querySelector('#examples button').title"))  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), " ".join(sys.argv[3:])))

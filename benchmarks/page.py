"""The page as a visitor meets it: first sound, playable, drawn, cancel, and the wait behind somebody's long job.

`python -m benchmarks.page` serves the page as a process of its own, and uses it in headless Chromium, on clips of 2 s,
2 minutes and 10 minutes. Times are seconds from the click. It needs Chromium, and playwright as the tests do.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.common import environment, finish, table
from benchmarks.memory import resident_mb

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "examples" / "english.wav"
LENGTHS_S = (2, 120, 600)
RESULTS = (5, 50, 100)  # after so many, memory is looked at
PATIENCE_MS = 300_000
# The page says when the first sound starts, by the clock of the page.
EAR = """
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...given) {
    window.firstSound ??= performance.now();
    return start.apply(this, given);
};
"""
READY = "document.querySelector('#result .tts-scope').dataset.ready !== window.before"
DRAWN = "document.querySelector('#result .tts-scope').dataset.window !== undefined"
IDLE = "document.querySelector('#status .tts-status').hidden || !document.querySelector('#status [data-busy]')"
CANCEL = """async () => {
    const busy = () => document.querySelector('#status [data-busy]');
    if (!busy()) return null;
    const begin = performance.now();
    document.querySelector('#status button').click();
    while (busy()) await new Promise((resolve) => setTimeout(resolve, 5));
    return (performance.now() - begin) / 1000;
}"""


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """The address of a page of this machine, and the process that serves it."""
    command = [sys.executable, "-u", "app.py", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
            yield address, process.pid
        finally:
            process.terminate()


def clip_of(folder: Path, seconds: int) -> Path:
    samples, rate = soundfile.read(CLIP, dtype="int16")
    path = folder / f"{seconds}.wav"
    soundfile.write(path, np.resize(samples, seconds * rate), rate)
    return path


def visitor(browser: Browser, address: str, clip: Path) -> Page:
    """A freshly opened page with a clip in it."""
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(EAR)
    page.goto(address)
    page.locator("#synthesize").wait_for()
    page.wait_for_timeout(500)  # Gradio lays its tabs out
    give(page, clip)
    return page


def give(page: Page, clip: Path) -> None:
    if page.locator("#input-audio input[type=file]").count() == 0:
        page.locator("#input-audio").get_by_role("button", name=re.compile("clear|remove", re.I)).click()
    page.locator("#input-audio input[type=file]").set_input_files(clip)
    page.locator("#input-audio", has_text=re.compile(r"\d:\d\d")).wait_for()
    page.wait_for_function(IDLE)


def pressed(page: Page, button: str) -> float:
    """Press, and give the moment by this program's clock."""
    page.evaluate(
        """() => {
            const scope = document.querySelector('#result .tts-scope');
            Object.assign(window, { before: scope?.dataset.ready, firstSound: undefined });
            if (scope) delete scope.dataset.window;
        }"""
    )
    begin = time.perf_counter()
    page.locator(button).click()
    return begin


def until(page: Page, condition: str, begin: float) -> float:
    page.wait_for_function(condition, polling=20)
    return time.perf_counter() - begin


def decoded(page: Page) -> tuple[float, float]:
    """Seconds until the result can be played, and until it is drawn."""
    begin = pressed(page, "#synthesize")
    return until(page, READY, begin), until(page, DRAWN, begin)


def first_sound(page: Page) -> float:
    """Seconds until Listen sounds; then it is cancelled."""
    heard = until(page, "window.firstSound !== undefined", pressed(page, "#listen"))
    cancelled(page)
    page.wait_for_function(IDLE)
    return heard


def cancelled(page: Page) -> float | None:
    """Seconds from a click on Cancel until the page says that nothing runs; None: it had ended before."""
    found: float | None = page.evaluate(CANCEL)
    return found


def cancel(page: Page) -> float | None:
    pressed(page, "#synthesize")
    page.wait_for_timeout(300)
    return cancelled(page)


def median(measure: Callable[[], float | None], rounds: int) -> float | None:
    found = [value for _ in range(rounds) if (value := measure()) is not None]
    return statistics.median(found) if found else None


def row(browser: Browser, address: str, folder: Path, seconds: int, rounds: int) -> dict[str, Any]:
    """One line of the table."""
    page = visitor(browser, address, clip_of(folder, seconds))
    heard = median(lambda: first_sound(page), rounds)
    times = [decoded(page) for _ in range(rounds if seconds < 600 else 1)]
    playable, drawn = (statistics.median(column) for column in zip(*times, strict=True))
    found = {"clip s": seconds, "first sound": heard, "playable": playable, "drawn": drawn}
    found["cancel"] = median(lambda: cancel(page), rounds) if seconds > 2 else None
    page.context.close()
    return found


def waits(browser: Browser, address: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """What a visitor with 2 s waits: alone, behind somebody's 10 minutes, and after that page was loaded again."""
    short, long = clip_of(folder, 2), clip_of(folder, 600)
    page, other = visitor(browser, address, short), visitor(browser, address, long)
    alone = median(lambda: decoded(page)[0], rounds)
    pressed(other, "#synthesize")
    other.wait_for_timeout(1000)
    behind = median(lambda: decoded(page)[0], rounds)
    other.reload()
    after = decoded(page)[0]
    page.context.close()
    other.context.close()
    names = ("alone", "beside a job of 600 s", "right after that page was loaded again")
    return [{"2 s, playable": name, "s": value} for name, value in zip(names, (alone, behind, after), strict=True)]


def memory(browser: Browser, address: str, process: int, folder: Path) -> list[dict[str, Any]]:
    """Resident megabytes of the server after some results of 10 s, and after many."""
    page = visitor(browser, address, clip_of(folder, 10))
    rows = []
    for count in range(1, RESULTS[-1] + 1):
        decoded(page)
        if count in RESULTS:
            rows.append({"results": count, "resident MB": resident_mb(process)})
    page.context.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each time; the median is shown (default: 3)")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS_S, help="of clips in seconds")
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("there is no Chromium on this machine")
    setting = environment("gradio", "playwright")
    print(setting)
    with tempfile.TemporaryDirectory() as temporary, serving() as (address, process), sync_playwright() as playwright:
        folder = Path(temporary)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        row(browser, address, folder, 2, 1)  # warm
        rows = [row(browser, address, folder, seconds, args.rounds) for seconds in args.lengths]
        table("seconds from the click", rows)
        others = waits(browser, address, folder, args.rounds)
        table("two visitors", others)
        kept = memory(browser, address, process, folder)
        table("memory of the server", kept)
        browser.close()
    finish("page", setting, [{"times": rows, "visitors": others, "memory": kept}])


if __name__ == "__main__":
    main()

"""The page and the server under load: good and bad requests, cancelled and dropped ones, and those of strangers.

`python -m benchmarks.load` starts `app.py` and `tts-infer serve` as processes of their own. Every good answer must
equal the samples of the API, every bad one must say what is wrong, and afterwards memory, files and calls are gone.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import environment, finish, table
from benchmarks.load_files import BAD
from benchmarks.load_findings import Run, Truth
from benchmarks.load_page import of_page
from benchmarks.load_server import of_server


def campaign(args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Run everything; returns the rows of requests, the rows of borders, and every fault in words."""
    with tempfile.TemporaryDirectory() as name:
        run = Run(Truth(), Path(name), args)
        tallies = [asyncio.run(of_page(run)), asyncio.run(of_server(run))]
    run.border("no answer tells of files or code of the server", not run.leaks, run.leaks[:3])
    faults = [f"{kind}: {said}" for tally in tallies for kind, all_said in tally.wrong.items() for said in all_said]
    faults += [f"{row['border']}: {row['holds']}" for row in run.borders if row["holds"] != "yes"]
    return [row for tally in tallies for row in tally.rows()], run.borders, faults


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20, help="at once (default: 20)")
    parser.add_argument("--requests", type=int, default=400, help="to each (default: 400)")
    parser.add_argument(
        "--warm",
        type=int,
        default=140,
        help="requests before memory is measured, so that every thread has computed (default: 140)",
    )
    parser.add_argument("--keep", type=int, default=120, help="seconds for which the page keeps files (default: 120)")
    parser.add_argument("--bad", nargs="*", default=list(BAD), choices=list(BAD), help="bad files (default: all)")
    return parser.parse_args(arguments)


def main() -> None:
    args, setting = options(), environment("gradio", "uvicorn", "httpx")
    print(setting)
    requests, borders, faults = campaign(args)
    table(f"{args.clients} clients", requests)
    table("borders", [{**row, "holds": row["holds"][:3]} for row in borders])  # faults are told in full below
    for fault in faults:
        print(fault[:1000])
    finish("load", setting, [{"requests": requests, "borders": borders, "faults": faults}])
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()

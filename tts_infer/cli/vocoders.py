"""`tts-infer vocoders`: list the known vocoders, or show one."""

from __future__ import annotations

import argparse
import json
from typing import Any

import tts_infer
from tts_infer.cli.arguments import add_json_argument

_STATUS = {"embedded": "embedded", "cached": "cached", "not cached": "needs a download", "local": "local"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `vocoders`."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="known name, local directory or weights file to show")
    parser.add_argument("--config", metavar="C", help="as for decode")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the known vocoders, or all that is known of one.

    Returns:
        0.
    """
    if args.name is None:
        rows = tts_infer.list_vocoders()
        print(json.dumps(rows) if args.json else "\n".join(map(_row, rows)))
        return 0
    shown = tts_infer.describe_vocoder(args.name, config=args.config)
    print(json.dumps(shown) if args.json else _page(shown))
    return 0


def _size(row: dict[str, Any]) -> str:
    size, status = row["size_mb"], _STATUS[row["status"]]
    if row["status"] == "not cached":
        return f"{status}, size not known" if size is None else f"{status}, about {size:g} MB"
    return status if size is None else f"{status}, {size:g} MB"


def _row(row: dict[str, Any]) -> str:
    head = f"{row['name']:<36}{row['sample_rate']:>6} Hz  {row['takes']:<18}{_size(row)}"
    source = "" if row["status"] == "embedded" else f" From {row['where']}."
    return f"{head}\n    {row['description']} License: {row['license']}.{source}"


def _page(shown: dict[str, Any]) -> str:
    """One line for each thing that is known; of what the files alone say, it is said how to see it."""
    files = _size(shown) + ("" if shown["status"] == "embedded" else f": {shown['where']}")
    lines = {"files": files, "about": shown["description"], "license": shown["license"]}
    lines |= {"takes": shown["takes"], "gives": f"audio at {shown['sample_rate']} Hz"}
    values = ", ".join(f"{key} {value}" for key, value in shown["convention"].items())
    lines["convention"] = f"{shown['convention_name']}: {values}" if shown["convention_name"] else values
    if shown["architecture"] is not None:
        lines["architecture"] = shown["architecture"]
        lines["parameters"] = f"{shown['parameters']:,}"
        lines["stages"] = ", ".join(shown["stages"])
        if shown["receptive_field"] is None:
            lines["receptive field"] = "the whole signal: no streams, no pieces"
        else:
            lines["receptive field"] = f"{shown['receptive_field']} frames on each side"
            stream = f"{shown['delay_frames']} frames, {shown['delay_ms']:.0f} ms"
            lines["latency of a stream"] = f"{stream} (with {shown['refine']} refinement passes)"
    else:
        lines["architecture"] = f"{shown['family']}; its files say the sizes, stages, receptive field and latency"
        lines["to fetch them"] = f'python -c "import tts_infer; tts_infer.load_vocoder({shown["name"]!r})"'
    text = "\n".join(f"{name:<20} {value}" for name, value in lines.items() if value)
    return f"{shown['name']}\n{text}"

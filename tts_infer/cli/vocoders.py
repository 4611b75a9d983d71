"""`tts-infer vocoders`: the known vocoders."""

from __future__ import annotations

import argparse
import json

import tts_infer
from tts_infer.cli.arguments import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `vocoders`."""
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the known vocoders.

    Returns:
        0.
    """
    rows = [
        {
            "name": known.name,
            "where": known.repo_id or "embedded",
            "sample_rate": known.mel.sample_rate,
            "n_mels": known.mel.n_mels,
            "license": known.license,
            "description": known.description,
        }
        for known in tts_infer.known_vocoders().values()
    ]
    if args.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        print(f"{row['name']:<28}{row['sample_rate']:>6} Hz {row['n_mels']:>4} mels  {row['where']}")
        print(f"    {row['description']} License: {row['license']}.")
    return 0

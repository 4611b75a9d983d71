"""`tts-infer doctor`: what this machine has, and what runs where and why."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from tts_infer import DEFAULT_VOCODER, clear_checks, doctor
from tts_infer.cli.arguments import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `doctor`."""
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps, ... (default: auto)")
    parser.add_argument("--vocoder", default=DEFAULT_VOCODER, metavar="V", help="whose stages (default: %(default)s)")
    parser.add_argument("--no-cache", action="store_true", help="measure anew what suits this machine, and keep it")
    parser.add_argument("--audit", choices=["mps"], help="judge every operator of the stages for Apple GPUs instead")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report or the audit.

    Returns:
        0; 1 if the audit finds that the default path of accelerators is not clean in every release.
    """
    if args.audit:
        rows = doctor.audit_stages()
        clean = all(row.clean for row in rows if row.path.startswith("matmul"))
        stages = [asdict(row) for row in rows]
        print(json.dumps({"clean": clean, "stages": stages}) if args.json else doctor.audit_text(rows))
        return 0 if clean else 1
    if args.no_cache:
        clear_checks()
    report = doctor.examine(args.device, args.vocoder)
    print(json.dumps(report) if args.json else doctor.report_text(report))
    return 0

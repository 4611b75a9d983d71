"""The losses of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path


def plot(log: Path, picture: Path) -> None:
    """Draw every column of a `log.jsonl` over the steps, one small panel each. An empty log draws nothing."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    if not lines:
        return
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    rows = -(-len(names) // 3)
    figure, axes = pyplot.subplots(rows, 3, figsize=(12, 2.4 * rows), squeeze=False, layout="constrained")
    for panel in axes.flat[len(names) :]:
        panel.axis("off")
    for name, panel in zip(names, axes.flat, strict=False):
        points = [(line["step"], line[name]) for line in lines if name in line]
        panel.plot(*zip(*points, strict=True), linewidth=1)
        panel.set_title(name, fontsize=10)
        panel.grid(alpha=0.3)
    figure.savefig(picture, dpi=90)
    pyplot.close(figure)

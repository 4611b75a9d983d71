"""What every report is: one HTML file that needs nothing else. It holds text, boxes and data URIs only: no script, no
font, no request. Its colours follow the reader's light or dark setting.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

import soundfile

from tts_infer.arguments import checked
from tts_infer.errors import FileError
from tts_infer.evaluation.metrics import Samples
from tts_infer.io.audio import to_int16
from tts_infer.io.writer import require_place, whole_file
from tts_infer.report.html import data_uri, escape
from tts_infer.report.pictures import STYLE, import_pillow

EXAMPLE_SECONDS = 10.0
_STYLE = (
    STYLE
    + """
:root { color-scheme: light dark; }
body { max-width: 1180px; margin: 0 auto; padding: 16px; font: 15px/1.45 system-ui, sans-serif; }
body { background: light-dark(#fff, #16181c); color: light-dark(#1c1e22, #e4e6ea); }
h1 { font-size: 24px; margin: 8px 0; }
h2 { font-size: 18px; margin: 32px 0 8px; }
h3 { font-size: 15px; margin: 24px 0 6px; overflow-wrap: anywhere; }
p, ul { margin: 6px 0; max-width: 80ch; }
small { opacity: .75; }
.tts-plot .view { cursor: default; }
audio { margin-bottom: 10px; display: block; width: 100%; height: 40px; }
"""
)


def document(title: str, sections: Iterable[str], style: str = "") -> str:
    """A whole page.

    Args:
        title: as text.
        sections: HTML.
        style: CSS besides that of every report.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content='
        f'"width=device-width, initial-scale=1"><title>{escape(title)}</title><style>{_STYLE}{style}</style></head>'
        f"<body><h1>{escape(title)}</h1>{''.join(sections)}</body></html>\n"
    )


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Write a report, whole or not at all. An existing file is replaced.

    Raises:
        FileError: the system refuses to write.
    """
    try:
        with whole_file(path) as part:
            # file names are bytes, and some are not valid text
            part.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        if isinstance(error, FileError):
            raise
        reason = error.strerror or str(error)
        raise FileError(
            "cannot write {path}: {reason}", code="unwritable", path=os.fspath(path), reason=reason
        ) from None


@checked()
def check_report(path: str | os.PathLike[str]) -> None:
    """Refuse early what `write_page` would refuse later.

    Raises:
        FileError: the extension is not .html, the folder does not exist, or the system does not allow the name.
        MissingPackageError: no Pillow.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        text = "cannot write {path}: extension {suffix!r}; allowed: .html"
        raise FileError(text, code="report-extension", path=str(path), suffix=path.suffix)
    require_place(path)
    import_pillow()


def player(label: str, samples: Samples, sample_rate: int, note: str = "") -> str:
    """A player of the first 10 s, 16 bit, at their own level.

    Args:
        label, note: as text.

    Shape: samples of (T,)
    """
    stored = io.BytesIO()
    clip, _ = to_int16(samples[: round(EXAMPLE_SECONDS * sample_rate)])
    soundfile.write(stored, clip, sample_rate, format="FLAC", subtype="PCM_16")
    name = escape(label)
    return (
        f'<div>{name}<small>{note}</small><audio controls preload="none" aria-label="{name}" '
        f'src="{data_uri("audio/flac", stored.getvalue())}"></audio></div>'
    )

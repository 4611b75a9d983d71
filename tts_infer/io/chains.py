"""Ogg files that are several, one behind the other, as radio stations and `cat` make them.

libsndfile reads the first one, and says nothing of the others.
"""

from __future__ import annotations

from typing import BinaryIO

_HEAD = 27  # bytes of a page before the table of its segments
_FIRST = 2  # the flag of the first page of a stream
_MOST_PAGES = 2**20  # an hour has some thousands


def links(file: BinaryIO) -> list[int]:
    """Where each of the files in a file begins; just [0] if it is one, or no Ogg at all. It is left at its beginning.

    Source: RFC 3533, sections 4 and 6: a link begins with the first pages of all its streams.
    """
    starts, place, before = [0], 0, True
    for _ in range(_MOST_PAGES):
        file.seek(place)
        page = file.read(_HEAD + 255)
        if page[:4] != b"OggS" or len(page) < _HEAD:
            break
        is_first = bool(page[5] & _FIRST)
        if is_first and not before:
            starts.append(place)
        before = is_first
        segments = page[26]
        place += _HEAD + segments + sum(page[_HEAD : _HEAD + segments])
    file.seek(0)
    return starts

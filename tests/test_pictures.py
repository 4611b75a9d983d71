from __future__ import annotations

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import LogMel
from tts_infer.report.pictures import (
    DIVERGING,
    MAGMA,
    MAX_COLUMNS,
    mel_pictures,
    stage_bars,
    stage_table,
    stage_waterfall,
)
from tts_infer.runtime.timing import StageRecord

CONFIG = MelConfig()
STAGES: list[StageRecord] = [
    {"stage": "mel", "device": "cpu", "engine": "torch", "method": "matmul", "ms": 2.0, "bytes": 0},
    {"stage": "transfer", "device": "cpu->cuda:0", "engine": "torch", "method": "copy", "ms": 1.0, "bytes": 40000},
    {"stage": "backbone", "device": "cuda:0", "engine": "torch", "method": "eager", "ms": 5.0, "bytes": 0},
]


def images(markup: str) -> list[np.ndarray]:
    """The pixels of every image in the markup, (height, width, 3)."""
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', markup)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")) for source in sources]


def colour(hexadecimal: str) -> list[int]:
    return list(bytes.fromhex(hexadecimal))


def test_one_pixel_per_value_with_low_frequencies_at_the_bottom() -> None:
    mel = torch.full((100, 7), -20.0)
    mel[0, 3] = 0.0
    (image,) = images(mel_pictures([("Mel", mel)], CONFIG))
    assert image.shape == (100, 7, 3)
    assert image[-1, 3].tolist() == colour(MAGMA.split()[-1])
    assert image[0, 3].tolist() == image[-1, 2].tolist() == colour(MAGMA.split()[0])


def test_all_panels_share_one_scale() -> None:
    loud, quiet = torch.zeros(100, 4), torch.full((100, 4), -40.0 / CONFIG.db_per_unit)
    loud_image, quiet_image = images(mel_pictures([("A", loud), ("B", quiet)], CONFIG, range_db=80.0))
    assert loud_image[0, 0].tolist() == colour(MAGMA.split()[-1])
    # half way down the scale is the middle anchor; rounding to 256 steps moves a channel by at most 2
    assert np.abs(quiet_image[0, 0].astype(int) - colour(MAGMA.split()[8])).max() <= 2


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("hz", [500, 1000, 4000])
def test_a_tone_lies_at_its_tick(scale: str, hz: int) -> None:
    config = MelConfig(mel_scale=scale)  # type: ignore[arg-type]
    tone = torch.sin(2 * math.pi * hz * torch.arange(24000) / 24000)[None]
    mel = LogMel(config)(tone)[0]
    markup = mel_pictures([("Tone", mel)], config)
    ticks = {int(label): float(at) / 100 for at, label in re.findall(r"bottom:([\d.]+)%\">(\d+)<", markup)}
    loudest = (int(mel.mean(dim=1).argmax()) + 0.5) / config.n_mels
    assert ticks[hz] == pytest.approx(loudest, abs=0.75 / config.n_mels)  # half a bin, and the filters' asymmetry


@pytest.mark.parametrize(("frames", "last_tick"), [(1, 0.01), (94, 1.0), (938, 10.0), (56250, 600.0)])
def test_time_axis_spans_the_frames(frames: int, last_tick: float) -> None:
    markup = mel_pictures([("Mel", torch.zeros(100, frames))], CONFIG).partition("tts-scales")[0]
    ticks = [(float(label), float(at) / 100) for at, label in re.findall(r"left:([\d.]+)%\">([\d.]+)<", markup)]
    assert ticks[0] == (0.0, 0.0)
    assert ticks[-1][0] == last_tick
    for seconds, at in ticks:
        # positions are written with four digits
        assert at == pytest.approx(seconds / (frames * CONFIG.hop_length / CONFIG.sample_rate), abs=1e-4)


def test_a_click_stays_visible_in_a_long_mel() -> None:
    mel = torch.full((100, 56250), -10.0)
    mel[:, 31007] = 0.0
    (image,) = images(mel_pictures([("Long", mel)], CONFIG))
    assert image.shape[1] == MAX_COLUMNS
    bright = np.flatnonzero((image[0] == colour(MAGMA.split()[-1])).all(axis=1))
    assert bright.tolist() == [31007 * MAX_COLUMNS // 56250]


def test_difference_is_last_minus_first_over_the_common_frames() -> None:
    first, last = torch.full((100, 5), -3.0), torch.full((100, 4), -3.0)
    last[0, 2] += 30.0 / CONFIG.db_per_unit
    *_, image = images(mel_pictures([("In", first), ("Out", last)], CONFIG, difference=True, difference_range_db=30.0))
    assert image.shape == (100, 4, 3)
    assert image[-1, 2].tolist() == colour(DIVERGING.split()[-1])
    # no difference is between two of the 256 steps, next to the middle anchor
    assert np.abs(image[0, 0].astype(int) - colour(DIVERGING.split()[6])).max() <= 2


def test_a_long_difference_keeps_both_signs() -> None:
    first, last = torch.zeros(100, 56250), torch.zeros(100, 56250)
    last[:, 100], last[:, 40000] = -30.0 / CONFIG.db_per_unit, 30.0 / CONFIG.db_per_unit
    *_, image = images(mel_pictures([("In", first), ("Out", last)], CONFIG, difference=True, difference_range_db=30.0))
    for frame, end in ((100, 0), (40000, -1)):
        assert image[0, frame * MAX_COLUMNS // 56250].tolist() == colour(DIVERGING.split()[end])


@pytest.mark.parametrize("config", [MelConfig(), MelConfig(log_floor=1e-5), MelConfig(power=2)])
def test_digital_silence_is_dark(config: MelConfig) -> None:
    silence = LogMel(config)(torch.zeros(1, 24000))[0]
    markup = mel_pictures([("In", silence), ("Out", silence + 0.1)], config)
    for image in images(markup):
        assert image.max() < 100  # of 255; the brightest colour has 253, 0xfd
    # nothing that can be told from silence is: the loudest values keep the whole scale
    loud = silence.clone()
    loud[50] = 3.0
    (image,) = images(mel_pictures([("Loud", loud)], config))
    assert image[49, 0].tolist() == colour(MAGMA.split()[-1])


def test_power_mels_count_half_the_decibels() -> None:
    config = MelConfig(power=2, log_floor=1e-10)
    mel = torch.zeros(100, 2)
    mel[:, 1] = -math.log(10) * 4  # power down by 40 dB
    image = images(mel_pictures([("Power", mel)], config, range_db=80.0))[0]
    assert np.abs(image[0, 1].astype(int) - colour(MAGMA.split()[8])).max() <= 2


def test_waterfall_bars_follow_each_other_on_the_time_axis() -> None:
    bars = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", stage_waterfall(STAGES, 10.0))
    assert [(float(left), float(width)) for left, width in bars] == [(0.0, 20.0), (20.0, 10.0), (30.0, 50.0)]
    halved = re.findall(r"width:([\d.]+)%", stage_waterfall(STAGES, 10.0, span_ms=20.0))
    assert [float(width) for width in halved] == [10.0, 5.0, 25.0]


def test_waterfall_and_table_state_the_same_shares() -> None:
    shares = ["20.0 %", "10.0 %", "50.0 %"]
    assert re.findall(r"<small>([^<]*)</small>", stage_waterfall(STAGES, 10.0)) == shares
    assert re.findall(r">([\d.]+ %)</td>", stage_table(STAGES, 10.0))[:3] == shares


def test_every_device_has_one_colour_and_transfers_are_striped() -> None:
    legend = stage_waterfall(STAGES, 10.0).partition("tts-legend")[2]
    entries = dict(reversed(entry) for entry in re.findall(r'style="([^"]*)"></i>([^<]*)<', legend))
    assert list(entries) == ["cpu", "transfer", "cuda:0"]
    assert len(set(entries.values())) == 3
    assert "repeating" in entries["transfer"]


def test_table_states_shares_bytes_and_the_wall_time() -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", stage_table(STAGES, 10.0))
    texts = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in rows]
    assert texts[0] == ["Stage", "Device", "Method", "ms", "Share", "Bytes"]
    assert texts[2] == ["transfer", "cpu → cuda:0", "copy", "1.00", "10.0 %", "40,000"]
    assert texts[-1] == ["Total (wall time)", "10.00", "100.0 %", "40,000"]


def test_text_is_escaped_and_nothing_is_fetched() -> None:
    bad = "<script>alert(1)</script>"
    stage: StageRecord = {"stage": bad, "device": bad, "engine": "torch", "method": bad, "ms": 1.0, "bytes": 0}
    markup = (
        mel_pictures([(bad, torch.zeros(100, 3))], CONFIG) + stage_waterfall([stage], 1.0) + stage_table([stage], 1.0)
    )
    assert "<script" not in markup
    assert not re.search(r"https?:|url\(|src=\"(?!data:)", markup)


def test_bars_of_several_runs_share_one_axis() -> None:
    markup = stage_bars([("one <a>", STAGES, 10.0), ("other", STAGES[:1], 20.0)])
    assert "one &lt;a&gt; <small>10.0 ms</small>" in markup
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", markup)]
    assert widths == [10.0, 5.0, 25.0, 10.0]  # of 20 ms
    starts = [float(start) for start in re.findall(r"<i title[^>]*left:([\d.]+)%", markup)]
    assert starts == [0.0, 10.0, 15.0, 0.0]
    colours = re.findall(r"<i title[^>]*background:([^\"]+)", markup)
    assert colours[0] == colours[3] and len(set(colours)) == 3  # by stage, transfers striped
    assert 'aria-label="Time (ms): one &lt;a&gt; 10.0 ms; other 20.0 ms"' in markup

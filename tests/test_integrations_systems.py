"""Our vocoders in the real ChatTTS, coqui-tts and ESPnet, from a text to audio, with tiny random networks.

`make integrations` installs these packages into an environment of their own, and runs this file.
"""

from __future__ import annotations

import math
import string
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

import tts_infer
from tests.test_integrations import CLOSE, mel_vocoder
from tests.test_integrations_packages import need
from tts_infer.integrations import coqui
from tts_infer.integrations.mel_vocoder import MelVocoder
from tts_infer.integrations.vocos import Vocos
from tts_infer.stages import relative_error

pytestmark = pytest.mark.slow

TEXT = "Hello there, this is a test."


class Heard:
    """What a module gave, call by call."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.given: list[Tensor] = []
        module.register_forward_hook(lambda _, __, given: self.given.append(given.clone()))


# ChatTTS: a language model writes codes or hidden frames, a decoder makes mels of these, and Vocos makes audio.

TAGS = ["Sbreak", "Pbreak", "Ebreak", "Stts", "Ptts", "spk_emb", "empty_spk", "break_0", "speed_5", "uv_break"]


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of ChatTTS with tiny networks, but for those of the vocoder, which are of the published size."""
    need("chattts", "ChatTTS", "0.2.5")
    path, config, model = tmp_path_factory.mktemp("asset"), tiny(), import_module("ChatTTS.model")
    transformers, vocos = import_module("transformers"), import_module("vocos")
    torch.manual_seed(0)
    parts = {name: vocos.pretrained.instantiate_class((), vars_of(one)) for name, one in vars(config.vocos).items()}
    sizes = {"dim": config.dvae.decoder.idim, "decoder_config": vars(config.dvae.decoder)}
    networks = {
        "Vocos": vocos.Vocos(**parts),
        "DVAE": model.DVAE(encoder_config=vars(config.dvae.encoder), vq_config=vars(config.dvae.vq), **sizes),
        "Decoder": model.DVAE(decoder_config=vars(config.decoder), dim=config.decoder.idim),
        "Embed": model.Embed(**vars(config.embed)),
    }
    for name, network in networks.items():
        if isinstance(network, model.DVAE):
            network.coef.mul_(30)  # the deviation of each mel band
        save_file({key: one.contiguous() for key, one in network.state_dict().items()}, path / f"{name}.safetensors")
    transformers.LlamaModel(transformers.LlamaConfig(**vars(config.gpt), vocab_size=8)).save_pretrained(path / "gpt")
    (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", *words(), *(f"[{tag}]" for tag in TAGS)]))
    tags = {"additional_special_tokens": [f"[{tag}]" for tag in TAGS]}
    transformers.BertTokenizerFast(str(path / "vocab.txt"), **tags).save_pretrained(path / "tokenizer")
    files = {f"{name.lower()}_ckpt_path": str(path / f"{name}.safetensors") for name in ("Vocos", "DVAE", "Decoder")}
    return files | {
        "gpt_ckpt_path": str(path / "gpt"),
        "tokenizer_path": str(path / "tokenizer"),
        "embed_path": str(path / "Embed.safetensors"),
    }


def words() -> list[str]:
    return sorted(set(TEXT.lower().replace(",", " ,").replace(".", " .").split()))


def vars_of(section: Any) -> dict[str, Any]:
    return import_module("dataclasses").asdict(section)


def tiny() -> Any:
    """The configuration of ChatTTS, in small. Its vocoder is as it is published."""
    config = import_module("ChatTTS.config.config")
    conv = {"n_layer": 1, "bn_dim": 8, "hidden": 8}
    tokens = {"num_audio_tokens": 626, "num_text_tokens": 2 + len(words()) + len(TAGS), "num_vq": 4}
    return config.Config(
        decoder=config.Decoder(idim=16, odim=16, **conv),
        dvae=config.DVAE(
            encoder=config.Decoder(idim=16, odim=32, **conv),
            decoder=config.Decoder(idim=16, odim=16, **conv),
            vq=config.VQ(dim=32),
        ),
        gpt=config.GPT(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=1, **tokens),
        embed=config.Embed(hidden_size=32, **tokens),
    )


@pytest.fixture
def chat(assets: dict[str, str]) -> Any:
    chat = import_module("ChatTTS").Chat()
    chat.config = tiny()
    assert chat._load(**assets, device=torch.device("cpu"))  # what `load` calls, once it has checked the files
    return chat


@pytest.mark.parametrize("network", ["decoder", "dvae"])
def test_chattts_speaks(chat: Any, assets: dict[str, str], network: str) -> None:
    theirs, heard = chat.vocos, Heard(getattr(chat, network))
    chat.vocos = Vocos.from_pretrained(assets["vocos_ckpt_path"], config="vocos-mel-24khz").to(chat.device)
    given: dict[str, Any] = {"show_tqdm": False, "manual_seed": 1}
    options = {
        "params_refine_text": chat.RefineTextParams(**given, max_new_token=4),
        "params_infer_code": chat.InferCodeParams(**given, max_new_token=24),
        "use_decoder": network == "decoder",
    }
    (audio,) = chat.infer(TEXT, **options)
    (mel,) = heard.given
    assert mel.shape == (1, 100, 48) and mel.std() > 0.1
    ours = chat.vocos.decode(mel)
    assert relative_error(ours, theirs.decode(mel)) < CLOSE
    assert np.array_equal(audio, ours[ours.abs() > 1e-5].numpy())  # ChatTTS drops samples near zero
    streamed = np.concatenate(list(chat.infer(TEXT, **options, stream=True)), axis=1)
    assert np.array_equal(streamed[0], audio)


# coqui-tts: Glow-TTS makes mels. The synthesizer scales them for its vocoder.

SMALL = {
    "hidden_channels_enc": 16, "hidden_channels_dec": 16, "hidden_channels_dp": 16, "num_flow_blocks_dec": 2,
    "num_block_layers": 1,
    "encoder_params": {
        "kernel_size": 3, "dropout_p": 0.1, "num_layers": 1, "num_heads": 2, "hidden_channels_ffn": 16,
        "input_length": None,
    },
}  # fmt: skip
FIXED = {"mel_fmax": 8000.0, "do_trim_silence": False}


@pytest.fixture(scope="module")
def glow() -> Any:
    need("coqui-tts", "TTS.utils.synthesizer", "0.28.0")
    return import_module("TTS.tts.configs.glow_tts_config").GlowTTSConfig


def tts_of(glow: Any, path: Path, **audio: Any) -> Any:
    """`TTS.api.TTS` of a model in files, as the project publishes them."""
    shared = import_module("TTS.config.shared_configs")
    config = glow(**SMALL, audio=shared.BaseAudioConfig(**FIXED, **audio))
    torch.manual_seed(0)
    model = import_module("TTS.tts.models.glow_tts").GlowTTS(config)
    torch.save({"model": model.state_dict()}, path / "model.pth")
    config.save_json(str(path / "config.json"))
    return import_module("TTS.api").TTS(model_path=str(path / "model.pth"), config_path=str(path / "config.json"))


PLAIN = {"log_func": "np.log", "spec_gain": 1, "signal_norm": False}  # as HiFi-GAN takes mels


def amplitudes(audio: Any, mel: np.ndarray) -> np.ndarray:
    """A mel of a model as its processor would invert it, up to the logarithm. Shape: (L, n_mels) -> (n_mels, L)"""
    scaled = audio.denormalize(mel.T)
    invert = import_module("TTS.utils.audio.numpy_transforms").db_to_amp
    return invert(x=scaled, gain=audio.spec_gain, base=audio.base) if audio.do_amp_to_db_mel else scaled


@pytest.mark.parametrize("audio", [{}, PLAIN, {"do_amp_to_db_mel": False, "signal_norm": False}])
def test_coqui_speaks(glow: Any, tmp_path: Path, audio: dict[str, Any]) -> None:
    """Mels in decibels from -4 to 4, which is coqui's default; in natural logarithms; and amplitudes."""
    tts, plain = tts_of(glow, tmp_path, **audio), mel_vocoder()
    synthesizer, model = tts.synthesizer, tts.synthesizer.tts_model
    undo = coqui.install(synthesizer, plain)
    speech = torch.tensor(tts.tts(TEXT))
    mel = model.synthesize(TEXT)["outputs"]["model_outputs"][0].numpy()
    heard = plain.decode(np.log(np.maximum(amplitudes(model.ap, mel), plain.mel_config.log_floor))[None])
    assert len(speech) == heard.shape[1] + 10000 and not speech[-10000:].any()  # coqui's pause after a sentence
    assert relative_error(speech[None, :-10000], heard) < CLOSE
    undo()
    assert synthesizer.vocoder_model is None and not hasattr(synthesizer, "vocoder_ap")
    assert len(synthesizer.tts(TEXT)) > 10000  # Griffin-Lim, as before


def test_coqui_has_a_vocoder_already(glow: Any, tmp_path: Path) -> None:
    """HiFi-GAN of coqui, with random weights: ours takes its place, and gives it back."""
    synthesizer = tts_of(glow, tmp_path).synthesizer
    config = import_module("TTS.vocoder.configs").HifiganConfig()
    config.generator_model_params |= {"upsample_initial_channel": 32}
    network = import_module("TTS.vocoder.models").setup_model(config)
    torch.save({"model": network.state_dict()}, tmp_path / "vocoder.pth")
    config.save_json(str(tmp_path / "vocoder.json"))
    synthesizer._load_vocoder(str(tmp_path / "vocoder.pth"), str(tmp_path / "vocoder.json"), use_cuda=False)
    theirs = synthesizer.tts(TEXT)
    undo = coqui.install(synthesizer, mel_vocoder())
    assert isinstance(synthesizer.vocoder_model, MelVocoder) and synthesizer.tts(TEXT) != theirs
    undo()
    assert synthesizer.tts(TEXT) == theirs


def test_the_mels_of_coqui_are_those_of_the_vocoder(glow: Any, tmp_path: Path, speech: Tensor) -> None:
    """Real speech through coqui's own processor, and through what `install` puts in its place."""
    synthesizer, plain = tts_of(glow, tmp_path).synthesizer, mel_vocoder()
    audio, samples = synthesizer.tts_model.ap, speech[0, :44100]
    coqui.install(synthesizer, plain)
    theirs = torch.from_numpy(audio.denormalize(audio.melspectrogram(samples.numpy())))
    ours = tts_infer.LogMel(replace(plain.mel_config, padding="center"))(samples[None])[0]
    converted = synthesizer.vocoder_model._in_our_unit(theirs)
    assert (converted - ours)[converted > -8].abs().max() < 1e-3  # -100 dB is coqui's lowest


def test_what_coqui_cannot_do(glow: Any, tmp_path: Path) -> None:
    synthesizer = tts_of(glow, tmp_path, mel_fmin=50.0).synthesizer
    with pytest.raises(tts_infer.InputError, match="these mel conventions differ in f_min, so no exact"):
        coqui.install(synthesizer, mel_vocoder())
    synthesizer.tts_model = torch.nn.Identity()
    with pytest.raises(tts_infer.InputError, match="of this synthesizer, Identity, makes no mels"):
        coqui.install(synthesizer, mel_vocoder())


# ESPnet: Tacotron 2 makes mels in log10.


@pytest.fixture(scope="module")
def text2speech(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("espnet")
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("nltk"):
            patch.setattr("nltk.download", lambda *_: None)  # g2p_en fetches two lists of words when it is imported
        inference = need("espnet", "espnet2.bin.tts_inference", "202511")
    task = import_module("espnet2.tasks.tts").TTSTask
    sizes = {
        "embed_dim": 8, "elayers": 1, "eunits": 8, "econv_chans": 8, "dunits": 8, "prenet_units": 8, "adim": 8,
        "postnet_chans": 8, "aconv_chans": 2, "dlayers": 1, "use_gst": False,
    }  # fmt: skip
    tokens = ["<blank>", "<unk>", "<space>", *string.ascii_letters, ".", ",", "<sos/eos>"]
    config = task.get_default_config() | {
        "token_list": tokens, "token_type": "char", "tts": "tacotron2", "tts_conf": sizes, "normalize": None,
        "feats_extract": "fbank", "feats_extract_conf": {"fs": 22050, "fmin": 0, "fmax": 8000},
    }  # fmt: skip
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    model = task.build_model(import_module("argparse").Namespace(**config))
    torch.save(model.state_dict(), path / "model.pth")
    return inference.Text2Speech(
        path / "config.yaml", path / "model.pth", maxlenratio=2.0, threshold=1.0, always_fix_seed=True
    )


def test_espnet_speaks(text2speech: Any) -> None:
    plain = mel_vocoder()
    text2speech.vocoder = MelVocoder(plain, frames_first=True, unit="log10")
    made = text2speech(TEXT)
    assert made["feat_gen"].shape == (2 * len(TEXT) + 2, 80) and made["wav"].shape == (256 * (2 * len(TEXT) + 2),)
    mel = (made["feat_gen"].T * math.log(10)).clamp_min(math.log(plain.mel_config.log_floor))
    assert relative_error(made["wav"][None], plain.decode(mel)) < CLOSE
    assert text2speech.fs == 22050


def test_the_mels_of_espnet_are_those_of_the_vocoder(text2speech: Any, speech: Tensor) -> None:
    plain = mel_vocoder()
    (theirs,), _ = text2speech.feats_extract(speech[:, :44100])
    ours = tts_infer.LogMel(replace(plain.mel_config, padding="center"))(speech[:, :44100])[0]
    converted = MelVocoder(plain, unit="log10")._in_our_unit(theirs.T)
    assert (converted - ours)[converted > -8].abs().max() < 1e-3  # ESPnet's floor is 1e-5 in each bin of the STFT

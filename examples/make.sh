#!/bin/sh
# Make the example clips: three voices and languages, 24 kHz mono PCM16. Needs espeak-ng and sox;
# the mel of the first one needs this package.
set -eu
cd "$(dirname "$0")"

# espeak-ng speaks at 22.05 kHz and ends in silence; every clip peaks at -3 dB.
say() { # file, voice, words per minute, pitch, text
    espeak-ng -v "$2" -s "$3" -p "$4" --stdout "$5" | sox -R -t wav - -b 16 -r 24000 -c 1 "$1" gain -n -3 \
        reverse silence 1 0.01 0.1% reverse pad 0.05 0.05
}

say english.wav en-gb 150 45 "A vocoder turns a picture of sound back into sound."
say german.wav de+f3 150 60 "Der Wetterbericht verspricht Sonne und leichten Wind."
say mandarin.wav cmn+m3 160 40 "声码器把声谱图变成语音。"

python - <<'END'
import numpy
import tts_infer

vocoder = tts_infer.load_vocoder()
clip = tts_infer.read_audio("english.wav", vocoder.sample_rate)
numpy.save("english-mel.npy", vocoder.mel(clip.samples)[0].numpy().astype(numpy.float16))
END

"""The page in two languages: every text is its own English key, so that English needs no table and no fallback.

Labels are translated in the browser, by Gradio. What is written on the server (results, messages) is translated there,
after the browser's Accept-Language.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import gradio as gr
from gradio.i18n import I18nData

Words = Callable[[str], str]

CHINESE = {
    # the page
    "A mel spectrogram or audio in, a waveform out, and where the time goes in between.": (
        "输入梅尔频谱或音频，输出波形，并显示每一步所用的时间。"
    ),
    "Decode": "解码",
    "Compare": "比较",
    "Batch": "批量",
    "API": "API",
    "Audio": "音频",
    "Mel file": "梅尔文件",
    "Mel spectrogram": "梅尔频谱",
    "Examples": "示例",
    "English": "英语",
    "German": "德语",
    "Mandarin": "普通话",
    "Synthesize": "合成",
    "Settings": "设置",
    "Vocoder": "声码器",
    "Device": "设备",
    "iSTFT method": "iSTFT 方法",
    "Refine": "精修",
    "Refine: passes that pull the output's mel to the input's; each takes time, auto is what suits the vocoder.": (
        "精修次数：每次使输出的梅尔更接近输入，每次都需要时间；auto 表示采用适合该声码器的次数。"
    ),
    "mel device": "mel 的设备",
    "backbone device": "backbone 的设备",
    "head device": "head 的设备",
    "istft device": "istft 的设备",
    "Device of each stage; auto takes the device above.": "各阶段的设备；auto 表示使用上面的设备。",
    "Output audio": "输出音频",
    "Report as JSON": "JSON 报告",
    "Drop, record or pick something, and press the button.": "拖入、录制或选择一段内容，然后按下按钮。",
    "Loading the vocoder": "正在加载声码器",
    "Reading the audio": "正在读取音频",
    "Reading the mel": "正在读取梅尔",
    "Decoding {seconds:.1f} s of audio": "正在解码 {seconds:.1f} 秒音频",
    "Decoding {frames} frames": "正在解码 {frames} 帧",
    # listening
    "Listen as it decodes": "边解码边听",
    "Piece": "片段",
    "Decoded {done:.1f} of {total:.1f} s": "已解码 {done:.1f} / {total:.1f} 秒",
    "Preparing the first piece": "正在准备第一段",
    "Play": "播放",
    "Pause": "暂停",
    "Stop": "停止",
    "Cancel": "取消",
    # results
    "Input mel": "输入梅尔",
    "Output mel": "输出梅尔",
    "Difference": "差值",
    "Frequency (Hz)": "频率 (Hz)",
    "Time (s)": "时间 (s)",
    "Time (ms)": "时间 (ms)",
    "Level (dB)": "电平 (dB)",
    "Difference (dB)": "差值 (dB)",
    "Zoom in": "放大",
    "Zoom out": "缩小",
    "Reset zoom": "还原",
    "Drag a box to zoom; double-click to see all.": "拖出一个框可放大；双击还原。",
    "Where the time went": "时间分布",
    "Stage": "阶段",
    "Method": "方法",
    "ms": "毫秒",
    "Share": "占比",
    "Bytes": "字节",
    "Total (wall time)": "总计（实际时间）",
    "Time": "时间",
    "× real time": "× 实时",
    "Log-mel error": "对数梅尔误差",
    "Clipped samples": "削波采样",
    "Peak (dBFS)": "峰值 (dBFS)",
    "Clipped": "削波采样",
    "{seconds:.2f} s of audio in {time}, {rtfx:.0f} x real time;": (
        "{seconds:.2f} 秒音频用时 {time}，{rtfx:.0f} 倍实时；"
    ),
    "{share:.0f} % {stage} on {device};": "{share:.0f} % 为 {device} 上的 {stage}；",
    "nothing clipped.": "无削波。",
    "{count} samples clipped.": "{count} 个采样被削波。",
    # compare
    "Placement": "放置",
    "Number format": "数值格式",
    "Blind test: shuffle, and hide which is which": "盲听：打乱顺序并隐藏对应关系",
    "Which do you prefer?": "您更喜欢哪一个？",
    "Reveal": "揭晓",
    "This comparison has expired: press Compare to make it again.": "此次比较已过期：请按“比较”重新进行。",
    "Every combination of the chosen settings is run on the same clip.": "所选设置的每种组合都会处理同一段音频。",
    "Listen, choose the sample you prefer, and reveal which is which.": "请试听，选择更喜欢的样本，然后揭晓。",
    "You preferred": "您更喜欢",
    "Sample": "样本",
    "Error to input (dB)": "与输入的误差 (dB)",
    "Error to first (dB)": "与第一个的误差 (dB)",
    "These settings make {count} combinations; choose two to {most}.": (
        "这些设置共有 {count} 种组合；请选择 2 到 {most} 种。"
    ),
    "Decoding": "正在解码",
    # batch
    "Audio, mel or zip files": "音频、梅尔或 zip 文件",
    "Decode all": "全部解码",
    "Results as a zip": "结果 (zip)",
    "The results appear here; files that fail say why.": "结果显示在这里；失败的文件会说明原因。",
    "{done} of {count} files decoded.": "已解码 {done} / {count} 个文件。",
    "Reading the files": "正在读取文件",
    "cancelled before its turn": "尚未处理便已取消",
    "files": "个文件",
    "File": "文件",
    "Output": "输出",
    "{seconds:.1f} s of audio": "{seconds:.1f} 秒音频",
    "Seconds": "秒",
    "Log-mel error (dB)": "对数梅尔误差 (dB)",
    "There are no files yet: drop audio files, mel files, or a zip of them.": (
        "还没有文件：请拖入音频文件、梅尔文件或 zip 压缩包。"
    ),
    # device
    "The self-test runs when this tab is opened.": "打开此标签页时会运行自检。",
    "Run the self-test again": "重新自检",
    "Operator audit for Apple GPUs": "苹果 GPU 算子审计",
    "The audit takes a few seconds the first time.": "首次审计需要几秒钟。",
    "Every operator that a stage asks for, judged for Apple GPUs (MPS) in each torch release: ✓ means that the release "
    "has all of them, in real numbers, without waiting for the device.": (
        "针对苹果 GPU (MPS)，检查各阶段在每个 torch 版本中用到的所有算子："
        "✓ 表示该版本全部具备，只用实数，且无需等待设备。"
    ),
    "What runs where, and why": "各阶段的位置及原因",
    "Self-test on half a second of audio": "自检（半秒音频）",
    "Number formats": "数值格式支持",
    "Known vocoders": "已知声码器",
    "Versions": "版本",
    "Package": "软件包",
    "Version": "版本号",
    "Weights": "权重",
    "Reason": "原因",
    "Error": "误差",
    "Allowed": "允许",
    "Faults": "问题",
    "here": "本机",
    "missing": "缺失",
    "complex": "复数",
    "float64": "float64",
    "syncs": "同步等待",
    "embedded": "内置",
    "cached": "已缓存",
    "not cached": "未缓存",
    "fast": "快",
    "not set": "未设置",
    "slow and incomplete on the CPU": "在 CPU 上慢且不完整",
    "fused products, probed here": "融合乘法，已在本机检验",
    "the reference": "参考实现",
    "asked for": "按设置",
    "right there": "在该设备上正确",
    "{ms} ms against {others}": "{ms} 毫秒，其他：{others}",
    "wrong on {device}: {problem}": "在 {device} 上有误：{problem}",
    "no accelerator here: everything runs on the CPU": "本机没有加速器：全部在 CPU 上运行",
    "this CPU has bfloat16: --dtype bfloat16 may make backbone and head faster, a little less exact": (
        "此 CPU 支持 bfloat16：--dtype bfloat16 可能使 backbone 和 head 更快，但精度略低"
    ),
    "{stage} by {method} is wrong on {device}: update torch and the system": (
        "{device} 上用 {method} 的 {stage} 结果有误：请更新 torch 和系统"
    ),
    "not in the Hub cache, so a first use downloads: {names}": "不在 Hub 缓存中，首次使用时会下载：{names}",
    # API
    "Everything on this page can be called from a program:": "本页的所有功能都可以在程序中调用：",
    # messages
    "There is no audio yet: drop or record a clip, or pick an example.": (
        "还没有音频：请拖入或录制一段，或选择一个示例。"
    ),
    "There is no mel spectrogram yet: drop a .npy, .npz, .safetensors or .pt file.": (
        "还没有梅尔频谱：请拖入 .npy、.npz、.safetensors 或 .pt 文件。"
    ),
    "The mel is far louder than any audio: natural logarithms of magnitudes at full scale end below 9.": (
        "该梅尔频谱远比任何音频都响：满幅幅度的自然对数低于 9。"
    ),
    "The input is one mel frame long, which gives no audio; two frames are the shortest.": (
        "输入只有一个梅尔帧，无法生成音频；至少需要两帧。"
    ),
    "{file} holds a batch of {count}; expected one mel a file": "{file} 中有 {count} 个梅尔频谱；每个文件只能有一个",
    "This was not foreseen: something went wrong on the server, and its log says what.": (
        "出现了意料之外的错误：服务器出了问题，详情见服务器日志。"
    ),
}


# What the package says in English with values inside; the first that fits is its translation.
PATTERNS = {key: re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(key))) for key in CHINESE if "{" in key}


def label(text: str) -> I18nData:
    """A text that the browser shows in its own language."""
    return I18nData(text)


def translations() -> gr.I18n:
    """The tables for `launch`; languages without one show the English keys."""
    return gr.I18n(en={text: text for text in CHINESE}, zh=CHINESE, **{"zh-CN": CHINESE})


def words_of(request: gr.Request | None) -> Words:
    """The translation into the first language that a browser accepts; English for API clients."""
    accepted = request.headers.get("accept-language", "") if request else ""
    return (lambda text: CHINESE.get(text, text)) if accepted.lower().startswith("zh") else str


def in_language(words: Words, sentence: str) -> str:
    """A sentence of the package's in the page's language; those without a translation stay as they are."""
    for template, pattern in PATTERNS.items():
        if found := pattern.fullmatch(sentence):
            return words(template).format(**found.groupdict())
    return words(sentence)

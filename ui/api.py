"""The API tab: the page's endpoints, as programs that can be copied. A test runs every one of them."""

from __future__ import annotations

import gradio as gr

from ui.texts import label

SNIPPETS = {
    "/synthesize": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
wav, report = client.predict(
    audio=handle_file("speech.wav"), vocoder="vocos-mini-24khz", device="auto", istft="auto", api_name="/synthesize"
)
print(wav, report["total_ms"], report["xrt"], report["stages"])
""",
    "/decode": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
wav, report = client.predict(mel=handle_file("mel.npy"), vocoder="vocos-mini-24khz", api_name="/decode")
print(wav, report["total_ms"], report["log_mel_error_db"])
""",
    "/compare": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
*wavs, reports = client.predict(
    audio=handle_file("speech.wav"), vocoders=["vocos-mini-24khz"], placements=["auto"], istft=["matmul", "fft"],
    dtypes=["float32"], api_name="/compare"
)
for wav, report in zip(wavs, reports):
    print(wav, report["name"], report["total_ms"], report["error_to_input_db"], report["error_to_first_db"])
""",
    "/batch": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
results_zip, rows = client.predict(
    files=[handle_file("speech.wav"), handle_file("mel.npy")], vocoder="vocos-mini-24khz", api_name="/batch"
)
print(results_zip, [(row["file"], row.get("error")) for row in rows])
""",
}


def api_tab() -> None:
    """Lay the tab out."""
    gr.Markdown(label("Everything on this page can be called from a program:"))
    for name, code in SNIPPETS.items():
        gr.Code(code.strip(), language="python", label=name, interactive=False, wrap_lines=True, lines=1)

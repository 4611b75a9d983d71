"""The API tab: the page's endpoints, as programs that can be copied. A test runs every one of them."""

from __future__ import annotations

import gradio as gr

from ui.texts import label

SNIPPETS = {
    "/synthesize": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
wav, report = client.predict(
    audio=handle_file("speech.wav"), vocoder="vocos-mini-24khz", placement="auto", istft="auto", refine="auto",
    api_name="/synthesize"
)
print(wav, report["total_ms"], report["rtfx"], report["refine"], report["stages"])
""",
    "/decode": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
wav, report = client.predict(mel=handle_file("mel.npy"), vocoder="vocos-mini-24khz", api_name="/decode")
print(wav, report["total_ms"], report["log_mel_error_db"])
""",
    "/measure": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
wav, report = client.predict(audio=handle_file("speech.wav"), vocoder="vocos-mini-24khz", api_name="/measure")
print(wav, report["runs"], "runs, median", report["total_ms"], "ms, from", report["least_ms"], "to", report["most_ms"])
""",
    "/measure_mel": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
wav, report = client.predict(mel=handle_file("mel.npy"), vocoder="vocos-mini-24khz", api_name="/measure_mel")
print(wav, report["total_ms"], [(stage["stage"], stage["ms"]) for stage in report["stages"]])
""",
    "/stream": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
job = client.submit(audio=handle_file("speech.wav"), vocoder="vocos-mini-24khz", api_name="/stream")
for piece, wav, report in job:  # job.cancel() ends the work
    print(piece["file"], piece["end_s"], "of", piece["of_s"], "s")
print(wav, report["total_ms"])
""",
    "/stream_mel": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
job = client.submit(mel=handle_file("mel.npy"), vocoder="vocos-mini-24khz", api_name="/stream_mel")
for piece, wav, report in job:
    print(piece["file"], piece["end_s"], "of", piece["of_s"], "s")
""",
    "/speak": """
from gradio_client import Client

client = Client("http://127.0.0.1:7860/")
job = client.submit(text="Hello. I am a synthetic voice.", voice="heart", api_name="/speak")
for piece, wav, report in job:
    print(piece["file"], piece["end_s"], "s")
print(wav, report["first_audio_ms"], report["rtfx"])
""",
    "/results": """
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860/")
for refine in ("0", "16"):
    client.predict(audio=handle_file("speech.wav"), vocoder="vocos-mini-24khz", refine=refine, api_name="/synthesize")
results_zip, rows = client.predict(api_name="/results")
print(results_zip, [(row["file"], row["log_mel_error_db"]) for row in rows])
""",
    "/speech_results": """
from gradio_client import Client

client = Client("http://127.0.0.1:7860/")
list(client.submit(text="Hello.", voice="heart", api_name="/speak"))
results_zip, rows = client.predict(api_name="/speech_results")
print(results_zip, [row["file"] for row in rows])
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
results_zip, report = client.predict(
    files=[handle_file("speech.wav"), handle_file("mel.npy")], vocoder="vocos-mini-24khz", api_name="/batch"
)
print(results_zip, report["rtfx"], [(row["file"], row.get("error")) for row in report["files"]])
""",
    "/advise": """
from gradio_client import Client

client = Client("http://127.0.0.1:7860/")
device, placement, istft, dtype = client.predict(vocoder="vocos-mini-24khz", api_name="/advise")
print(device, placement, istft, dtype)
""",
    "/doctor": """
from gradio_client import Client

client = Client("http://127.0.0.1:7860/")
report = client.predict(device="auto", api_name="/doctor")
for stage, place in report["placement"].items():
    print(stage, place["device"], place["method"], place["reason"])
""",
    "/audit": """
from gradio_client import Client

client = Client("http://127.0.0.1:7860/")
for row in client.predict(api_name="/audit"):
    print(row["decode"], row["stage"], row["release"], row["clean"], row["missing"])
""",
}
# The snippets call the page at the address that the visitor's browser uses (proxies included), with the visitor's name.
FROM_HERE = """(...codes) => {
    const user = window.gradio_config?.username;
    const login = user ? `, auth=(${JSON.stringify(user)}, "PASSWORD")` : "";
    const client = `Client(${JSON.stringify(location.origin + location.pathname)}${login})`;
    return codes.map((code) => code.replace('Client("http://127.0.0.1:7860/")', () => client));
}"""


def api_tab(tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""
    gr.Markdown(label("api-hint"))
    codes = [
        gr.Code(
            code.strip(),
            language="python",
            label=name,
            interactive=False,
            wrap_lines=True,
            lines=1,
            show_line_numbers=False,
        )
        for name, code in SNIPPETS.items()
    ]
    tab.select(None, codes, codes, js=FROM_HERE, api_name="address", api_visibility="private")

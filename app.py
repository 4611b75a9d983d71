"""Web page of tts-infer, and entry point of its Hugging Face Space: mel spectrogram or audio in, waveform out.

Nothing here or in `ui/` does signal processing: every number on the page comes from `tts_infer`. Each tab's button is
an endpoint of the API, which returns audio and a JSON report. Drawing is a separate event, so programs that call the
API do not receive pictures.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

try:
    import gradio as gr
    from starlette.routing import Route

    import tts_infer
    from ui.api import api_tab
    from ui.batch import batch_tab
    from ui.compare import compare_tab
    from ui.decode import decode_tab
    from ui.device import device_tab
    from ui.folder import keep_tidy, own_folder
    from ui.gate import Gate
    from ui.scope import STATIC, static
    from ui.session import AUTO, KEEP_S, load, offered
    from ui.speak import speak_tab
    from ui.status import account, left, status_line
    from ui.texts import label, translations
except KeyboardInterrupt:  # importing takes seconds
    raise SystemExit(130) from None

MAX_UPLOAD_BYTES = 200_000_000  # of all files that are given at once
MOST_QUEUED = 64  # calls that wait, of all pages and programs
MOST_SESSIONS = 200  # whose state is kept in memory: those that called last
FAVICON = STATIC / "favicon.svg"


def build_demo(
    vocoder: str = tts_infer.DEFAULT_VOCODER, device: str = AUTO, keep_s: float | None = None, *, example: bool = True
) -> gr.Blocks:
    """The page, ready to launch or to mount inside another Gradio app.

    Args:
        vocoder: the vocoder selected at first: a known name, a local directory or a Hub id.
        device: the device selected at first.
        keep_s: for how long uploads and results are kept.
        example: whether the page, when it is opened, decodes an example, so that there is something to hear and to see.
    """
    vocoders = list(dict.fromkeys([offered(vocoder), *tts_infer.known_vocoders()]))
    keep_s = KEEP_S if keep_s is None else keep_s
    delete_cache: Any = (every_s(keep_s), keep_s)  # typed as whole numbers
    with gr.Blocks(title="tts-infer", analytics_enabled=False, delete_cache=delete_cache, fill_width=True) as demo:
        gr.Markdown(label("headline"))
        gr.Markdown(label("tagline"))
        account()
        status_line()
        demo.unload(left)
        with gr.Tabs():
            with gr.Tab(label("decode"), elem_id="tab-decode"):
                settings = decode_tab(demo, vocoders, device, example)
            with gr.Tab(label("speak"), elem_id="tab-speak"):
                speak_tab(demo, vocoders)
            with gr.Tab(label("compare")) as tab:
                compare_tab(tab, vocoders, example)
            with gr.Tab(label("batch")):
                batch_tab(vocoders, device)
            with gr.Tab(label("device"), id="device") as tab:
                device_tab(tab, device, settings)
            with gr.Tab(label("api")) as tab:
                api_tab(tab)
    # calls that pass by the queue would know no limit
    return demo.queue(max_size=MOST_QUEUED, api_open=False)


def every_s(keep_s: float) -> float:
    """How often to look for files that are too old."""
    return min(60.0, keep_s / 4)


def guarded(
    settings: tts_infer.ServerSettings, login: bool, paths: Sequence[str], folder: Path | None, keep_s: float
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """What Gradio runs while its application is up: it is put behind guard and gate, and its folder is kept tidy."""

    @asynccontextmanager
    async def lifespan(gradio: Any) -> AsyncIterator[None]:
        sessions = gradio.state_holder.session_data
        # outside of all of Gradio's own layers, one of which answers pages of other origins
        gate = Gate(gradio.middleware_stack, login, paths, lambda event: sessions.pop(event, None))
        gradio.middleware_stack = tts_infer.GuardedApp(gate, settings)
        # Gradio removes what it knows of after `keep_s`; this is for the rest
        sweep = keep_tidy(folder, keep_s + 2 * every_s(keep_s), every_s(keep_s)) if folder else asyncio.sleep(0)
        sweeping = asyncio.create_task(sweep)
        try:
            yield
        finally:
            sweeping.cancel()

    return lifespan


def launch_options(
    settings: tts_infer.ServerSettings | None = None,
    login: bool = False,
    routes: Sequence[Route] = (),
    folder: Path | None = None,
    keep_s: float = KEEP_S,
) -> dict[str, Any]:
    """What Gradio takes when the page is launched: fonts, languages, limits, who may come in, no record of runs.

    Args:
        settings: whom to let in.
        login: whether everything needs a login; Gradio is told the name and the password.
        routes: endpoints beside the page.
        folder: of uploads and results, if it is the page's own.
        keep_s: for how long they are kept, see `build_demo`.
    """
    settings = settings or tts_infer.ServerSettings(max_bytes=MAX_UPLOAD_BYTES)
    font, mono = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    # Gradio's own colours are too pale to be read
    theme = gr.themes.Default(primary_hue="blue", font=font, font_mono=mono).set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        input_border_color="*neutral_500",
        input_border_color_dark="*neutral_400",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )
    return {
        "theme": theme,
        "css": static("page.css", "contrast.css"),
        "favicon_path": str(FAVICON),
        "i18n": translations(),
        "max_file_size": MAX_UPLOAD_BYTES,
        "run_history": False,
        "footer_links": ["api", "settings"],
        "state_session_capacity": MOST_SESSIONS,
        "app_kwargs": {
            "routes": list(routes),
            "lifespan": guarded(settings, login, [route.path for route in routes], folder, keep_s),
        },
    }


def server_settings(args: argparse.Namespace) -> tts_infer.ServerSettings:
    """Whom to let in. A page that is public by its nature has names that nobody knows before."""
    is_space = "SPACE_ID" in os.environ  # Hugging Face; pages of others may use its API, as in any Space
    return tts_infer.ServerSettings(
        api_key=args.api_key,
        cors=("*",) if is_space else tuple(args.cors or ()),
        hosts=("*",) if is_space or args.share else tuple(args.allow_host or ()),
        max_bytes=MAX_UPLOAD_BYTES,
    )


def server_routes(args: argparse.Namespace) -> list[Route]:
    """The endpoints of `tts-infer serve`, beside the page. Where the page asks for a password, they ask for a key."""
    if args.auth and not args.api_key:
        return []
    vocoders = [load(offered(args.vocoder), args.device)]
    settings = dataclasses.replace(server_settings(args), max_bytes=tts_infer.ServerSettings.max_bytes)
    server = tts_infer.ServerApp(vocoders, settings, tts_infer.load_speakers(vocoders, device=args.device))
    return [Route(path, server) for path in server.paths]


def port(text: str) -> int:
    """A port as the command line takes it."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """A time as the command line takes it."""
    if not text.isdecimal() or not 1 <= int(text) <= 10**7:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to 10000000")
    return float(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Web page of tts-infer.")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME, or this machine only)")
    parser.add_argument(
        "--port",
        type=port,
        help="port; 0: any free one (default: GRADIO_SERVER_PORT, or the first free one from 7860)",
    )
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio.live")
    parser.add_argument("--open", action="store_true", help="open the page in the web browser")
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="ask for a name and a password")
    parser.add_argument("--api-key", metavar="KEY", help="that programs must send to /v1 (with --auth: no key, no /v1)")
    parser.add_argument(
        "--allow-host", action="append", metavar="NAME", help="name by which the page is called, too; repeatable"
    )
    parser.add_argument("--cors", action="append", metavar="ORIGIN", help="web pages that may use it; repeatable")
    parser.add_argument(
        "--keep", type=seconds, default=KEEP_S, metavar="SECONDS", help="for files and results (default: %(default)s)"
    )
    parser.add_argument("--root-path", metavar="PATH", help="path of the page behind a reverse proxy, such as /tts")
    parser.add_argument("--vocoder", default=tts_infer.DEFAULT_VOCODER, help="name, directory or Hub id (%(default)s)")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda, mps, ... (%(default)s)")
    args = parser.parse_args(arguments)
    if args.auth is not None and not all(args.auth.partition(":")):
        parser.error(f"--auth {args.auth!r}: expected USER:PASSWORD")
    if args.root_path is not None and not args.root_path.startswith("/"):
        parser.error(f"--root-path {args.root_path!r}: expected a path that begins with /, such as /tts")
    try:
        load(offered(args.vocoder), args.device)  # a wrong name fails now, and the first visitor need not wait
    except tts_infer.TTSInferError as error:
        parser.error(str(error))
    return args


def free_port() -> int:
    """A port that nobody uses now, on any address. Gradio would take one for 0, too, but not say which."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def serve(args: argparse.Namespace) -> int:
    """Serve the page until interrupted; returns the exit code."""
    with own_folder() as folder:
        return serve_in(folder, args)


def serve_in(folder: Path, args: argparse.Namespace) -> int:
    """Serve the page with its files in a folder of its own."""
    demo = build_demo(args.vocoder, args.device, args.keep)
    try:
        demo.launch(
            server_name=args.host,
            server_port=free_port() if args.port == 0 else args.port,
            share=args.share,
            inbrowser=args.open,
            auth=tuple(args.auth.split(":", 1)) if args.auth else None,
            root_path=args.root_path,
            **launch_options(server_settings(args), bool(args.auth), server_routes(args), folder, args.keep),
        )
    except BrokenPipeError:
        print("app.py: nobody reads standard output any more; the page has ended", file=sys.stderr)
        return 2
    except OSError as error:  # also if the host is not this machine: Gradio then finds no port
        where = f"{args.host or 'this machine'}, port {args.port or 'from 7860'}"
        print(f"app.py: cannot listen on {where}: {error}; give another --host or --port", file=sys.stderr)
        return 2
    finally:
        demo.close(verbose=False)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit code."""
    try:
        return serve(parse(arguments))
    except KeyboardInterrupt:  # before the page is up; later, Gradio handles it
        return 0
    except tts_infer.TTSInferError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that visitors' files are removed then, too
    tts_infer.limit_memory()  # clips of visitors are of any length, and many threads decode them
    sys.exit(main())

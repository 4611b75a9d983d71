// Plays pieces of audio as they arrive. Each starts at the sample after the one before, so no border can be heard.
// Gradio calls this once per component, with `element`, `props`, `watch` and `trigger`; a value is the newest piece,
// or {} while the first one is waited for.
let context = null;
let run = 0; // counts the signals; pieces that still arrive for an earlier one are dropped
let expected = 0; // index of the next piece
let due = 0; // samples scheduled so far
let began = 0; // when the first sample sounds, on the context's clock; every gap adds to it
let pieces = Promise.resolve(); // fetched at the same time, scheduled in order

const find = (name) => element.querySelector(`[data-${name}]`);
const say = (key) => props.texts[navigator.language.startsWith("zh") ? "zh" : "en"][key];
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const scheduled = () => (context ? due / context.sampleRate : 0); // seconds
const played = () => (context ? Math.max(0, Math.min(context.currentTime - began, scheduled())) : 0);

function stop() {
  run++;
  context?.close();
  context = null;
  expected = due = 0;
  pieces = Promise.resolve();
}

function show() {
  const piece = props.value;
  const over = Boolean(piece?.last) && due > 0 && played() >= piece.end_s;
  find("player").hidden = !piece || over;
  find("player").toggleAttribute("data-working", Boolean(piece) && !piece.last);
  if (!piece) return;
  find("toggle").disabled = !context;
  find("toggle").textContent = context && context.state !== "running" ? say("play") : say("pause");
  find("cancel").textContent = piece.last ? say("stop") : say("cancel");
  find("clock").textContent = clock(played());
  find("bar").style.width = `${(100 * (piece.end_s ?? 0)) / (piece.of_s || 1)}%`;
  const text = piece.text ?? say("waiting");
  if (find("text").textContent !== text) find("text").textContent = text;
}

async function schedule(bytes, piece, mine) {
  const data = await bytes;
  if (mine !== run) return;
  if (!context) {
    context = new AudioContext({ sampleRate: piece.sample_rate }); // or each piece would be resampled by itself
    context.onstatechange = show;
    began = context.currentTime + 0.05;
  }
  const buffer = await context.decodeAudioData(data);
  if (mine !== run) return;
  const late = context.currentTime - began - scheduled();
  if (late > 0) began += late + 0.05; // decoding fell behind: pause, and lose no sample
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start(began + scheduled());
  due += buffer.length;
  show();
}

watch("value", () => {
  const piece = props.value;
  const waiting = piece && piece.file === undefined;
  if (!piece || waiting) stop(); // no signal, or a new one
  else if (piece.index === expected) {
    expected++;
    const bytes = fetch(piece.file.url).then((response) => response.arrayBuffer());
    const mine = run;
    pieces = pieces.then(() => schedule(bytes, piece, mine)).catch((error) => mine === run && console.error(error));
  }
  show();
  if (waiting) element.scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone it is far below
});

element.addEventListener("click", (event) => {
  if (event.target.closest("[data-toggle]")) context?.state === "running" ? context.suspend() : context?.resume();
  if (!event.target.closest("[data-cancel]")) return;
  const working = !props.value?.last;
  stop();
  props.value = null;
  show();
  if (working) trigger("cancel");
});

setInterval(() => element.isConnected && props.value && show(), 250);

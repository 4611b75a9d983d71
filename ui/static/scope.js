// The result: one player, and under it waveforms and mels on one time axis. Gradio calls this once per component, with
// `element`, `props`, `server` and `watch`. A value is null, { waiting }, a piece of sound (ui/listen.py) or a scene
// (ui/scope.py). Needs sound.js, wave.js and mels.js before it.
const ALL = { from: 0, to: 1, low: 0, high: 1 };
const SMALLEST_S = 0.02;
const say = (key) => props.texts[navigator.language.startsWith("zh") ? "zh" : "en"][key];
const find = (name) => root.querySelector(`[data-${name}]`);
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const root = document.createElement("section");
const sound = makeSound(() => (refresh(), draw()));
let scene = null; // the scene that is shown; while pieces arrive, only its length
let run = 0; // counts values that replace what is shown; what arrives for an earlier one is dropped
let expected = 0; // index of the next piece
let arriving = Promise.resolve(); // pieces are fetched at the same time, and added in order
let streamed = false; // the output came in pieces
let view = ALL;
let selection = null; // { from, to, low, high }
let waves = new Map();
let data = null; // of the visible window, see mels.js
let pitches = null; // F0 of the original and of the output in the visible window
let shown = "1"; // the output whose mel is shown
let drag = null;
let asked = 0;

root.className = "tts-scope";
root.hidden = true;
root.innerHTML = `
  <div class="bar">
    <button type="button" data-play aria-keyshortcuts="Space"></button>
    <span data-sounds role="group"></span>
    <button type="button" data-loop aria-keyshortcuts="L" aria-pressed="false"></button>
    <output data-clock></output>
    <label><input type="checkbox" data-auto> <span></span></label>
    <a data-save download hidden></a>
  </div>
  <div class="decoded" hidden><i></i></div>
  <div data-summary></div>
  <div data-panels>
    <figure data-panel="wave"><figcaption></figcaption><canvas role="img"></canvas></figure>
    <figure data-panel="input"><figcaption></figcaption><canvas role="img"></canvas></figure>
    <figure data-panel="output"><figcaption></figcaption><canvas role="img"></canvas></figure>
    <figure data-panel="difference"><figcaption></figcaption><canvas role="img"></canvas></figure>
    <div class="axis" aria-hidden="true"></div>
    <div class="overlay" aria-hidden="true"><div data-chosen hidden></div><div data-head></div></div>
  </div>
  <p data-reading aria-live="off"></p>
  <div class="bar" data-tools>
    <button type="button" data-do="in"></button><button type="button" data-do="out"></button>
    <button type="button" data-do="all"></button>
    <button type="button" data-f0 aria-pressed="false">F0</button>
    <span data-selected hidden><b></b> <button type="button" data-do="play"></button>
      <button type="button" data-do="loop"></button> <button type="button" data-do="zoom"></button></span>
    <small></small>
  </div>
  <div data-scales></div>
  <div data-details></div>`;

function remembered(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`tts-infer-${key}`);
    localStorage.setItem(`tts-infer-${key}`, value);
  } catch { /* storage may be forbidden; then nothing is remembered */ }
  return null;
}

function mount() {
  if (root.isConnected) return;
  const place = element.querySelector("[data-scope]");
  place?.append(root);
}

const style = () => {
  const dark = document.body.classList.contains("dark");
  const difference = paletteOf(dark ? props.colours.difference_dark : props.colours.difference);
  return {
    dark, text: dark ? "#e4e4e7" : "#27272a", line: dark ? "#52525b" : "#a1a1aa",
    waves: dark ? ["#56b4e9", "#e69f00", "#cc79a7"] : ["#0072b2", "#b35000", "#9c4f7d"],
    palettes: { level: paletteOf(props.colours.level), difference },
  };
};
let painting = false;
function draw() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    if (scene && root.offsetParent) paint();
  });
}

function paint() {
  const look = style();
  const rate = sound.rate || 1;
  const [original, output] = [sound.samples("0"), sound.samples(shown)];
  const lanes = [];
  if (original) lanes.push({ wave: waveOf("0", original), label: say("in") });
  if (output) lanes.push({ wave: waveOf(shown, output), label: say("out") });
  if (original && output && !streaming()) lanes.push({ wave: waveOf(`0-${shown}`, output, original), label: say("diff") });
  lanes.forEach((lane) => (lane.colour = look.waves[[say("in"), say("out"), say("diff")].indexOf(lane.label)]));
  const visible = seconds();
  if (lanes.length) paintWave(canvas("wave"), lanes, visible, rate, look);
  for (const kind of ["input", "output", "difference"]) {
    if (!scene.scene || (kind !== "output" && !scene.compared)) continue;
    paintMel(canvas(kind), data, kind, { ...visible, low: view.low, high: view.high }, scene, look);
    if (pitches && kind !== "difference") {
      const colours = ["#7fdbff", "#ffffff"];
      pitches.forEach((pitch, i) => {
        if (kind === "output" || i === 0) paintPitch(canvas(kind), pitch, colours[i], { ...visible, low: view.low, high: view.high }, scene);
      });
    }
  }
  marks(visible);
  caption();
  head();
}

const canvas = (panel) => root.querySelector(`[data-panel="${panel}"] canvas`);
const streaming = () => scene && !scene.scene;
const seconds = () => ({ from: view.from * scene.seconds, to: view.to * scene.seconds });

function waveOf(key, samples, other) {
  const known = waves.get(key);
  if (known?.length !== samples.length && !(other && known)) waves.set(key, makeWave(samples, other));
  return waves.get(key);
}

// as `Axis.marks` in report/html.py: round numbers in about eight parts of what is visible
function marks({ from, to }) {
  const raw = (to - from) / 8;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const axis = root.querySelector(".axis");
  const texts = [];
  for (let i = Math.ceil(from / step); i * step <= to; i++) {
    texts.push(`<span style="left:${(100 * (i * step - from)) / (to - from)}%">${Number((i * step).toPrecision(6))}</span>`);
  }
  axis.innerHTML = `${texts.join("")}<span class="unit">${say("time-s")}</span>`;
}

function caption() {
  const mean = data && data.frames > 1 ? say("mean-of").replace("{frames}", data.frames.toFixed(data.frames < 10 ? 1 : 0)) : "";
  const output = scene.sounds?.find((one) => one.id === shown)?.name ?? "";
  const names = { wave: say("waveform"), input: say("input-mel"), output: say("output-mel"), difference: say("difference") };
  const many = (scene.sounds?.length ?? 0) > 2;
  for (const [panel, name] of Object.entries(names)) {
    const title = many && (panel === "output" || panel === "difference") ? `${name}: ${output}` : name;
    const figure = root.querySelector(`[data-panel="${panel}"]`);
    figure.hidden = panel !== "wave" && (streaming() || (panel !== "output" && !scene.compared));
    figure.querySelector("figcaption").textContent = panel === "wave" ? title : [title, mean].filter(Boolean).join(" · ");
    const { from, to } = seconds();
    figure.querySelector("canvas").setAttribute("aria-label", `${title}: ${from.toFixed(2)}–${to.toFixed(2)} s`);
  }
}

function head() {
  if (!scene) return;
  const { from, to } = seconds();
  const at = (time) => (time - from) / (to - from);
  const share = at(sound.position());
  Object.assign(find("head").style, { left: `${100 * share}%`, display: share < 0 || share > 1 ? "none" : "" });
  find("clock").textContent = `${clock(sound.position())} / ${clock(scene.seconds)}`;
  const chosen = find("chosen");
  chosen.hidden = !selection;
  if (selection) {
    const [left, right] = [Math.max(0, at(selection.from)), Math.min(1, at(selection.to))];
    Object.assign(chosen.style, { left: `${100 * left}%`, width: `${100 * Math.max(0, right - left)}%` });
  }
}

function refresh() {
  if (!root.isConnected) return;
  root.hidden = !scene;
  const here = element.querySelector("[data-empty]");
  if (here) here.hidden = Boolean(scene);
  if (!scene) return;
  find("play").textContent = sound.playing ? say("pause") : say("play");
  find("play").disabled = !sound.names().length;
  find("loop").textContent = say("loop");
  find("loop").setAttribute("aria-pressed", String(Boolean(sound.range)));
  find("auto").nextElementSibling.textContent = say("autoplay");
  for (const key of ["in", "out", "all", "play", "loop", "zoom"]) {
    root.querySelector(`[data-do="${key}"]`).textContent = say({ in: "zoom-in", out: "zoom-out", all: "zoom-reset", play: "play", loop: "loop", zoom: "zoom" }[key]);
  }
  root.querySelector("[data-tools] small").textContent = say("scope-hint");
  find("selected").hidden = !selection;
  if (selection) find("selected").querySelector("b").textContent = `${selection.from.toFixed(2)}–${selection.to.toFixed(2)} s`;
  const decoded = root.querySelector(".decoded");
  decoded.hidden = !streaming();
  decoded.querySelector("i").style.width = `${(100 * sound.length()) / scene.seconds}%`;
  for (const button of find("sounds").children) button.setAttribute("aria-pressed", String(button.dataset.sound === sound.chosen));
  find("f0").setAttribute("aria-pressed", String(Boolean(pitches)));
}

// ---- what comes from the server

async function samplesOf(url) {
  const bytes = await (await fetch(url)).arrayBuffer();
  const rate = scene.rate;
  const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  return buffer.getChannelData(0);
}

function reset() {
  run++;
  sound.clear();
  waves = new Map();
  data = pitches = selection = null;
  view = ALL;
  expected = 0;
  streamed = false;
  shown = "1";
  arriving = Promise.resolve();
  find("summary").innerHTML = find("details").innerHTML = find("scales").innerHTML = "";
  find("sounds").replaceChildren();
  find("reading").textContent = "";
}

function take(piece) {
  if (piece.index !== expected) return; // of a run that was replaced
  expected++;
  streamed = true;
  const empty = piece.end_s === scene?.end_s; // it only says that the sound has ended
  scene = { seconds: piece.of_s, end_s: piece.end_s, rate: piece.sample_rate, sounds: [] };
  if (empty) return;
  const mine = run;
  const samples = samplesOf(piece.file.url);
  arriving = arriving.then(async () => {
    const part = await samples;
    if (mine !== run) return;
    sound.add("1", part, piece.sample_rate);
    if (piece.index === 0) sound.play(0);
    refresh();
    draw();
  }).catch((error) => mine === run && console.error(error));
}

async function open(next) {
  const keeps = streamed && scene && next.streamed; // the sound that is playing is the result's
  if (!keeps) reset();
  else await arriving;
  const mine = run;
  scene = next;
  view = ALL;
  find("scales").innerHTML = next.scales;
  shown = next.sounds.at(next.sounds[0].id === "0" ? 1 : 0).id;
  find("sounds").replaceChildren(...next.sounds.map((one) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.sound = one.id;
    return button;
  }));
  rename(next);
  look();
  await Promise.all(next.sounds.map(async (one) => {
    if (keeps && one.id === "1") return;
    const samples = await samplesOf(one.file.url);
    if (mine === run) sound.add(one.id, samples, next.rate);
  }));
  if (mine !== run) return;
  root.dataset.ready = next.scene;
  if (!keeps) sound.choose(shown);
  save();
  if (find("auto").checked && !keeps && navigator.userActivation?.hasBeenActive) sound.play(0);
  refresh();
  draw();
}

// The words about a scene; a blind comparison is named when it is revealed.
function rename(next) {
  scene = { ...scene, sounds: next.sounds };
  find("summary").innerHTML = next.summary;
  find("details").innerHTML = next.details;
  next.sounds.forEach((one, i) => {
    const key = one.id === "0" ? "O" : one.id;
    const button = find("sounds").children[i];
    button.replaceChildren(`${one.name} `, Object.assign(document.createElement("kbd"), { textContent: key }));
    button.setAttribute("aria-keyshortcuts", key);
  });
  refresh();
  draw();
}

function save() {
  const one = scene.sounds?.find((candidate) => candidate.id === sound.chosen);
  const link = find("save");
  link.hidden = !one;
  if (one) Object.assign(link, { href: one.file.url, download: one.file.orig_name, textContent: say("download") });
}

// Ask for the window that is visible, and for its F0.
async function look() {
  draw();
  if (!scene?.scene) return;
  const mine = ++asked;
  await new Promise((resolve) => setTimeout(resolve, 40)); // of several moves in a row, the last one counts
  if (mine !== asked) return;
  const { from, to } = seconds();
  const columns = Math.max(50, Math.round(canvas("output").getBoundingClientRect().width - GUTTER) || 1000);
  const reply = await server.show_window(scene.scene, Number(shown), from, to, columns);
  if (mine !== asked) return;
  if (reply.error) return void (find("reading").textContent = reply.error);
  data = unpacked(reply, scene.hz.length);
  root.dataset.window = `${from.toFixed(3)}-${to.toFixed(3)}`;
  if (pitches) await pitch();
  draw();
}

async function pitch() {
  const { from, to } = seconds();
  const found = await Promise.all(scene.sounds.flatMap((one, i) =>
    one.id === "0" || one.id === shown ? [server.show_pitch(scene.scene, i, from, to)] : []));
  const error = found.find((reply) => reply.error)?.error;
  pitches = error ? [] : found;
  find("reading").textContent = error ?? "";
  root.dataset.f0 = error ? "none" : String(found.length);
  refresh();
  draw();
}

// ---- what hands do

function show(next) {
  view = next;
  look();
}

// factor < 1 zooms in around a place (a share of what is visible); time moves by a share of what is visible
function change(factor, move = 0, around = 0.5) {
  const wide = view.to - view.from;
  const least = Math.min(1, SMALLEST_S / scene.seconds);
  const length = Math.min(1, Math.max(least, wide * factor));
  const from = Math.min(1 - length, Math.max(0, view.from + around * (wide - length) + move * wide));
  show({ ...(length === 1 ? ALL : view), from, to: from + length });
}

function zoomToSelection() {
  if (!selection || selection.to - selection.from < SMALLEST_S) return;
  show({ from: selection.from / scene.seconds, to: selection.to / scene.seconds, low: selection.low, high: selection.high });
}

function hear(name) {
  if (!sound.names().includes(name)) return;
  sound.choose(name);
  save();
  if (name !== "0" && name !== shown) {
    shown = name;
    look();
  }
}

const ACTIONS = {
  in: () => change(0.5), out: () => change(2), all: () => show(ALL),
  play: () => (sound.loop(null), sound.play(selection.from)), zoom: zoomToSelection,
  loop: () => (sound.loop(selection), sound.play(selection.from)),
};
const toggle = () => (sound.playing ? sound.pause() : sound.play());
const toggleLoop = () => sound.loop(sound.range ? null : selection ?? { from: 0, to: sound.length() });
const KEYS = {
  " ": toggle, l: toggleLoop, L: toggleLoop, "+": ACTIONS.in, "=": ACTIONS.in, "-": ACTIONS.out, 0: ACTIONS.all,
  ArrowLeft: () => sound.seek(sound.position() - step()), ArrowRight: () => sound.seek(sound.position() + step()),
  o: () => hear("0"), O: () => hear("0"), Home: () => sound.seek(0),
};
for (let i = 1; i <= 6; i++) KEYS[i] = () => hear(String(i));
const step = () => Math.max(0.05, 0.05 * (view.to - view.from) * scene.seconds);

function onKey(event) {
  if (!scene || !root.offsetParent || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  if (event.target.closest("input, textarea, select, [contenteditable='true'], [role=listbox], [role=tab], .cm-editor")) return;
  if (event.key === " " && event.target.closest("button, a, summary, label")) return;
  event.preventDefault();
  KEYS[event.key]();
}
document.addEventListener("keydown", onKey);

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !scene) return;
  if (button.matches("[data-play]")) toggle();
  if (button.matches("[data-loop]")) toggleLoop();
  if (button.dataset.sound) hear(button.dataset.sound);
  if (button.dataset.do) ACTIONS[button.dataset.do]();
  if (button.matches("[data-f0]")) pitches ? ((pitches = null), refresh(), draw()) : pitch();
});
find("auto").checked = remembered("autoplay") === "yes";
find("auto").addEventListener("change", (event) => remembered("autoplay", event.target.checked ? "yes" : "no"));

// where a pointer is: the panel, the time in seconds, and the height in shares of all bands
function place(event, panel = event.target.closest?.("[data-panel]")) {
  if (!panel || !scene) return null;
  const box = panel.querySelector("canvas").getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientX - box.left - GUTTER) / (box.width - GUTTER)));
  const up = Math.min(1, Math.max(0, (box.bottom - event.clientY) / box.height));
  const { from, to } = seconds();
  return { panel, share, up, time: from + share * (to - from), height: view.low + up * (view.high - view.low) };
}

find("panels").addEventListener("pointerdown", (event) => {
  const at = place(event);
  if (!at || event.button !== 0) return;
  if (event.pointerType !== "touch") event.preventDefault();
  at.panel.setPointerCapture(event.pointerId);
  drag = at;
});
find("panels").addEventListener("pointermove", (event) => {
  const at = place(event, drag?.panel);
  if (!at) return;
  if (drag && Math.abs(at.share - drag.share) > 0.005) {
    const [from, to] = [drag.time, at.time].sort((a, b) => a - b);
    const [low, high] = [drag.height, at.height].sort((a, b) => a - b);
    const flat = drag.panel.dataset.panel === "wave" || Math.abs(at.up - drag.up) < 0.25;
    selection = { from, to, low: flat ? view.low : low, high: flat ? view.high : high };
    refresh();
    head();
  }
  const found = read(data, scene, at.time, at.height);
  const parts = [`${at.time.toFixed(2)} s`];
  if (found && at.panel.dataset.panel !== "wave") {
    const db = (value, plus) => `${plus && value > 0 ? "+" : ""}${Math.round(value)} dB`.replace("-", "−");
    const hz = found.hz < 1000 ? `${Math.round(found.hz)} Hz` : `${(found.hz / 1000).toFixed(1)} kHz`;
    const level = at.panel.dataset.panel === "input" ? found.input : found.output;
    parts.push(hz, db(level, false));
    if (scene.compared) parts.push(`${say("difference-of")} ${db(found.difference, true)}`);
  }
  find("reading").textContent = parts.join(", ");
});
find("panels").addEventListener("pointerup", (event) => {
  const at = drag && place(event, drag.panel);
  if (at && Math.abs(at.share - drag.share) <= 0.005) {
    selection = null;
    if (sound.range) sound.loop(null);
    sound.seek(at.time);
  }
  drag = null;
  refresh();
});
find("panels").addEventListener("pointercancel", () => (drag = null));
find("panels").addEventListener("dblclick", () => show(ALL));
find("panels").addEventListener("wheel", (event) => {
  const at = place(event);
  if (!at || (!event.deltaY && !event.deltaX)) return;
  event.preventDefault();
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) change(1, (event.deltaX || event.deltaY) / 500);
  else change(event.deltaY < 0 ? 0.8 : 1.25, 0, at.share);
}, { passive: false });

watch("value", () => {
  const value = props.value;
  mount();
  if (!value) {
    reset();
    scene = null;
    sound.clear();
  } else if (value.waiting) {
    reset();
    scene = null;
  } else if (value.file) take(value);
  else if (value.scene === scene?.scene) rename(value);
  else open(value).catch(console.error);
  refresh();
});
new ResizeObserver(() => scene && look()).observe(root);
new MutationObserver(draw).observe(document.body, { attributeFilter: ["class"] });
joinOtherPlayers();
mount();

let last = 0;
function frame(now) {
  if (!element.isConnected && now > 1000) {
    document.removeEventListener("keydown", onKey);
    return sound.close();
  }
  if (scene && sound.playing) {
    head();
    sound.tick(!streaming());
    if (now - last > 250) {
      last = now;
      refresh();
    }
  }
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);

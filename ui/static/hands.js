// What hands do to a result: keys, buttons, the pointer over the pictures. They change what is visible and what is
// selected (`view` and `selection` in scope.js), and play, seek, loop and choose in sound.js.
const SMALLEST_S = 0.02; // nobody needs to see less
let drag = null; // where a drag began, see place()

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
  const { from, to, low, high } = selection;
  show({ from: from / scene.seconds, to: to / scene.seconds, low, high });
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

function playSelection(range) {
  sound.loop(range);
  sound.play(selection.from);
}

const ACTIONS = {
  in: () => change(0.5), out: () => change(2), all: () => show(ALL),
  play: () => playSelection(null), loop: () => playSelection(selection), zoom: zoomToSelection,
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

function remembered(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`tts-infer-${key}`);
    localStorage.setItem(`tts-infer-${key}`, value);
  } catch { /* storage may be forbidden; then nothing is remembered */ }
  return null;
}

// where all keys mean something else, and where those do that move or press what has the focus
const CHOSEN = "[type=radio], [type=checkbox], [type=range]";
const WRITING = `input:not(${CHOSEN}), textarea, select, [contenteditable='true'], [role=listbox], .cm-editor`;
const MOVED = "input, [role=tab]";
const PRESSED = `${MOVED}, button, a, summary, label`;
function onKey(event) {
  if (!scene || !root.offsetParent || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  const { key, target } = event;
  const theirs = key === " " ? PRESSED : key.length > 1 ? MOVED : WRITING; // arrows and Home have long names
  if (target.closest(theirs) || target.closest(WRITING)) return;
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
  if (button.matches("[data-f0]")) togglePitch();
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
  const found = read(windows.get(at.panel.dataset.output) ?? data, scene, at.time, at.height);
  const parts = [`${at.time.toFixed(2)} s`];
  if (found && at.panel.dataset.panel !== "wave") {
    const db = (value, plus) => `${plus && value > 0 ? "+" : ""}${Math.round(value)} dB`.replace("-", "−");
    const hz = found.hz < 1000 ? `${Math.round(found.hz)} Hz` : `${(found.hz / 1000).toFixed(1)} kHz`;
    const level = at.panel.dataset.panel === "input" ? found.input : found.output;
    parts.push(hz, db(level, false));
    if (scene.compared && !scene.blind) parts.push(`${say("difference-of")} ${db(found.difference, true)}`);
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
find("panels").addEventListener("pointercancel", () => {
  drag = null;
});
find("panels").addEventListener("dblclick", () => show(ALL));
find("panels").addEventListener("wheel", (event) => {
  const at = place(event);
  if (!at || (!event.deltaY && !event.deltaX)) return;
  event.preventDefault();
  const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
  if (sideways) change(1, (event.deltaX || event.deltaY) / 500);
  else change(event.deltaY < 0 ? 0.8 : 1.25, 0, at.share);
}, { passive: false });

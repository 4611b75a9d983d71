// Zoom of the mel pictures: drag a box, use the buttons, or the keys + - 0 and the arrows on a picture.
// All pictures of one result move together. Gradio calls this once per component, with `element` and `watch`;
// the pictures inside come and go, so every listener sits on `element`.
const ALL = { left: 0, right: 1, bottom: 0, top: 1 };
const SMALLEST = 0.01; // of the whole axis
let view = ALL; // what is visible, in shares of both axes
let drag = null;

function show(next) {
  view = next;
  const [width, height] = [view.right - view.left, view.top - view.bottom];
  for (const plot of element.querySelectorAll(".tts-plot")) {
    Object.assign(plot.querySelector("img").style, {
      width: `${100 / width}%`,
      height: `${100 / height}%`,
      // percentages of a translation are of the scaled image itself
      transform: `translate(${-100 * view.left}%, ${-100 * (1 - view.top)}%)`,
      imageRendering: width < 0.5 ? "pixelated" : "auto",
    });
    const times = roundSteps(Number(plot.dataset.seconds), width);
    label(plot.querySelector(".x .tts-ticks"), "left", times, view.left, width);
    label(plot.querySelector(".y"), "bottom", apart(JSON.parse(plot.dataset.hz), height), view.bottom, height);
  }
}

function label(axis, side, marks, from, length) {
  for (const old of axis.querySelectorAll("span:not(.unit)")) old.remove();
  for (const [text, at] of marks) {
    const position = (at - from) / length;
    if (position < 0 || position > 1) continue;
    const span = document.createElement("span");
    span.textContent = text;
    span.style[side] = `${100 * position}%`;
    axis.append(span);
  }
}

// as `Axis.marks` in report/html.py: round numbers in about five parts of what is visible
function roundSteps(seconds, width) {
  const raw = (seconds * width) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const count = Math.floor(seconds / step) + 1;
  return Array.from({ length: count }, (_, i) => [Number((i * step).toPrecision(6)), (i * step) / seconds]);
}

// as `_apart` in report/pictures.py: the labels that do not touch an earlier one
function apart(marks, height) {
  const kept = [];
  for (const mark of marks) if (kept.every(([, at]) => Math.abs(at - mark[1]) > 0.08 * height)) kept.push(mark);
  return kept;
}

// factor < 1 zooms in; time moves by a share of what is visible
function change(factor, move = 0) {
  const span = (low, high, by) => {
    const length = Math.min(1, Math.max(SMALLEST, (high - low) * factor));
    const start = Math.min(1 - length, Math.max(0, (low + high - length) / 2 + by * (high - low)));
    return [start, start + length];
  };
  const [left, right] = span(view.left, view.right, move);
  const [bottom, top] = factor > 1 ? span(view.bottom, view.top, 0) : [view.bottom, view.top];
  show({ left, right, bottom, top });
}

const ACTIONS = {
  "+": () => change(0.5), "=": () => change(0.5), "-": () => change(2), 0: () => show(ALL),
  ArrowLeft: () => change(1, -0.25), ArrowRight: () => change(1, 0.25),
};
const on = (name, listener) => element.addEventListener(name, listener);
const paneOf = (event) => event.target.closest(".tts-plot .view");

on("keydown", (event) => {
  if (!paneOf(event) || !ACTIONS[event.key]) return;
  event.preventDefault();
  ACTIONS[event.key]();
});
on("click", (event) => ACTIONS[event.target.closest("[data-zoom]")?.dataset.zoom]?.());
on("dblclick", (event) => paneOf(event) && show(ALL));
on("pointerdown", (event) => {
  const pane = paneOf(event);
  if (!pane || event.button !== 0) return;
  event.preventDefault(); // no dragging of the image itself
  pane.focus({ preventScroll: true });
  pane.setPointerCapture(event.pointerId);
  drag = { pane, box: pane.appendChild(document.createElement("b")), x: event.clientX, y: event.clientY };
});
on("pointermove", (event) => {
  if (!drag) return;
  const { left, right, bottom, top } = selection(event);
  const sides = { left, right: 1 - right, bottom, top: 1 - top };
  for (const [side, share] of Object.entries(sides)) drag.box.style[side] = `${100 * share}%`;
});
on("pointerup", (event) => {
  if (!drag) return;
  const box = selection(event);
  stop();
  if (box.right - box.left < 0.02) return; // a click
  const time = (share) => view.left + share * (view.right - view.left);
  const pitch = (share) => view.bottom + share * (view.top - view.bottom);
  const next = { left: time(box.left), right: time(box.right), bottom: pitch(box.bottom), top: pitch(box.top) };
  if (next.right - next.left >= SMALLEST && next.top - next.bottom >= SMALLEST) show(next);
});
on("pointercancel", stop);

function stop() {
  drag?.box.remove();
  drag = null;
}

// the box in shares of the pane; a flat one means all frequencies
function selection(event) {
  const pane = drag.pane.getBoundingClientRect();
  const share = (value) => Math.min(1, Math.max(0, value));
  const [left, right] = [drag.x, event.clientX].map((x) => share((x - pane.left) / pane.width)).sort((a, b) => a - b);
  const [bottom, top] = [drag.y, event.clientY].map((y) => share((pane.bottom - y) / pane.height)).sort((a, b) => a - b);
  return top - bottom < 0.1 ? { left, right, bottom: 0, top: 1 } : { left, right, bottom, top };
}

watch("value", () => {
  view = ALL;
});

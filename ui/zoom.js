// Zoom of the mel pictures: drag a box, use the buttons, or the keys + - 0 and the arrows on a picture.
// All pictures of one result move together. Gradio calls this once per component, with `element` and `watch`;
// the pictures inside come and go, so every listener sits on `element`.
const ALL = { left: 0, right: 1, bottom: 0, top: 1 };
const SMALLEST = 0.01; // of the whole axis
let view = ALL;
let drag = null;

const clamp = (value) => Math.min(1, Math.max(0, value));

function show(next) {
  view = next;
  const width = view.right - view.left;
  const height = view.top - view.bottom;
  for (const plot of element.querySelectorAll(".tts-plot")) {
    const image = plot.querySelector("img");
    image.style.width = `${100 / width}%`;
    image.style.height = `${100 / height}%`;
    // percentages of a translation are of the scaled image itself
    image.style.transform = `translate(${-100 * view.left}%, ${-100 * (1 - view.top)}%)`;
    image.style.imageRendering = width < 0.5 ? "pixelated" : "auto";
    const seconds = Number(plot.dataset.seconds);
    ticks(plot.querySelector(".x"), "left", roundSteps(seconds), view.left, width);
    ticks(plot.querySelector(".y"), "bottom", apart(JSON.parse(plot.dataset.hz), height), view.bottom, height);
  }
}

function ticks(axis, side, marks, from, length) {
  for (const old of axis.querySelectorAll("span:not(.unit)")) old.remove();
  for (const [label, at] of marks) {
    const position = (at - from) / length;
    if (position < 0 || position > 1) continue;
    const span = document.createElement("span");
    span.textContent = label;
    span.style[side] = `${100 * position}%`;
    axis.append(span);
  }
}

function roundSteps(seconds) {
  const raw = (seconds * (view.right - view.left)) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const marks = [];
  for (let i = Math.ceil((seconds * view.left) / step); i * step <= seconds * view.right; i++)
    marks.push([String(Number((i * step).toPrecision(6))), (i * step) / seconds]);
  return marks;
}

// of marks sorted by roundness, those that keep a distance from each other
function apart(marks, height) {
  const kept = [];
  for (const mark of marks) if (kept.every(([, at]) => Math.abs(at - mark[1]) > 0.08 * height)) kept.push(mark);
  return kept;
}

function window_(centre, length) {
  const size = Math.min(1, Math.max(SMALLEST, length));
  const from = Math.min(1 - size, Math.max(0, centre - size / 2));
  return [from, from + size];
}

// factor < 1 zooms in; time moves by a share of what is visible
function change(factor, move = 0) {
  const width = view.right - view.left;
  const height = view.top - view.bottom;
  const [left, right] = window_((view.left + view.right) / 2 + move * width, width * factor);
  const [bottom, top] = factor > 1 ? window_((view.bottom + view.top) / 2, height * factor) : [view.bottom, view.top];
  show({ left, right, bottom, top });
}

const ACTIONS = {
  "+": () => change(0.5), "=": () => change(0.5), "-": () => change(2), 0: () => show(ALL),
  ArrowLeft: () => change(1, -0.25), ArrowRight: () => change(1, 0.25),
};

element.addEventListener("keydown", (event) => {
  if (!event.target.closest(".tts-plot .view") || !ACTIONS[event.key]) return;
  event.preventDefault();
  ACTIONS[event.key]();
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-zoom]");
  if (button) ACTIONS[button.dataset.zoom]();
});
element.addEventListener("dblclick", (event) => {
  if (event.target.closest(".tts-plot .view")) show(ALL);
});

element.addEventListener("pointerdown", (event) => {
  const pane = event.target.closest(".tts-plot .view");
  if (!pane || event.button !== 0) return;
  event.preventDefault(); // no dragging of the image itself
  pane.focus({ preventScroll: true });
  pane.setPointerCapture(event.pointerId);
  const box = document.createElement("b");
  pane.append(box);
  drag = { pane, box, x: event.clientX, y: event.clientY };
});
element.addEventListener("pointermove", (event) => {
  if (drag) outline(selection(event));
});
element.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const chosen = selection(event);
  stop();
  const width = view.right - view.left;
  const height = view.top - view.bottom;
  if (chosen.right - chosen.left < 0.02) return; // a click
  const [left, right] = [view.left + chosen.left * width, view.left + chosen.right * width];
  const [bottom, top] = [view.bottom + chosen.bottom * height, view.bottom + chosen.top * height];
  if (right - left >= SMALLEST && top - bottom >= SMALLEST) show({ left, right, bottom, top });
});
element.addEventListener("pointercancel", stop);

function stop() {
  drag?.box.remove();
  drag = null;
}

// the box in shares of the pane; a flat one means all frequencies
function selection(event) {
  const pane = drag.pane.getBoundingClientRect();
  const [x0, x1] = [drag.x, event.clientX].map((x) => clamp((x - pane.left) / pane.width)).sort((a, b) => a - b);
  const [y0, y1] = [drag.y, event.clientY].map((y) => clamp((pane.bottom - y) / pane.height)).sort((a, b) => a - b);
  return y1 - y0 < 0.1 ? { left: x0, right: x1, bottom: 0, top: 1 } : { left: x0, right: x1, bottom: y0, top: y1 };
}

function outline({ left, right, bottom, top }) {
  const style = { left, right: 1 - right, bottom, top: 1 - top };
  for (const [side, share] of Object.entries(style)) drag.box.style[side] = `${100 * share}%`;
}

watch("value", () => {
  view = ALL;
});

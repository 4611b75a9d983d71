// Paints what is under the player: waveforms, mels, F0, the time axis, the playhead. It reads the state in scope.js,
// and paints with wave.js and mels.js. draw() paints everything with the next frame, head() only what moves.
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const canvas = (panel) => root.querySelector(`[data-panel="${panel}"] canvas`);
const streaming = () => scene && !scene.scene;
const seconds = () => ({ from: view.from * scene.seconds, to: view.to * scene.seconds });
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
  const [blue, orange, pink] = look.waves;
  if (original) lanes.push({ wave: waveOf("0", original), label: say("in"), colour: blue });
  if (output && !scene.blind) lanes.push({ wave: waveOf(shown, output), label: say("out"), colour: orange });
  if (original && output && !streaming() && !scene.blind) {
    lanes.push({ wave: waveOf(`0-${shown}`, output, original), label: say("diff"), colour: pink });
  }
  const visible = seconds();
  if (lanes.length) paintWave(canvas("wave"), lanes, visible, rate, look);
  const part = { ...visible, low: view.low, high: view.high };
  for (const kind of ["input", "output"]) {
    if (!scene.scene || (kind === "input" && !scene.compared)) continue;
    paintMel(canvas(kind), data, kind, part, scene, look);
    if (pitches) {
      const colours = ["#7fdbff", "#ffffff"];
      pitches.forEach((pitch, i) => {
        if (kind === "output" || i === 0) paintPitch(canvas(kind), pitch, colours[i], part, scene);
      });
    }
  }
  for (const figure of scene.scene && scene.compared ? find("differences").children : []) {
    const here = windows.get(figure.dataset.output);
    paintMel(figure.querySelector("canvas"), here, "difference", part, scene, look);
  }
  marks(visible);
  captions();
  head();
}

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
    const left = (100 * (i * step - from)) / (to - from);
    texts.push(`<span style="left:${left}%">${Number((i * step).toPrecision(6))}</span>`);
  }
  axis.innerHTML = `${texts.join("")}<span class="unit">${say("time-s")}</span>`;
}

function captions() {
  const frames = data?.frames > 1 && data.frames.toFixed(data.frames < 10 ? 1 : 0); // in a column
  const mean = frames ? ` · ${say("mean-of").replace("{frames}", frames)}` : "";
  const name = (id) => ((scene.sounds?.length ?? 0) > 2 ? `: ${scene.sounds.find((one) => one.id === id)?.name}` : "");
  const panel = (kind) => root.querySelector(`[data-panel="${kind}"]`);
  caption(panel("wave"), say("waveform"), "");
  caption(panel("input"), say("input-mel"), mean);
  caption(panel("output"), `${say("output-mel")}${name(shown)}`, mean);
  panel("input").hidden = streaming() || !scene.compared;
  panel("output").hidden = streaming() || scene.blind; // pictures would tell which is which
  find("differences").hidden = streaming() || scene.blind || !scene.compared;
  for (const figure of find("differences").children) {
    const id = figure.dataset.output;
    caption(figure, `${say("difference")}${name(id)}`, id === shown ? mean : "");
  }
}

function caption(figure, title, how) {
  const { from, to } = seconds();
  figure.querySelector("figcaption").textContent = `${title}${how}`;
  figure.querySelector("canvas").setAttribute("aria-label", `${title}: ${from.toFixed(2)}–${to.toFixed(2)} s`);
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

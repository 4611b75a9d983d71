// The result: one player, and under it waveforms and mels on one time axis. Gradio calls this once per component, with
// `element`, `props`, `server` and `watch`. A value is null, { waiting }, a piece of sound (ui/listen.py) or a scene
// (ui/scope.py). Here are the state and what comes from the server. Needs players.js, sound.js, wave.js,
// mels.js, markup.js, panels.js and hands.js before it; Gradio runs them as one.
const ALL = { from: 0, to: 1, low: 0, high: 1 };
const sound = makeSound(() => {
  refresh();
  draw();
});
let scene = null; // the scene that is shown; while pieces arrive, only its length
let run = 0; // counts values that replace what is shown; what arrives for an earlier one is dropped
let expected = 0; // index of the next piece
let arriving = Promise.resolve(); // pieces are fetched at the same time, and added in order
let streamed = false; // the output came in pieces
let view = ALL;
let selection = null; // { from, to, low, high }
let waves = new Map();
let data = null; // of the visible window and the shown output, see mels.js
let windows = new Map(); // the same of every output
let pitches = null; // F0 of the original and of the output in the visible window
let shown = "1"; // the output whose mel is shown
let asked = 0;

function reset() {
  run++;
  asked++; // of the scene before
  sound.clear();
  waves = new Map();
  windows = new Map();
  data = pitches = selection = null;
  view = ALL;
  expected = 0;
  streamed = false;
  shown = "1";
  arriving = Promise.resolve();
  find("summary").innerHTML = find("details").innerHTML = find("scales").innerHTML = "";
  find("sounds").replaceChildren();
  find("save").hidden = true; // it is of the result before
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
  const samples = samplesAt(piece.file.url, piece.sample_rate);
  arriving = arriving.then(async () => {
    const part = await samples;
    if (mine !== run) return;
    sound.add("1", part, piece.sample_rate);
    if (piece.index === 0) sound.play(0);
    refresh();
    draw();
  }).catch((error) => mine === run && console.error(error));
}

const outputs = () => scene.sounds.filter((one) => one.id !== "0");

async function open(next) {
  const keeps = streamed && scene && next.streamed; // the sound that is playing is the result's
  if (!keeps) reset();
  const mine = run;
  if (keeps) await arriving;
  if (mine !== run) return;
  scene = next;
  view = ALL;
  find("scales").innerHTML = next.scales;
  shown = outputs()[0].id;
  layDifferences(outputs());
  find("sounds").replaceChildren(...next.sounds.map((one) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.sound = one.id;
    return button;
  }));
  rename(next);
  look();
  await Promise.all(next.sounds.map(async (one) => {
    if (keeps && one.id === "1") return;
    const samples = await samplesAt(one.file.url, next.rate);
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
  scene = { ...scene, sounds: next.sounds, blind: next.blind };
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
  // of an output that is not shown, only the difference is drawn, and small
  const replies = await Promise.all(outputs().map(({ id }) =>
    server.show_window(scene.scene, Number(id), from, to, id === shown ? columns : Math.ceil(columns / 2))));
  if (mine !== asked) return;
  const error = replies.find((reply) => reply.error)?.error;
  if (error) {
    find("reading").textContent = error;
    return;
  }
  windows = new Map(outputs().map(({ id }, i) => [id, unpacked(replies[i], scene.hz.length)]));
  data = windows.get(shown);
  root.dataset.window = `${from.toFixed(3)}-${to.toFixed(3)}`;
  if (pitches) await pitch();
  draw();
}

function togglePitch() {
  if (!pitches) return void pitch();
  pitches = null;
  refresh();
  draw();
}

async function pitch() {
  const mine = run;
  const { from, to } = seconds();
  const found = await Promise.all(scene.sounds.flatMap((one, i) =>
    one.id === "0" || one.id === shown ? [server.show_pitch(scene.scene, i, from, to)] : []));
  if (mine !== run) return;
  const error = found.find((reply) => reply.error)?.error;
  pitches = error ? [] : found;
  find("reading").textContent = error ?? "";
  root.dataset.f0 = error ? "none" : String(found.length);
  refresh();
  draw();
}

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

// Listening tests: plays what ui/listening.py prepared, asks, and has the server count. A value is null or a test:
// { kind: "abx" or "mushra", clip, trials, rate, sounds: [{ name, file }] }; of MUSHRA, the reference is the first.
// Needs sound.js before it. Which sound is which in a trial is drawn here, by the browser's random numbers for secrets.
const say = (key) => (props.texts[navigator.language.split("-")[0]] ?? props.texts.en)[key];
const root = document.createElement("section");
const sound = makeSound(() => mark());
const REFERENCE = "R"; // the open reference of MUSHRA
let test = null; // the value, with the samples of its sounds
let rows = []; // answers so far
let order = []; // of this trial: places in test.sounds, as they are numbered or lettered
let heard = new Set();
let run = 0;

root.className = "test";
root.hidden = true;

const die = (sides) => crypto.getRandomValues(new Uint32Array(1))[0] % sides; // 2^32 is so large that it is fair
const abx = () => test.kind === "abx";
const trial = () => 1 + rows.length / (abx() ? 1 : test.sounds.length);
const letters = () => (abx() ? ["A", "B", "X"] : order.map((_, i) => String(i + 1)));

function shuffled(count) {
  const places = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = die(i + 1);
    [places[i], places[other]] = [places[other], places[i]];
  }
  return places;
}

function made(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function button(data, value, text, press) {
  const node = made("button", { type: "button", [`data-${data}`]: value }, text);
  if (data === "sound") node.append(" ", made("kbd", {}, value));
  node.addEventListener("click", press);
  return node;
}

// What is named elsewhere on the tab would tell.
function hideNames(hidden) {
  for (const id of ["samples", "comparison"]) {
    document.getElementById(id)?.style.setProperty("display", hidden ? "none" : "");
  }
}

async function begin(value) {
  end();
  const mine = ++run;
  const loaded = await Promise.all(value.sounds.map(async (one) => ({
    ...one, samples: await samplesAt(one.file.url, value.rate),
  })));
  if (mine !== run) return;
  test = { ...value, sounds: loaded };
  rows = [];
  hideNames(true);
  next();
}

function next() {
  const at = sound.position();
  const playing = sound.playing;
  sound.clear();
  heard = new Set();
  order = abx() ? [0, 1, die(2)] : shuffled(test.sounds.length);
  lay();
  for (const [i, letter] of letters().entries()) sound.add(letter, test.sounds[order[i]].samples, test.rate);
  if (!abx()) sound.add(REFERENCE, test.sounds[0].samples, test.rate);
  sound.choose(abx() ? "X" : REFERENCE);
  sound.loop({ from: 0, to: sound.length() });
  if (playing) sound.play(at);
  mark();
}

function lay() {
  const head = made("b", {}, say("listening-trial").replace("{trial}", trial()).replace("{trials}", test.trials));
  const hint = made("p", {}, say(abx() ? "listening-abx" : "listening-mushra"));
  const play = button("play", "", "", toggle);
  const stop = button("stop", "", say("listening-stop"), end);
  const progress = made("progress", { max: test.trials, value: trial() - 1, "aria-label": head.textContent });
  root.replaceChildren(head, progress, hint, ...(abx() ? questions(play, stop) : scales(play, stop)));
  root.hidden = false;
}

function questions(play, stop) {
  const sounds = letters().map((letter) => button("sound", letter, "", () => hear(letter)));
  const answers = ["a", "b"].map((side) => button("answer", side, say(`listening-is-${side}`), () => answer(side)));
  return [made("div", { role: "group" }, play, ...sounds), made("div", {}, ...answers, stop)];
}

function scales(play, stop) {
  const reference = button("sound", REFERENCE, say("listening-reference"), () => hear(REFERENCE));
  const lines = letters().map((letter) => {
    const output = made("output", {}, "50");
    const attributes = { type: "range", min: 0, max: 100, value: 50, "aria-label": `${say("sample")} ${letter}` };
    const input = made("input", attributes);
    input.addEventListener("input", () => output.replaceChildren(input.value));
    input.addEventListener("pointerdown", () => hear(letter));
    return made("p", { class: "scale" }, button("sound", letter, say("sample"), () => hear(letter)), input, output);
  });
  const done = button("next", "", say("listening-next"), rate);
  return [made("div", {}, play, reference), ...lines, made("div", {}, done, stop)];
}

function toggle() {
  if (sound.playing) return sound.pause();
  heard.add(sound.chosen);
  sound.play();
}

function hear(letter) {
  heard.add(letter);
  sound.choose(letter);
  if (!sound.playing) sound.play();
  mark();
}

// An answer counts when everything that it is about was heard.
const ready = () => letters().every((letter) => heard.has(letter));

function answer(side) {
  if (!ready()) return;
  const [a, b] = test.sounds.map((one) => one.name);
  rows.push({ clip: test.clip, trial: trial(), a, b, x: "ab"[order[2]], answer: side });
  advance();
}

function rate() {
  if (!ready()) return;
  const inputs = [...root.querySelectorAll("input")];
  const now = trial();
  const given = new Map(order.map((place, i) => [place, Number(inputs[i].value)]));
  for (const [place, one] of test.sounds.entries()) {
    rows.push({ clip: test.clip, trial: now, system: one.name, score: given.get(place) });
  }
  advance();
}

function advance() {
  if (trial() <= test.trials) return next();
  finish().catch(console.error);
}

async function finish() {
  const mine = run;
  const { kind, clip } = test;
  const answers = rows;
  end();
  const reply = await server.score(kind, answers);
  if (mine + 1 !== run) return;
  const result = made("div", {});
  result.innerHTML = reply.error ? "" : reply.html; // words and numbers of ui/listening.py, names escaped
  if (reply.error) result.textContent = reply.error;
  const shown = [made("section", { role: "status", "data-result": "" }, ...result.childNodes)];
  if (reply.csv) {
    const href = URL.createObjectURL(new Blob([reply.csv], { type: "text/csv" }));
    const link = made("a", { href, download: `${kind}-${clip}.csv`, "data-csv": "" }, say("listening-csv"));
    shown.push(made("div", {}, link));
  }
  root.replaceChildren(...shown);
  root.hidden = false;
}

function end() {
  run++;
  sound.clear();
  test = null;
  hideNames(false);
  root.replaceChildren();
  root.hidden = true;
}

function mark() {
  if (!test) return;
  root.querySelector("[data-play]").textContent = sound.playing ? say("pause") : say("play");
  for (const node of root.querySelectorAll("[data-sound]")) {
    node.setAttribute("aria-pressed", String(node.dataset.sound === sound.chosen));
  }
  for (const node of root.querySelectorAll("[data-answer], [data-next]")) node.disabled = !ready();
}

// Before the player of the comparison, which has keys of its own.
function onKey(event) {
  if (!element.isConnected) return leave();
  if (!test || !root.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("textarea, select, [role=listbox], [role=tab], input:not([type=range])")) return;
  const letter = event.key.toUpperCase();
  if (sound.names().includes(letter)) hear(letter);
  else if (event.key === " " && !event.target.closest("button, a, summary")) toggle();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function leave() {
  window.removeEventListener("keydown", onKey, true);
  sound.close();
}

watch("value", () => {
  const place = element.querySelector("[data-listening]");
  if (!root.isConnected) place?.append(root);
  if (props.value) begin(props.value).catch(console.error);
  else end();
});
window.addEventListener("keydown", onKey, true);

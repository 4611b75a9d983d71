// The elements of a result, empty, and the words on its buttons. Those that scope.js shows have names: find("play") is
// the one with data-play. It reads the state in scope.js, and changes none.
const say = (key) => (props.texts[navigator.language.split("-")[0]] ?? props.texts.en)[key];
const find = (name) => root.querySelector(`[data-${name}]`);
const root = document.createElement("section");

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
    <div data-differences></div>
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

function mount() {
  if (root.isConnected) return;
  const place = element.querySelector("[data-scope]");
  place?.append(root);
}

// One picture of the difference for each output.
function layDifferences(outputs) {
  find("differences").replaceChildren(...outputs.map(({ id }) => {
    const figure = document.createElement("figure");
    Object.assign(figure.dataset, { panel: "difference", output: id });
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    figure.append(document.createElement("figcaption"), canvas);
    return figure;
  }));
}

// Buttons and texts as the state is.
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
    const text = { in: "zoom-in", out: "zoom-out", all: "zoom-reset" }[key] ?? key;
    root.querySelector(`[data-do="${key}"]`).textContent = say(text);
  }
  root.querySelector("[data-tools] small").textContent = say("scope-hint");
  find("selected").hidden = !selection;
  const range = selection && `${selection.from.toFixed(2)}–${selection.to.toFixed(2)} s`;
  if (range) find("selected").querySelector("b").textContent = range;
  const decoded = root.querySelector(".decoded");
  decoded.hidden = !streaming();
  decoded.querySelector("i").style.width = `${(100 * sound.length()) / scene.seconds}%`;
  for (const button of find("sounds").children) {
    button.setAttribute("aria-pressed", String(button.dataset.sound === sound.chosen));
  }
  find("f0").setAttribute("aria-pressed", String(Boolean(pitches)));
}

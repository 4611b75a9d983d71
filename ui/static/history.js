// The buttons of the strip of last results. Gradio calls this once, with `element`, `props` and `trigger`. A result
// that is to be played is opened by the server first; then the player's own button is pressed. The names of the
// results are kept in the browser, so that they are there when the page is loaded again.
const PATIENCE_MS = 10_000;
const TICK_MS = 50;
const player = () => document.querySelector(`#${props.result} .tts-scope`);

function playing() {
  const { pause } = props.texts[navigator.language.split("-")[0]] ?? props.texts.en;
  return player().querySelector("[data-play]").textContent === pause;
}

async function play(scene) {
  const end = performance.now() + PATIENCE_MS;
  const tick = () => new Promise((go) => setTimeout(go, TICK_MS));
  while (player()?.dataset.ready !== scene && performance.now() < end) await tick();
  await new Promise((go) => setTimeout(go, TICK_MS)); // a result that plays at once has begun by then
  if (player()?.dataset.ready === scene && !playing()) player().querySelector("[data-play]").click();
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const { scene } = button.closest("[data-scene]").dataset;
  trigger(button.dataset.act, { scene });
  if (button.dataset.act === "select") play(scene);
});

watch("value", () => {
  const scenes = [...element.querySelectorAll("[data-scene]")].map((card) => card.dataset.scene);
  try {
    localStorage.setItem(`tts-infer-${props.result}`, JSON.stringify(scenes));
  } catch { /* storage may be forbidden; then nothing is remembered */ }
});

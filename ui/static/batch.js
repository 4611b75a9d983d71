// The table of a batch: its outputs can be played, one at a time. A value is null, or { html, sounds }, with a file for
// each output; a button's data-play is the name of an output. Needs players.js before it.
const say = (key) => (props.texts[navigator.language.split("-")[0]] ?? props.texts.en)[key];
const player = new Audio();
let playing = null; // name of the output

const place = () => element.querySelector("[data-batch]");

function mark() {
  for (const button of place()?.querySelectorAll("[data-play]") ?? []) {
    const here = button.dataset.play === playing && !player.paused;
    button.textContent = here ? "❚❚" : "▶";
    button.setAttribute("aria-pressed", String(here));
    button.setAttribute("aria-label", `${say(here ? "pause" : "play")}: ${button.dataset.play}`);
    button.hidden = !props.value?.sounds?.[button.dataset.play];
  }
}

element.addEventListener("click", (event) => {
  const name = event.target.closest("[data-play]")?.dataset.play;
  const sound = props.value?.sounds?.[name];
  if (!sound) return;
  if (name === playing && !player.paused) return player.pause();
  if (name !== playing) player.src = sound.url;
  playing = name;
  player.play().catch((error) => {
    if (error.name !== "AbortError") console.error(error); // paused before it began
  });
});
for (const kind of ["play", "pause", "ended"]) player.addEventListener(kind, mark);

function show() {
  player.pause();
  playing = null;
  if (place()) place().innerHTML = props.value?.html ?? ""; // of ui/batch.py, names escaped
  element.querySelector("[data-hint]")?.toggleAttribute("hidden", Boolean(props.value));
  mark();
}
watch("value", show);
joinOtherPlayers();

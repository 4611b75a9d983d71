// Says what runs for this page, and stops it. It asks the server after each click or key press, and as long as
// something runs. Gradio calls this once, with `element`, `props` and `server`. window.ttsInferStop() ends what runs.
const QUICK_MS = 200;
const QUIET_MS = 2500; // after an action, a job may come so late
const say = (key) => (props.texts[navigator.language.split("-")[0]] ?? props.texts.en)[key];
const line = () => element.querySelector(".tts-status");
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
let until = 0;
let asking = false;
let note = ""; // what is said when nothing runs
let busy = false;
let stops = 0; // an answer that was asked for before a stop has ended is of the past
let stopping = 0;

function told(job) {
  if (job.ahead) return fill(say("ahead"), { ahead: job.ahead, seconds: Math.ceil(job.wait_s) });
  const long = (seconds) => (seconds < 10 ? seconds.toFixed(1) : Math.round(seconds));
  const parts = [fill(say(job.what), { done: long(job.done), total: long(job.total) })];
  if (job.left_s >= 1) parts.push(fill(say("left"), { seconds: Math.ceil(job.left_s) }));
  return parts.join(", ");
}

function show(jobs) {
  const place = line();
  if (!place) return;
  busy = jobs.length > 0;
  place.hidden = !busy && !note;
  const text = busy ? jobs.map(told).join("; ") : note;
  const span = place.querySelector("span");
  if (span.textContent !== text) span.textContent = text;
  const button = place.querySelector("button");
  button.textContent = say("cancel");
  button.hidden = !busy;
  const [job] = jobs;
  place.style.setProperty("--share", job?.total ? job.done / job.total : 0);
  place.toggleAttribute("data-busy", busy);
}

async function ask() {
  if (asking) return;
  asking = true;
  try {
    while (element.isConnected && performance.now() < until) {
      const before = stops;
      const jobs = await server.show_jobs(null);
      if (before === stops && !stopping) {
        if (jobs.length) {
          until = performance.now() + QUIET_MS;
          note = "";
        }
        show(jobs);
      }
      await new Promise((resolve) => setTimeout(resolve, QUICK_MS));
    }
  } catch {
    note = say("no-answer");
    show([]);
  } finally {
    asking = false;
  }
}

function soon() {
  until = performance.now() + QUIET_MS;
  ask();
}

async function stop() {
  stopping++;
  try {
    show(await server.stop_jobs(null));
  } finally {
    stopping--;
    stops++;
    soon();
  }
}

// What is pressed ends what runs, also what the page has not heard of yet.
window.ttsInferStop = stop;
element.addEventListener("click", async (event) => {
  if (!event.target.closest("button")) return;
  note = say("was-cancelled");
  await stop();
});
for (const kind of ["click", "keydown", "change"]) document.addEventListener(kind, soon);
soon();

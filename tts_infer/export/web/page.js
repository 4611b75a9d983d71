// What the page does: it isolates itself for threads, loads the vocoder, and runs it on the chosen file.
import { readNpy, readWav, writeWav } from "./formats.js";
import { Vocoder } from "./vocoder.js";

const find = (id) => document.getElementById(id);

function say(text, isError = false) {
  find("status").textContent = text;
  find("status").classList.toggle("error", isError);
}

/** Load the page once more, through a service worker: browsers give threads to isolated pages only. */
async function isolate() {
  if (crossOriginIsolated || !navigator.serviceWorker || sessionStorage.getItem("isolated")) return;
  sessionStorage.setItem("isolated", "tried"); // once: where it does not help, one thread computes
  try {
    await navigator.serviceWorker.register("isolation.js");
  } catch {
    return; // a browser without service workers, as in some private windows
  }
  const patience = new Promise((resolve) => setTimeout(resolve, 3000)); // where they are blocked, none gets ready
  if (!(await Promise.race([navigator.serviceWorker.ready, patience]))) return;
  location.reload();
  await new Promise(() => {}); // the page goes away
}

/** The number of threads in the address, within what the browser allows; a choice loads the page anew. */
function chosenThreads() {
  const most = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const asked = Number(new URLSearchParams(location.search).get("threads")) || most;
  const threads = Math.min(most, Math.max(1, asked));
  for (let n = 1; n <= most; n++) find("threads").add(new Option(n, n, false, n === threads));
  find("threads").onchange = (event) => { location.search = `?threads=${event.target.value}`; };
  if (!crossOriginIsolated) find("isolation").textContent = "(this browser gives this page one thread)";
  return threads;
}

async function tensorOf(file, facts) {
  const buffer = await file.arrayBuffer();
  if (!file.name.toLowerCase().endsWith(".npy")) {
    if (!facts.stages[0].takes.includes("audio")) throw new Error("this vocoder copies no audio; give its features");
    const samples = await readWav(buffer, facts.sample_rate);
    return { name: "audio", data: samples, shape: [1, samples.length] };
  }
  const { data, channels, frames } = readNpy(buffer);
  if (channels !== facts.channels) throw new Error(`the mel has ${channels} channels; expected ${facts.channels}`);
  if (!data.every(Number.isFinite)) throw new Error("the mel holds NaN or infinity");
  return { name: facts.features, data, shape: [1, channels, frames] };
}

function show({ samples, times }, facts) {
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  find("stages").replaceChildren(...times.map(({ stage, ms }) => {
    const row = document.createElement("tr");
    row.append(...[stage, ms.toFixed(1), `${((100 * ms) / total).toFixed(0)} %`].map((text) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      return cell;
    }));
    return row;
  }));
  const seconds = samples.length / facts.sample_rate;
  find("speed").textContent = `${seconds.toFixed(2)} s of audio in ${total.toFixed(0)} ms, ${((1000 * seconds) / total).toFixed(1)} x real time`;
  URL.revokeObjectURL(find("audio").src);
  find("audio").src = find("save").href = URL.createObjectURL(writeWav(samples, facts.sample_rate));
  find("result").hidden = false;
}

async function decode(file, vocoder) {
  say("Computing ...");
  find("result").hidden = true;
  find("file").disabled = true;
  try {
    const result = await vocoder.run(await tensorOf(file, vocoder.facts));
    if (result.samples.length === 0) throw new Error("this is too short: it gives no samples");
    show(result, vocoder.facts);
    say("Done.");
  } catch (error) {
    say(error.message, true);
  } finally {
    find("file").disabled = false;
    find("file").value = "";
  }
}

await isolate();
try {
  const vocoder = await Vocoder.load(chosenThreads());
  const { facts } = vocoder;
  find("about").textContent = `${facts.name}: ${facts.sample_rate} Hz. Licence of the weights: ${facts.license}.`;
  find("file").disabled = false;
  find("file").onchange = (event) => { if (event.target.files.length) decode(event.target.files[0], vocoder); };
  say("Ready.");
} catch (error) {
  say(`The vocoder cannot be loaded: ${error.message}`, true);
}

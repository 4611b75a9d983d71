// The vocoder: the stages that vocoder.json lists, run one after the other by onnxruntime-web.
import * as ort from "./runtime/ort.wasm.min.mjs";

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer;
}

/** A file that lies here compressed. */
async function unpacked(name) {
  const stream = (await fetched(`${name}.gz`)).body.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export class Vocoder {
  /** Load the runtime and all stages. The number of threads is that of the page's life. */
  static async load(threads) {
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = { mjs: new URL("runtime/ort-wasm-simd-threaded.mjs", import.meta.url).href };
    ort.env.wasm.wasmBinary = await unpacked("runtime/ort-wasm-simd-threaded.wasm");
    const facts = await (await fetched("vocoder.json")).json();
    for (const stage of facts.stages) stage.session = await ort.InferenceSession.create(await unpacked(stage.file));
    return new Vocoder(facts);
  }

  constructor(facts) { this.facts = facts; }

  /** Compute audio of one tensor, {name, data, shape}. Returns {samples, times}, times of each stage in ms. */
  async run({ name, data, shape }) {
    const { stages, features } = this.facts;
    const first = stages.findIndex((stage) => stage.takes.includes(name));
    const live = { [name]: new ort.Tensor("float32", data, shape) };
    const times = [];
    for (const { name: title, session, takes, gives } of stages.slice(first)) {
      const start = performance.now();
      const made = await session.run(Object.fromEntries(takes.map((one) => [`${one}_in`, live[one]])));
      times.push({ stage: title, ms: performance.now() - start });
      for (const one of gives) live[one] = made[one];
      if (live[features]?.dims.at(-1) === 0) throw new Error("the audio is too short for one frame");
    }
    return { samples: live.audio.data, times };
  }
}

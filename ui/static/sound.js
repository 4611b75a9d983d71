// Plays the sounds of a result, all at one place at once and one of them audible, so that ears can switch in place.
//
//   const sound = makeSound(changed)      changed() is called when playing starts, stops or gets further
//   sound.add(name, samples, rate)        samples of one sound; again for the same name: what follows them
//   sound.play(seconds), pause(), seek(seconds), choose(name), loop({ from, to } or null)
//
// All sounds go through one AudioContext. Each has its own gain; choosing another one crosses them over.
const CROSS_S = 0.008; // long enough that no click is heard, short enough to be at once
const SOON_S = 0.03; // what is scheduled starts together

// The samples of a file of one channel.
async function samplesAt(url, rate) {
  const bytes = await (await fetch(url)).arrayBuffer();
  const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  return buffer.getChannelData(0);
}

function makeSound(changed) {
  let context = null;
  let tracks = new Map(); // name -> { parts: [{ samples, start }], length, gain, sources }
  let chosen = null;
  let rate = 0;
  let origin = null; // { time, at }: the context's clock when the place `at` sounded; null: silent
  let rest = 0; // where it goes on
  let range = null; // what is repeated

  // Only one thing sounds on a page: every player says when it starts, and stops when another one says so.
  const token = {};
  const hush = (event) => event.detail !== token && pause();
  document.addEventListener("tts-sound", hush);

  function ready() {
    if (context?.sampleRate !== rate) {
      context?.close();
      context = new AudioContext({ sampleRate: rate }); // or every part would be resampled by itself
      for (const track of tracks.values()) track.gain = null;
      context.onstatechange = changed;
    }
    return context;
  }

  function add(name, samples, sampleRate) {
    rate = sampleRate;
    if (!tracks.has(name)) tracks.set(name, { parts: [], length: 0, gain: null, sources: [] });
    const track = tracks.get(name);
    const part = { samples, start: track.length };
    track.parts.push(part);
    track.length += samples.length;
    chosen ??= name;
    if (origin && !range) follow(name, track, part);
  }

  // One part instead of several: what plays next starts as one source. The parts are copied once.
  function whole(track) {
    if (track.parts.length === 1) return track.parts[0].samples;
    const samples = new Float32Array(track.length);
    for (const part of track.parts) samples.set(part.samples, part.start);
    track.parts = [{ samples, start: 0 }];
    return samples;
  }

  function source(name, track, samples) {
    const context = ready();
    if (!track.gain) {
      track.gain = new GainNode(context, { gain: name === chosen ? 1 : 0 });
      track.gain.connect(context.destination);
    }
    const buffer = new AudioBuffer({ length: Math.max(1, samples.length), sampleRate: rate });
    buffer.copyToChannel(samples, 0);
    const node = new AudioBufferSourceNode(context, { buffer });
    node.connect(track.gain);
    track.sources.push(node);
    return node;
  }

  // A part that arrives while it plays starts at the sample after the one before.
  function follow(name, track, part) {
    const time = origin.time + part.start / rate - origin.at;
    const late = Math.max(0, context.currentTime + SOON_S - time);
    if (name === chosen) {
      origin.time += late; // decoding fell behind: pause, and lose no sample
      source(name, track, part.samples).start(time + late);
    } else if (late < part.samples.length / rate) source(name, track, part.samples).start(time + late, late);
  }

  function play(at = rest) {
    halt();
    if (!tracks.size) return;
    document.dispatchEvent(new CustomEvent("tts-sound", { detail: token }));
    ready();
    context.resume();
    if (range && (at < range.from || at >= range.to)) at = range.from;
    else if (!range && at >= length() - 0.01) at = 0;
    origin = { time: context.currentTime + SOON_S, at };
    for (const [name, track] of tracks) {
      const samples = whole(track);
      const node = source(name, track, samples);
      const end = samples.length / rate;
      if (range) Object.assign(node, { loop: true, loopStart: range.from, loopEnd: Math.min(range.to, end) });
      if (at < end) node.start(origin.time, at);
    }
    changed();
  }

  // What sounds is faded out, or the cut would click. The next sources get gains of their own.
  function halt() {
    rest = position();
    origin = null;
    for (const track of tracks.values()) {
      const { gain, sources } = track;
      Object.assign(track, { gain: null, sources: [] });
      if (!gain) continue;
      const now = context.currentTime;
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(0, now + CROSS_S);
      setTimeout(() => {
        for (const node of sources) node.disconnect();
        gain.disconnect();
      }, 1e3 * 3 * CROSS_S);
    }
  }

  function pause() {
    if (!origin) return;
    halt();
    changed();
  }

  function seek(at) {
    const playing = origin !== null;
    const place = Math.min(Math.max(0, at), length());
    if (playing) play(place);
    else rest = place;
    changed();
  }

  function choose(name) {
    if (!tracks.has(name) || name === chosen) return;
    chosen = name;
    for (const [other, track] of tracks) {
      if (!track.gain) continue;
      const gain = track.gain.gain;
      gain.cancelScheduledValues(context.currentTime);
      gain.setValueAtTime(gain.value, context.currentTime);
      gain.linearRampToValueAtTime(other === name ? 1 : 0, context.currentTime + CROSS_S);
    }
    changed();
  }

  function loop(next) {
    const playing = origin !== null;
    const at = position();
    const whole = (seconds) => Math.round(seconds * rate) / rate; // between two samples, sound would be interpolated
    range = next && { from: whole(next.from), to: whole(next.to) };
    if (playing) play(at);
    changed();
  }

  const length = () => (rate ? Math.max(0, ...[...tracks.values()].map((track) => track.length)) / rate : 0);

  function position() {
    if (!origin) return rest;
    const at = origin.at + Math.max(0, context.currentTime - origin.time);
    if (range) return at < range.to ? at : range.from + ((at - range.from) % (range.to - range.from));
    return Math.min(at, length());
  }

  // What was played to its end has stopped.
  function tick(complete) {
    if (origin && !range && complete && position() >= length()) {
      halt();
      rest = 0;
      changed();
    }
  }

  function clear() {
    halt();
    tracks = new Map();
    chosen = range = null;
    rest = 0;
  }

  return {
    add, play, pause, seek, choose, loop, tick, clear, length, position,
    samples: (name) => (tracks.has(name) ? whole(tracks.get(name)) : null),
    names: () => [...tracks.keys()],
    close: () => { clear(); context?.close(); document.removeEventListener("tts-sound", hush); },
    get context() { return context; },
    get chosen() { return chosen; },
    get playing() { return origin !== null; },
    get range() { return range; },
    get rate() { return rate; },
  };
}

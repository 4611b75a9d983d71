// Draws waveforms: of the original, of an output, and of their difference.
//
//   const wave = makeWave(samples, other)      other, if given, is subtracted
//   paintWave(canvas, lanes, view, rate, style) lanes: [{ wave, colour, label }], view: { from, to } in seconds
const BLOCK = 256; // samples whose extremes are known beforehand

function makeWave(samples, other = null) {
  const length = other ? Math.min(samples.length, other.length) : samples.length;
  const at = other ? (i) => samples[i] - other[i] : (i) => samples[i];
  const blocks = Math.ceil(length / BLOCK);
  const low = new Float32Array(blocks);
  const high = new Float32Array(blocks);
  for (let block = 0; block < blocks; block++) {
    const end = Math.min(length, (block + 1) * BLOCK);
    let [least, most] = [Infinity, -Infinity];
    for (let i = block * BLOCK; i < end; i++) {
      const value = at(i);
      if (value < least) least = value;
      if (value > most) most = value;
    }
    low[block] = least;
    high[block] = most;
  }
  // the extremes of samples first to last, as [least, most]
  function extremes(first, last) {
    let [least, most] = [Infinity, -Infinity];
    const take = (a, b) => {
      if (a < least) least = a;
      if (b > most) most = b;
    };
    if (last - first > 4 * BLOCK) {
      const end = Math.ceil(last / BLOCK);
      for (let block = Math.floor(first / BLOCK); block < end; block++) take(low[block], high[block]);
    } else for (let i = first; i < last; i++) take(at(i), at(i));
    return [least, most];
  }
  return { length, at, extremes };
}

function paintWave(canvas, lanes, view, rate, style) {
  const { context, width, height, gutter } = cleared(canvas);
  const tall = height / lanes.length;
  lanes.forEach(({ wave, colour, label }, row) => {
    const middle = (row + 0.5) * tall;
    context.fillStyle = style.line;
    context.fillRect(gutter, middle, width - gutter, 1);
    context.fillStyle = style.text;
    context.textAlign = "right";
    context.fillText(label, gutter - 6, middle + 4);
    if (!wave) return;
    context.fillStyle = colour;
    const step = ((view.to - view.from) * rate) / (width - gutter);
    for (let x = 0; x < width - gutter; x++) {
      const first = Math.floor(view.from * rate + x * step);
      const last = Math.min(wave.length, Math.max(first + 1, Math.floor(view.from * rate + (x + 1) * step)));
      if (first < 0 || first >= wave.length) continue;
      const [least, most] = wave.extremes(first, last);
      const top = middle - Math.min(1, most) * (tall / 2 - 1);
      context.fillRect(gutter + x, top, 1, Math.max(1, (Math.min(1, most) - Math.max(-1, least)) * (tall / 2 - 1)));
    }
  });
}

// A canvas of as many pixels as the screen has, empty; everything is drawn in CSS pixels.
function cleared(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height, gutter: GUTTER };
}

// Draws mels of the visible window, as the server gives them: each column is the mean of its frames, in decibels.
//
//   const data = unpacked(reply, bands)      levels of input and output, as numbers
//   paintMel(canvas, data, kind, view, scene, style)   kind: "input", "output" or "difference"
//   read(data, scene, seconds, share)        what is at a place: { hz, input, output, difference }
const GUTTER = 52; // for the labels of the vertical axes, in pixels

function unpacked(reply, bands) {
  const numbers = (text) => new Int16Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const data = { ...reply, bands, input: numbers(reply.input), output: numbers(reply.output), images: {} };
  data.at = (kind, band, column) => {
    const i = band * data.columns + column;
    return (kind === "difference" ? data.output[i] - data.input[i] : data[kind][i]) / 100;
  };
  return data;
}

// 256 colours between those of a list of hexadecimal ones
function paletteOf(colours) {
  const anchors = colours.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (anchors.length - 1);
    const low = Math.min(Math.floor(at), anchors.length - 2);
    return anchors[low].map((value, k) => Math.round(value + (at - low) * (anchors[low + 1][k] - value)));
  });
}

function imageOf(data, kind, scene, style) {
  const key = `${kind} ${style.dark}`;
  if (data.images[key]) return data.images[key];
  const [low, high] = rangeOf(kind, scene);
  const palette = style.palettes[kind === "difference" ? "difference" : "level"];
  const canvas = new OffscreenCanvas(data.columns, data.bands);
  const context = canvas.getContext("2d");
  const image = context.createImageData(data.columns, data.bands);
  for (let band = 0; band < data.bands; band++) {
    for (let column = 0; column < data.columns; column++) {
      const share = (data.at(kind, band, column) - low) / (high - low);
      const colour = palette[Math.round(255 * Math.min(1, Math.max(0, share)))];
      image.data.set([...colour, 255], 4 * ((data.bands - 1 - band) * data.columns + column));
    }
  }
  context.putImageData(image, 0, 0);
  data.images[key] = canvas;
  return canvas;
}

const rangeOf = (kind, scene) =>
  kind === "difference" ? [-scene.difference_db, scene.difference_db] : [scene.top_db - scene.range_db, scene.top_db];

// where a frequency is, in shares of all bands from the bottom, and back
function heightOf(hz, centres) {
  const k = centres.findIndex((centre) => centre >= hz);
  if (k < 0) return 1;
  if (k === 0) return 0.5 / centres.length;
  return (k - 1 + (hz - centres[k - 1]) / (centres[k] - centres[k - 1]) + 0.5) / centres.length;
}

function paintMel(canvas, data, kind, view, scene, style) {
  const { context, width, height, gutter } = cleared(canvas);
  const wide = width - gutter;
  context.fillStyle = style.text;
  context.textAlign = "right";
  const marked = [];
  for (const hz of [125, 250, 500, 1000, 2000, 4000, 8000, 12000, 100, 200, 300, 3000, 6000]) {
    const y = height * (1 - (heightOf(hz, scene.hz) - view.low) / (view.high - view.low));
    if (hz > scene.hz.at(-1) || y < 8 || y > height - 2 || marked.some((other) => Math.abs(other - y) < 12)) continue;
    marked.push(y);
    context.fillText(hz < 1000 ? `${hz}` : `${hz / 1000}k`, gutter - 6, y + 4);
  }
  if (!data) return;
  const image = imageOf(data, kind, scene, style);
  const pixels = (seconds) => gutter + ((seconds - view.from) / (view.to - view.from)) * wide;
  context.save();
  context.beginPath();
  context.rect(gutter, 0, wide, height);
  context.clip();
  context.imageSmoothingEnabled = data.columns > wide / 3;
  const tall = height / (view.high - view.low);
  const [left, right] = [pixels(data.start_s), pixels(data.stop_s)];
  context.drawImage(image, left, -(1 - view.high) * tall, right - left, tall);
  context.restore();
}

// F0 as a line over a mel; `pitch` is a reply of the server
function paintPitch(canvas, pitch, colour, view, scene) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas.getBoundingClientRect();
  const place = (i, hz) => [
    GUTTER + ((pitch.start_s + i * pitch.hop_s - view.from) / (view.to - view.from)) * (width - GUTTER),
    height * (1 - (heightOf(hz, scene.hz) - view.low) / (view.high - view.low)),
  ];
  const path = new Path2D();
  pitch.hz.forEach((hz, i) => {
    if (hz === null) return;
    const [x, y] = place(i, hz);
    if (x >= GUTTER) pitch.hz[i - 1] == null ? path.moveTo(x, y) : path.lineTo(x, y);
  });
  for (const [stroke, lineWidth] of [["#000c", 4], [colour, 2]]) {
    Object.assign(context, { strokeStyle: stroke, lineWidth });
    context.stroke(path);
  }
}

function read(data, scene, seconds, share) {
  if (!data || seconds < data.start_s || seconds >= data.stop_s) return null;
  const column = Math.floor(((seconds - data.start_s) / (data.stop_s - data.start_s)) * data.columns);
  const band = Math.min(data.bands - 1, Math.max(0, Math.floor(share * data.bands)));
  const [input, output] = [data.at("input", band, column), data.at("output", band, column)];
  return { hz: scene.hz[band], input, output, difference: output - input };
}

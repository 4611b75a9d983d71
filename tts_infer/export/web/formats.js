// Files as arrays: .npy of float32, WAV in; WAV out.

/** A mel of (C, L) or (1, C, L). Returns {data, channels, frames}. */
export function readNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (String.fromCharCode(...bytes.slice(1, 6)) !== "NUMPY") throw new Error("this is no .npy file");
  const view = new DataView(buffer);
  const wide = bytes[6] > 1;
  const start = (wide ? 12 : 10) + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(bytes.slice(wide ? 12 : 10, start));
  const type = /'descr': *'([^']*)'/.exec(header)?.[1];
  const shape = (/'shape': *\(([^)]*)\)/.exec(header)?.[1] ?? "").split(",").filter((n) => n.trim()).map(Number);
  if (type !== "<f4" || !/'fortran_order': *False/.test(header)) {
    throw new Error(`the array is ${type}; expected float32 (<f4) in C order`);
  }
  if (shape.length === 3 && shape[0] === 1) shape.shift();
  if (shape.length !== 2) throw new Error(`the array has shape (${shape}); expected (channels, frames)`);
  const [channels, frames] = shape;
  if (buffer.byteLength - start < 4 * channels * frames) throw new Error("the file is cut off");
  return { data: new Float32Array(buffer.slice(start, start + 4 * channels * frames)), channels, frames };
}

/** A WAV file as mono samples at a rate. The browser reads and resamples it. */
export async function readWav(buffer, rate) {
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(buffer);
  } catch {
    throw new Error("the browser cannot read this file as audio");
  }
  const mono = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    decoded.getChannelData(channel).forEach((sample, i) => { mono[i] += sample / decoded.numberOfChannels; });
  }
  return mono;
}

/** Samples as a WAV file of 32-bit floats, which never clips. */
export function writeWav(samples, rate) {
  const size = 4 * samples.length;
  const view = new DataView(new ArrayBuffer(56));
  const text = (at, word) => {
    for (let i = 0; i < word.length; i++) view.setUint8(at + i, word.charCodeAt(i));
  };
  text(0, "RIFF"); view.setUint32(4, 48 + size, true); text(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 3, true); view.setUint16(22, 1, true); view.setUint32(24, rate, true);
  view.setUint32(28, 4 * rate, true); view.setUint16(32, 4, true); view.setUint16(34, 32, true);
  text(36, "fact"); view.setUint32(40, 4, true); view.setUint32(44, samples.length, true);
  text(48, "data"); view.setUint32(52, size, true);
  return new Blob([view, samples], { type: "audio/wav" });
}

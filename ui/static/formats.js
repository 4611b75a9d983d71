// Files as people have them: what browsers decode and the server may not (.m4a, .webm, .aac, videos) is decoded here,
// and sent as WAV. It steps in before Gradio sees a chosen or a dropped file. What cannot be decoded goes as it is;
// then the server reads it, or says what to send.
const COMPRESSED = /\.(m4a|m4b|mp4|m4v|mov|3gp|aac|webm|mka|mkv|opus)$/i;
const WAV_RATE = 48000; // Opus has no other, and AAC rarely a higher one
const MOST_WAV_BYTES = 200e6; // what the server takes, see app.py
const ours = new WeakSet(); // events that were passed on

// 16 bits, all channels
function wavOf(buffer) {
  const { numberOfChannels: channels, length, sampleRate: rate } = buffer;
  const size = 2 * channels * length;
  const view = new DataView(new ArrayBuffer(44 + size));
  const text = (at, word) => {
    for (let i = 0; i < word.length; i++) view.setUint8(at + i, word.charCodeAt(i));
  };
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * channels * rate, true);
  view.setUint16(32, 2 * channels, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, size, true);
  const samples = new Int16Array(view.buffer, 44); // little-endian, as every machine that runs a browser
  for (let channel = 0; channel < channels; channel++) {
    const from = buffer.getChannelData(channel);
    for (let i = 0; i < length; i++) {
      samples[i * channels + channel] = Math.round(Math.min(1, Math.max(-1, from[i])) * 32767);
    }
  }
  return view.buffer;
}

async function decodedFile(file) {
  if (!COMPRESSED.test(file.name)) return file;
  try {
    const buffer = await new OfflineAudioContext(1, 1, WAV_RATE).decodeAudioData(await file.arrayBuffer());
    if (44 + 2 * buffer.numberOfChannels * buffer.length > MOST_WAV_BYTES) return file;
    return new File([wavOf(buffer)], file.name.replace(COMPRESSED, ".wav"), { type: "audio/wav" });
  } catch {
    return file; // the server says what is wrong with it
  }
}

// Files of an event that need decoding: the event is stopped, and `again` is given what Gradio should see instead.
async function stepIn(event, files, again) {
  if (ours.has(event) || ![...(files ?? [])].some((file) => COMPRESSED.test(file.name))) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const transfer = new DataTransfer();
  for (const file of await Promise.all([...files].map(decodedFile))) transfer.items.add(file);
  const passed = again(transfer);
  ours.add(passed);
  event.target.dispatchEvent(passed);
}

document.addEventListener("change", (event) => {
  const input = event.target;
  if (!input.matches?.("input[type=file]")) return;
  stepIn(event, input.files, (transfer) => {
    input.files = transfer.files;
    return new Event("change", { bubbles: true });
  });
}, true);
document.addEventListener("drop", (event) => {
  stepIn(event, event.dataTransfer?.files, (dataTransfer) =>
    new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
}, true);

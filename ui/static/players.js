// Lets one thing sound on a page at a time. Every sound of sound.js says when it starts, by the event "tts-sound", and
// stops when another one starts; joinOtherPlayers() makes Gradio's own players do the same.
function joinOtherPlayers() {
  if (window.ttsInferPlayers) return;
  const players = new Set();
  window.ttsInferPlayers = players;
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    players.add(this);
    document.dispatchEvent(new CustomEvent("tts-sound", { detail: this }));
    return play.call(this);
  };
  document.addEventListener("tts-sound", (event) => {
    for (const player of [...players, ...document.querySelectorAll("audio, video")]) {
      if (player !== event.detail) player.pause();
    }
  });
}

// Who is logged in, and the way out. Gradio calls this once, with `element` and `props`.
const name = window.gradio_config?.username;
const place = element.querySelector(".account");
if (name && place) {
  const texts = props.texts[navigator.language.split("-")[0]] ?? props.texts.en;
  const way = Object.assign(document.createElement("a"), { href: `${window.gradio_config.root ?? ""}/logout` });
  way.textContent = texts["log-out"];
  place.replaceChildren(`${name} · `, way);
  place.hidden = false;
}

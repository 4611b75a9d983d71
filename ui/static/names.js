// Names of Gradio's buttons: what is read aloud begins with what is seen, or people who speak to their computer cannot
// press them. Gradio writes some of its names anew, so they are looked at whenever they change.
function named(button) {
  const seen = button.innerText.replace(/\s+/g, " ").trim();
  const name = button.getAttribute("aria-label") ?? "";
  if (seen && !name.toLowerCase().includes(seen.toLowerCase())) button.setAttribute("aria-label", `${seen}: ${name}`);
}

// Gradio puts a button into another one, which does nothing; that one is a group.
function grouped(inner) {
  const outer = inner.parentElement.closest("button");
  if (outer.getAttribute("role") === "group") return;
  for (const [key, value] of Object.entries({ role: "group", tabindex: "-1" })) outer.setAttribute(key, value);
  outer.setAttribute("aria-label", inner.getAttribute("aria-label") ?? "");
}

let looking = false;
function lookAtNames() {
  if (looking) return;
  looking = true;
  requestAnimationFrame(() => {
    looking = false;
    for (const button of document.querySelectorAll("button button")) grouped(button);
    for (const button of document.querySelectorAll("button[aria-label]:not([role=group])")) named(button);
  });
}
const change = { subtree: true, childList: true, characterData: true, attributeFilter: ["aria-label"] };
new MutationObserver(lookAtNames).observe(document.body, change);

// One photograph at a time: its numbers, the reasons, and where.

import { ask, byId, make } from "./server.js";
import { numbers, photo, shownIds } from "./tiles.js";

const dialog = byId("viewer");
const PATIENCE = 200;  // milliseconds that a photograph is looked at before its reasons are asked for
let current = null, waiting = null, asking = null;

export function open(id) {
  current = id;
  const one = photo(id), { number, more } = numbers(one);
  byId("viewer-name").textContent = one.name;
  byId("viewer-score").textContent = (one.prediction ? `Predicted on your scale: ${number}; ` : number ? `${number}; ` : "") + more;
  byId("viewer-notes").replaceChildren(...(one.row?.warnings || []).map(text => make("li", { text })));
  byId("viewer-map").checked = false;
  showPicture();
  forget();
  if (!one.row || one.row.error) byId("viewer-reasons").replaceChildren();
  else {
    byId("viewer-reasons").replaceChildren(make("li", { class: "quiet", text: "looking for reasons" }));
    waiting = setTimeout(() => explain(id), PATIENCE);
  }
  if (!dialog.open) dialog.showModal();
}

function showPicture() {
  const one = photo(current), where = byId("viewer-map").checked;
  const image = byId("viewer-image");
  image.hidden = Boolean(one.row?.error);
  if (image.hidden) { image.removeAttribute("src"); return; }
  image.alt = where ? `Map of where ${one.name} is bad` : one.name;
  image.src = `/page/photos/${current}/${where ? "map" : "view"}`;
}

// Reasons of a photograph that is no longer looked at are not worked out: the server drops what nobody waits for.
function forget() {
  clearTimeout(waiting);
  asking?.abort();
  byId("map-choice").hidden = true;
}

async function explain(id) {
  const list = byId("viewer-reasons");
  asking = new AbortController();
  try {
    const found = await ask(`/page/photos/${id}/explain`, { method: "POST", signal: asking.signal });
    if (current !== id) return;
    const sentences = found.reasons.length ? found.reasons.map(reason => reason.sentence) : [found.sentence];
    list.replaceChildren(...sentences.map(text => make("li", { text })));
    byId("map-choice").hidden = false;
  } catch (error) {
    if (current === id && error.name !== "AbortError") list.replaceChildren(make("li", { class: "quiet", text: error.message }));
  }
}

function step(by) {
  const ids = shownIds(), to = ids.indexOf(current) + by;
  if (to >= 0 && to < ids.length) open(ids[to]);
}

export function listen() {
  byId("viewer-close").addEventListener("click", () => dialog.close());
  byId("viewer-previous").addEventListener("click", () => step(-1));
  byId("viewer-next").addEventListener("click", () => step(1));
  byId("viewer-map").addEventListener("change", showPicture);
  dialog.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => {
    forget();
    document.querySelector(`li[data-id="${current}"] button`)?.focus();
  });
}

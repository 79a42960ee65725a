// Labeling: the photographs that teach most, one at a time, a key each; from ten on, a fit after every rating.

import { ask, byId, make, send } from "./server.js";
import { draw } from "./curve.js";
import { photo, photos, put } from "./tiles.js";

const WORDS = ["bad", "poor", "fair", "good", "excellent"];
const AT_A_TIME = 20;
const fewest = Number(document.body.dataset.fewest);
const dialog = byId("rater");
let ids = [], at = 0, saving = Promise.resolve();
let looked = 0;  // changes with every picture that is asked for
const pending = new Map();  // ratings on their way to the disk, by photograph
let fitting = false, outdated = false, fitted = 0;

const rated = () => photos().filter(one => one.rating !== null && one.row && !one.row.error).length;

export async function start() {
  byId("trouble").textContent = "";
  const usable = photos().filter(one => one.row && !one.row.error).length;
  if (usable < fewest) {
    byId("trouble").textContent = `Add at least ${fewest} photographs to label; ${usable} can be used so far.`;
    return;
  }
  try {
    ids = (await send("POST", "/page/labeling/choose", { count: AT_A_TIME })).ids;
  } catch (error) {
    byId("trouble").textContent = error.message;
    return;
  }
  at = 0;
  byId("rater-trouble").textContent = "";
  show();
  if (!dialog.open) {
    dialog.showModal();
    dialog.tabIndex = -1;
    dialog.focus();  // not "Done", which Enter would press
  }
}

function show() {
  const done = at >= ids.length;
  byId("rater-title").textContent = done ? "These are rated" : "How good does this look?";
  byId("rater-image").hidden = done;
  byId("rater-skip").disabled = done;
  byId("rater-back").disabled = at === 0;
  byId("rater-count").textContent = done ? "" : `${at + 1} of ${ids.length}`;
  const rating = done ? null : pending.get(ids[at]) ?? photo(ids[at])?.rating;
  for (const button of byId("rater-buttons").children) {
    button.disabled = done;
    button.setAttribute("aria-pressed", String(Number(button.dataset.rating) === rating));
  }
  look(done ? null : ids[at]);
  tell(done ? "Press Done to see the predictions, then label some more if they should get better." : "");
}

const isReady = () => dialog.getAttribute("aria-busy") === "false";

function setReady(ready) {
  dialog.setAttribute("aria-busy", String(!ready));
  // Not disabled: a button that is would take the focus, and the keys, with it.
  for (const button of byId("rater-buttons").children) button.setAttribute("aria-disabled", String(!ready));
}

// A photograph can be rated once it is what is seen: a browser shows the one before until the next has come.
async function look(id) {
  const asked = ++looked, image = byId("rater-image");
  setReady(false);
  image.removeAttribute("src");
  if (id === null) return;
  image.alt = `Photograph to rate: ${photo(id)?.name}`;
  image.src = `/page/photos/${id}/view`;
  try {
    await image.decode();
    if (asked === looked) setReady(true);
  } catch {
    if (asked === looked) tell("This one cannot be shown: skip it.");
  }
  if (asked === looked && at + 1 < ids.length) new Image().src = `/page/photos/${ids[at + 1]}/view`;
}

let last = "";
function tell(more = last) {
  last = more;
  const count = rated();
  const rest = count < fewest ? `; ${fewest - count} more until the first fit` : "";
  byId("rater-status").textContent = `${count} rated, kept in ${document.body.dataset.table}${rest}. ${more}`;
}

// Keys may come faster than the disk: they are saved one after the other, and the page says so only then.
function rate(rating) {
  if (at >= ids.length || !isReady()) return;
  const id = ids[at];
  pending.set(id, rating);
  at += 1;
  show();
  saving = saving.then(async () => {
    try {
      await send("PUT", `/page/photos/${id}/rating`, { rating });
      if (pending.get(id) === rating) pending.delete(id);
      put({ ...photo(id), rating });
      byId("rater-trouble").textContent = "";
      tell();
      if (rated() >= fewest) refit();
    } catch (error) {
      pending.delete(id);  // what was kept before still is
      byId("rater-trouble").textContent = `${photo(id).name} is not saved: ${error.message}`;
      at = Math.max(0, ids.indexOf(id));
      show();
    }
  });
}

export async function refit() {
  if (fitting) { outdated = true; return; }
  fitting = true;
  try {
    do {
      outdated = false;
      const { fit, predictions } = await ask("/page/labeling/fit", { method: "POST" });
      for (const [id, prediction] of Object.entries(predictions)) {
        const one = photo(Number(id));
        if (one) put({ ...one, prediction });
      }
      showFit(fit);
    } while (outdated);
  } catch (error) {
    byId(dialog.open ? "rater-trouble" : "trouble").textContent = error.message;
  } finally {
    fitting = false;
  }
}

// After a reload or a crash the ratings are there, and the fit may not be.
export function catchUp() {
  const count = rated();
  if (count >= fewest && count !== fitted && !dialog.open) refit();
}

export function showFit(fit) {
  if (!fit) return;
  fitted = fit.labels;
  byId("scale").hidden = false;
  byId("fit-text").replaceChildren(
    make("p", { text: `Fitted on ${fit.labels} of your ratings. Tiles show what you would say, with 90 % intervals.` }),
    ...fit.sentences.map(text => make("p", { text })));
  byId("fit-report").textContent = fit.text;
  const figure = byId("curve"), curve = fit.curve;
  figure.hidden = !curve || curve.labels.length < 2;
  figure.querySelector("svg")?.remove();
  if (!figure.hidden) figure.append(draw(curve));
  if (dialog.open) tell(fit.sentences[0] || "");
}

export function listen() {
  addEventListener("beforeunload", event => { if (pending.size) event.preventDefault(); });
  WORDS.forEach((word, i) => {
    const button = make("button", { type: "button", "data-rating": i + 1, "aria-label": `${i + 1}, ${word}`, "aria-pressed": "false" },
      make("span", { class: "digit", text: i + 1 }), make("span", { text: word }));
    button.addEventListener("click", () => rate(i + 1));
    byId("rater-buttons").append(button);
  });
  byId("label-some").addEventListener("click", start);
  byId("label-more").addEventListener("click", start);
  byId("rater-close").addEventListener("click", () => dialog.close());
  byId("rater-back").addEventListener("click", () => { at = Math.max(0, at - 1); show(); });
  byId("rater-skip").addEventListener("click", () => { at += 1; show(); });
  dialog.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (/^[1-5]$/.test(event.key)) { event.preventDefault(); rate(Number(event.key)); }
    else if (event.key === "ArrowLeft" || event.key === "Backspace") { event.preventDefault(); byId("rater-back").click(); }
    else if (event.key === "ArrowRight") { event.preventDefault(); byId("rater-skip").click(); }
  });
  dialog.addEventListener("close", () => { byId("label-some").focus(); saving.then(catchUp); });
}

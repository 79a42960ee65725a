// The photographs as tiles: sorted, filtered, walked through by the arrow keys.

import { byId, make } from "./server.js";

const list = byId("tiles");
const tiles = new Map(); // id -> {photo, item, button}
let planned = false;

export const photos = () => [...tiles.values()].map(tile => tile.photo);
export const photo = id => tiles.get(id)?.photo;
export const shownIds = () => [...list.children].filter(item => !item.hidden).map(item => Number(item.dataset.id));

export function put(found) {
  let tile = tiles.get(found.id);
  if (!tile) {
    const button = make("button", { type: "button", class: "tile" });
    tile = { item: make("li", { "data-id": found.id }, button), button };
    tiles.set(found.id, tile);
    list.append(tile.item);
  }
  const before = tile.photo;
  tile.photo = found;
  if (before && JSON.stringify(before) === JSON.stringify(found)) return;
  draw(tile);
  arrange();
}

export function drop(keep) {
  for (const [id, tile] of tiles) {
    if (!keep(tile.photo)) { tile.item.remove(); tiles.delete(id); }
  }
  arrange();
}

export function numbers(one) {
  if (!one.row) return { number: "", more: "not scored yet" };
  if (one.row.error) return { number: "", more: `cannot be used: ${one.row.error}` };
  const { score, percentile } = one.row;
  const better = percentile === null ? `score ${score.toFixed(3)}` : `better than ${Math.round(percentile)} %`;
  if (one.prediction) {
    const { mos, low, high } = one.prediction;
    const range = low === null ? "" : ` (${low.toFixed(1)} to ${high.toFixed(1)})`;
    return { number: `${mos.toFixed(1)}${range}`, more: better };
  }
  return { number: better, more: percentile === null ? "" : `score ${score.toFixed(3)}` };
}

function draw(tile) {
  const one = tile.photo, { number, more } = numbers(one);
  const picture = one.thumbnail
    ? make("img", { src: `/page/photos/${one.id}/thumbnail`, alt: "", loading: "lazy" })
    : make("span", { class: "blank" });
  const notes = [];
  if (one.rating !== null && one.rating !== undefined) notes.push(`you: ${one.rating}`);
  if (one.row?.warnings?.length) notes.push(`${one.row.warnings.length} warning${one.row.warnings.length > 1 ? "s" : ""}`);
  tile.button.replaceChildren(picture, make("span", { class: "words" },
    make("span", { class: "name", text: one.name, title: one.name }),
    make("span", { class: "number", text: number }), " ",
    make("span", { class: `more${one.row?.error ? " bad" : ""}`, text: [more, ...notes].filter(Boolean).join(" · ") })));
  tile.button.setAttribute("aria-label", [one.name, number && (one.prediction ? `predicted ${number}` : number), more, ...notes]
    .filter(Boolean).join(", "));
}

const value = one => (one.row?.error || !one.row) ? -Infinity : one.prediction?.mos ?? one.row.score;
const ORDERS = {
  added: () => 0,
  best: (a, b) => value(b) - value(a),
  worst: (a, b) => failed(a) - failed(b) || value(a) - value(b),
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
};
const failed = one => Number(!one.row || Boolean(one.row.error));
const KINDS = {
  all: () => true,
  rated: one => one.rating !== null,
  unrated: one => one.rating === null && !one.row?.error,
  warned: one => one.row?.warnings?.length > 0,
  failed: one => Boolean(one.row?.error),
};

// Many photographs arrive in a second; the page is arranged once a frame.
export function arrange() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    const all = [...tiles.values()];
    const order = ORDERS[byId("sort").value], wanted = KINDS[byId("show").value];
    const words = byId("find").value.trim().toLowerCase();
    const sorted = byId("sort").value === "added" ? all : [...all].sort((a, b) => order(a.photo, b.photo));
    const focused = document.activeElement;
    sorted.forEach((tile, i) => {
      if (list.children[i] !== tile.item) list.insertBefore(tile.item, list.children[i] || null);
      tile.item.hidden = !(wanted(tile.photo) && tile.photo.name.toLowerCase().includes(words));
    });
    if (focused?.classList.contains("tile")) focused.focus({ preventScroll: true });
    const shown = shownIds().length;
    byId("tools").hidden = all.length === 0;
    byId("shown").textContent = shown === all.length ? `${all.length} photographs` : `${shown} of ${all.length} shown`;
    byId("clear").hidden = !all.some(tile => !tile.photo.folder);
  });
}

export function listen(open) {
  for (const id of ["sort", "show"]) byId(id).addEventListener("change", arrange);
  byId("find").addEventListener("input", arrange);
  list.addEventListener("click", event => {
    const item = event.target.closest("li");
    if (item) open(Number(item.dataset.id));
  });
  list.addEventListener("keydown", event => {
    const visible = [...list.children].filter(item => !item.hidden);
    const at = visible.indexOf(event.target.closest("li"));
    if (at < 0) return;
    const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? visible.length - 1 : step ? at + step : -1;
    if (to >= 0 && to < visible.length) { event.preventDefault(); visible[to].firstChild.focus(); }
  });
}

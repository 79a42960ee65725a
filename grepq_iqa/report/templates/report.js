const $ = id => document.getElementById(id);
const grid = $("grid");
const figures = [...grid.children];
const rows = figures.map(figure => JSON.parse(figure.dataset.row));
const {groups} = JSON.parse($("data").textContent);
const {valueName, among} = document.body.dataset;
// Sorting "worst first" is rising where more is better.
const sign = document.body.dataset.lowerIsBetter === "true" ? -1 : 1;
const groupOf = new Map(groups.flatMap((members, g) => members.map(number => [number, g])));
const number = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
const collator = new Intl.Collator(undefined, {numeric: true});
let shown = rows;  // in the order in which they stand

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// --- what can be sorted by, and filtered ---------------------------------------------------------------------------

const measures = new Map([
  ["value", {label: valueName, of: row => row.value}],
  ["percentile", {label: "Percentile", of: row => row.percentile}],
  ["size", {label: "Megapixels", of: row => row.width ? row.width * row.height / 1e6 : null}],
  ["bytes", {label: "File size (MB)", of: row => row.bytes === null ? null : row.bytes / 1e6}],
].filter(([, measure]) => rows.some(row => measure.of(row) !== null)));
const missingLast = (a, b, compare) => a === null ? (b === null ? 0 : 1) : b === null ? -1 : compare(a, b);
const by = (of, direction) => (a, b) => missingLast(of(a), of(b), (x, y) => direction * (x - y));
const orders = new Map([
  ["worst", {label: "Worst first", compare: by(row => row.value, sign)}],
  ["best", {label: "Best first", compare: by(row => row.value, -sign)}],
  ["percentile-up", {label: "Percentile, lowest first", compare: by(row => row.percentile, 1)}],
  ["percentile-down", {label: "Percentile, highest first", compare: by(row => row.percentile, -1)}],
  ["given", {label: "As given", compare: (a, b) => a.number - b.number}],
  ["name", {label: "Name", compare: (a, b) => collator.compare(a.path, b.path)}],
  ["oldest", {label: "Camera time, oldest first", compare: (a, b) => missingLast(a.taken, b.taken, (x, y) => x < y ? -1 : +(x > y))}],
  ["newest", {label: "Camera time, newest first", compare: (a, b) => missingLast(a.taken, b.taken, (x, y) => x > y ? -1 : +(x < y))}],
  ["largest", {label: "Most pixels first", compare: by(row => row.width ? row.width * row.height : null, -1)}],
  ["smallest", {label: "Fewest pixels first", compare: by(row => row.width ? row.width * row.height : null, 1)}],
  ["heaviest", {label: "Largest files first", compare: by(row => row.bytes, -1)}],
  ["reasons", {label: "Most reasons first", compare: by(row => row.reasons.length, -1)}],
  ["together", {label: "Near-duplicates together", compare: (a, b) =>
    missingLast(groupOf.get(a.number) ?? null, groupOf.get(b.number) ?? null, (x, y) => x - y)
    || by(row => row.value, -sign)(a, b)}],
]);
if (!measures.has("percentile")) { orders.delete("percentile-up"); orders.delete("percentile-down"); }
if (!rows.some(row => row.taken)) { orders.delete("oldest"); orders.delete("newest"); }
if (!rows.some(row => row.reasons.length)) orders.delete("reasons");
if (!groups.length) orders.delete("together");

function options(select, entries) {
  for (const [value, label] of entries) {
    const option = element("option", label);
    option.value = value;
    select.append(option);
  }
}
options($("measure"), [...measures].map(([key, measure]) => [key, measure.label]));
options($("sort"), [...orders].map(([key, order]) => [key, order.label]));
const reasonCounts = new Map();
for (const row of rows) for (const reason of row.reasons) reasonCounts.set(reason.name, (reasonCounts.get(reason.name) ?? 0) + 1);
const notes = [["", "all"]];
for (const [name, count] of [...reasonCounts].sort((a, b) => b[1] - a[1])) notes.push([`reason:${name}`, `${name.replaceAll("_", " ")} (${count})`]);
if (reasonCounts.size) notes.push(["none", "nothing stands out"]);
if (rows.some(row => row.warnings.length)) notes.push(["warnings", `with warnings (${rows.filter(row => row.warnings.length).length})`]);
if (rows.some(row => row.error !== null)) notes.push(["errors", `could not be used (${rows.filter(row => row.error !== null).length})`]);
options($("reason"), notes);
if (notes.length === 1) $("reason").parentElement.hidden = true;
if (!rows.some(row => row.taken)) { $("since").parentElement.hidden = $("until").parentElement.hidden = true; }
if (!groups.length) $("copies").parentElement.hidden = true;

function bound(id) { const value = parseFloat($(id).value); return Number.isFinite(value) ? value : null; }

function wanted(row) {
  const reason = $("reason").value, search = $("search").value.trim().toLowerCase();
  const measure = measures.get($("measure").value), low = bound("low"), high = bound("high");
  if (measure && (low !== null || high !== null)) {
    const value = measure.of(row);
    if (value === null || (low !== null && value < low) || (high !== null && value > high)) return false;
  }
  if (reason.startsWith("reason:") && !row.reasons.some(one => `reason:${one.name}` === reason)) return false;
  if (reason === "none" && (row.reasons.length || row.error !== null)) return false;
  if (reason === "warnings" && !row.warnings.length) return false;
  if (reason === "errors" && row.error === null) return false;
  if (search && !row.path.toLowerCase().includes(search)) return false;
  if ($("since").value && !(row.taken && row.taken.slice(0, 10) >= $("since").value)) return false;
  if ($("until").value && !(row.taken && row.taken.slice(0, 10) <= $("until").value)) return false;
  const least = bound("megapixels");
  if (least && !(row.width && row.width * row.height / 1e6 >= least)) return false;
  return !$("copies").checked || groupOf.has(row.number);
}

// Parts of whole rows, so that no gap shows between them.
const ROWS = 12, HEIGHT = 15.5;  // rows a part; rem, about, of a row out of sight
let across = 0;

function standInParts() {
  if (!grid.querySelector(".part")) { grid.classList.add("in-parts"); grid.replaceChildren(part([])); }
  across = columns();
  const parts = [];
  for (let at = 0; at < shown.length; at += ROWS * across) parts.push(part(shown.slice(at, at + ROWS * across)));
  if (!parts.length) parts.push(part([]));
  const rest = part(rows.filter(row => figures[row.number].hidden));
  rest.hidden = true;
  grid.classList.toggle("many-parts", parts.length > 1);  // a single one is in sight, and shown without a blank frame
  grid.replaceChildren(...parts, rest);
}

function part(members) {
  const made = element("div", undefined, "part");
  made.style.containIntrinsicHeight = `auto ${Math.ceil(members.length / Math.max(1, across)) * HEIGHT}rem`;
  made.append(...members.map(row => figures[row.number]));
  return made;
}

function update() {
  const compare = orders.get($("sort").value).compare;
  shown = rows.filter(wanted).sort((a, b) => compare(a, b) || a.number - b.number);
  const visible = new Set(shown.map(row => row.number));
  for (const row of rows) figures[row.number].hidden = !visible.has(row.number);
  standInParts();
  for (const figure of grid.querySelectorAll('[tabindex="0"]')) figure.tabIndex = -1;
  if (shown.length) figures[shown[0].number].tabIndex = 0;
  $("shown").textContent = shown.length === rows.length
    ? `${rows.length} photographs` : `${shown.length} of ${rows.length} photographs`;
  paint();
}

// --- histogram -----------------------------------------------------------------------------------------------------

const BINS = 48;
const svg = "http://www.w3.org/2000/svg";
let bins = null;

function draw() {
  $("histogram").replaceChildren();
  const measure = measures.get($("measure").value);
  const values = measure ? rows.map(measure.of).filter(value => value !== null) : [];
  bins = null;
  if (!values.length) return;
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const width = (high - low) / BINS || 1, counts = new Array(BINS).fill(0);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor((value - low) / width))]++;
  const most = Math.max(...counts);
  bins = {low, width};
  counts.forEach((count, i) => {
    const bar = document.createElementNS(svg, "rect"), height = count ? Math.max(3, 76 * count / most) : 0;
    for (const [key, value] of [["x", i * 600 / BINS + .5], ["width", 600 / BINS - 1], ["y", 80 - height], ["height", height]]) bar.setAttribute(key, value);
    $("histogram").append(bar);
  });
  $("low").placeholder = number.format(low);
  $("high").placeholder = number.format(high);
}

function paint() {
  const low = bound("low"), high = bound("high");
  [...$("histogram").children].forEach((bar, i) => {
    const start = bins.low + i * bins.width;
    bar.classList.toggle("in", (low === null || start + bins.width > low) && (high === null || start < high));
  });
}

let brush = null;
const at = event => {
  const box = $("histogram").getBoundingClientRect();
  return bins.low + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * BINS * bins.width;
};
$("histogram").addEventListener("pointerdown", event => {
  if (!bins) return;
  brush = at(event);
  $("histogram").setPointerCapture(event.pointerId);
});
$("histogram").addEventListener("pointermove", event => {
  if (brush === null) return;
  const [low, high] = [brush, at(event)].sort((a, b) => a - b), end = bins.low + BINS * bins.width;
  // Up to the edge means up to the last photograph.
  $("low").value = low - bins.low < bins.width / 2 ? "" : +low.toPrecision(4);
  $("high").value = end - high < bins.width / 2 ? "" : +high.toPrecision(4);
  paint();
});
$("histogram").addEventListener("pointerup", event => {
  if (brush === null) return;
  // A click without a drag takes the filter away.
  if (Math.abs(at(event) - brush) < bins.width / 2) $("low").value = $("high").value = "";
  brush = null;
  update();
});
$("histogram").addEventListener("pointercancel", () => { brush = null; });

// --- worst, best, near-duplicates ----------------------------------------------------------------------------------

function small(row) {
  const button = element("button");
  button.type = "button";
  button.title = row.name;
  if (row.picture) {
    const picture = element("img");
    picture.alt = row.name;
    picture.src = row.picture;
    picture.decoding = "async";
    button.append(picture);
  }
  button.append(element("span", row.value === null ? "–" : number.format(row.value)));
  button.addEventListener("click", () => open(row));
  return button;
}

const ranked = rows.filter(row => row.value !== null).sort(by(row => row.value, sign));
if (ranked.length > 1) {
  const each = Math.min(6, Math.floor(ranked.length / 2));
  $("worst").append(...ranked.slice(0, each).map(small));
  $("best").append(...ranked.slice(-each).reverse().map(small));
  $("extremes").hidden = false;
}
groups.forEach((members, g) => members.forEach(n => {
  figures[n].querySelector("figcaption").append(element("span", `near-duplicate, group ${g + 1} of ${members.length}`, "chip copy"));
}));
for (const row of rows) if (row.percentile !== null && row.percentile < 25) figures[row.number].classList.add("low");

// --- details -------------------------------------------------------------------------------------------------------

const detail = $("detail");
let current = null, mapShown = false;

function open(row) {
  current = row;
  mapShown = false;
  $("detail-name").textContent = row.name;
  $("detail-link").href = row.link;
  $("map").hidden = row.map === null;
  showPicture();
  const facts = [];
  if (row.value !== null) facts.push([valueName, number.format(row.value)]);
  if (row.low !== null && row.high !== null) facts.push(["Interval", `${number.format(row.low)} to ${number.format(row.high)}`]);
  if (row.percentile !== null) facts.push(["Better than", `${Math.round(row.percentile)} % of ${among}`]);
  if (row.width) facts.push(["Size", `${row.width} × ${row.height}, ${number.format(row.width * row.height / 1e6)} MP`]);
  if (row.bytes !== null) facts.push(["File", `${number.format(row.bytes / 1e6)} MB`]);
  if (row.taken) facts.push(["Taken", row.taken]);
  facts.push(["Folder", row.folder]);
  for (const warning of row.warnings) facts.push(["Warning", warning]);
  if (row.error !== null) facts.push(["Error", row.error]);
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  $("detail-reasons").replaceChildren(...row.reasons.map(reason => element("li", reason.sentence)));
  const group = groupOf.get(row.number);
  $("detail-copies").hidden = group === undefined;
  if (group !== undefined) $("detail-copies").lastElementChild.replaceChildren(...groups[group].filter(n => n !== row.number).map(n => small(rows[n])));
  const place = shown.indexOf(row);
  $("previous").disabled = place <= 0;
  $("next").disabled = place < 0 || place === shown.length - 1;
  if (!detail.open) detail.showModal();
}

function showPicture() {
  const picture = $("detail-picture");
  $("map").setAttribute("aria-pressed", mapShown);
  if (mapShown) { picture.src = current.map; return; }
  // The file itself where it still lies there and the browser can show it, else the small picture.
  const row = current;
  picture.src = row.picture ?? "data:,";
  const whole = new Image();
  whole.addEventListener("load", () => { if (current === row && !mapShown) picture.src = row.link; });
  if (row.picture) whole.src = row.link;
}

function step(by) {
  const row = shown[shown.indexOf(current) + by];
  if (row) open(row);
}
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => detail.close());
$("map").addEventListener("click", () => { mapShown = !mapShown; showPicture(); });
detail.addEventListener("click", event => { if (event.target === detail) detail.close(); });
detail.addEventListener("close", () => {
  if (current && !figures[current.number].hidden) focus(current);
});
grid.addEventListener("click", event => {
  const figure = event.target.closest("figure");
  if (!figure || event.ctrlKey || event.metaKey || event.shiftKey) return;  // a link is a link
  event.preventDefault();
  open(rows[figures.indexOf(figure)]);
});

// --- keys ----------------------------------------------------------------------------------------------------------

function focus(row) {
  for (const figure of grid.querySelectorAll('[tabindex="0"]')) figure.tabIndex = -1;
  figures[row.number].tabIndex = 0;
  figures[row.number].focus();
  figures[row.number].scrollIntoView({block: "nearest"});
}

function columns() {
  return getComputedStyle(grid.querySelector(".part")).gridTemplateColumns.split(" ").length;
}
new ResizeObserver(() => {
  if (matchMedia("print").matches || columns() === across) return;
  const focused = figures.indexOf(document.activeElement);
  standInParts();
  if (focused >= 0) focus(rows[focused]);  // an element that is moved loses it
}).observe(grid);

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (detail.open) {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "m" && current.map !== null) $("map").click();
    return;
  }
  if ($("keys").open || event.target.closest("input, select, textarea")) return;
  const place = shown.indexOf(rows[figures.indexOf(document.activeElement)]);
  const move = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns()}[event.key];
  if (move && shown.length) {
    const next = place < 0 ? 0 : place + move;
    if (next >= 0 && next < shown.length) focus(shown[next]);
    event.preventDefault();
  } else if (event.key === "Enter" && place >= 0) { open(shown[place]); event.preventDefault(); }
  else if (event.key === "w") sortBy("worst");
  else if (event.key === "b") sortBy("best");
  else if (event.key === "d" && orders.has("together")) sortBy("together");
  else if (event.key === "/") { $("search").focus(); event.preventDefault(); }
  else if (event.key === "0") reset();
  else if (event.key === "?") $("keys").showModal();
});
$("help").addEventListener("click", () => $("keys").showModal());

// --- the rest ------------------------------------------------------------------------------------------------------

function sortBy(key) { $("sort").value = key; update(); }
function reset() {
  for (const id of ["low", "high", "search", "since", "until", "megapixels"]) $(id).value = "";
  $("reason").value = "";
  $("copies").checked = false;
  update();
}
$("reset").addEventListener("click", reset);
for (const id of ["sort", "reason", "since", "until", "copies"]) $(id).addEventListener("change", update);
let typing;
for (const id of ["search", "megapixels", "low", "high"]) $(id).addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(update, 150); });
$("measure").addEventListener("change", () => { $("low").value = $("high").value = ""; draw(); update(); });
$("save").addEventListener("click", () => {
  // By columns of "mos" or "score" ratings are known, which these are not.
  const header = ["path", valueName === "MOS" ? "predicted mos" : "grepq score"];
  saveTable("shown.csv", [header, ...shown.map(row => [row.file, row.value ?? ""])]);
});
const dark = () => document.documentElement.dataset.theme
  ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const nameTheme = () => { $("theme").textContent = dark() ? "Light" : "Dark"; };
$("theme").addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; nameTheme(); });
// Printed pages show pictures that were never scrolled to.
addEventListener("beforeprint", () => { for (const row of shown) for (const picture of figures[row.number].querySelectorAll("img")) picture.loading = "eager"; });

const failed = rows.filter(row => row.error !== null).length, percentiles = rows.map(row => row.percentile).filter(p => p !== null).sort((a, b) => a - b);
$("summary").textContent = `${rows.length} photographs`
  + (failed ? `, ${failed} could not be used` : "")
  + (percentiles.length ? `; the middle one is better than ${Math.round(percentiles[percentiles.length >> 1])} % of ${among}` : "")
  + (groups.length ? `; ${groups.length} groups of near-duplicates` : "") + ".";
nameTheme();
if (matchMedia("(max-width: 50rem)").matches) $("more").open = false;
draw();
update();

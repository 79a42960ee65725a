const figures = [...document.querySelectorAll("figure")];
const inputs = figures.map(figure => figure.querySelector("input"));
const buttons = figures.map(figure => [...figure.querySelectorAll(".marks button")]);
const pictures = figures.map(figure => figure.querySelector("img"));
const small = pictures.map(picture => picture.src);
const isOfThisScale = found => settings.usual || Object.values(found).some(value => value !== "" && !(value >= 1 && value <= 5));
// name -> what stands in its field. Earlier pages kept those of every scale in one place; where these can be of another
// one, they are left there.
const ratings = load(settings.key) ?? settings.earlier.map(stored).find(found => found && isOfThisScale(found)) ?? {};
const undo = [];
let order = figures.map((_, i) => i), current = 0;  // current is a place in the order

const collator = new Intl.Collator(undefined, {numeric: true});
const valueOf = i => inputs[i].value === "" ? null : parseFloat(inputs[i].value);
const orders = {
  given: (a, b) => a - b,
  unrated: (a, b) => (valueOf(a) !== null) - (valueOf(b) !== null) || a - b,
  lowest: (a, b) => (valueOf(a) ?? Infinity) - (valueOf(b) ?? Infinity) || a - b,
  highest: (a, b) => (valueOf(b) ?? -Infinity) - (valueOf(a) ?? -Infinity) || a - b,
  name: (a, b) => collator.compare(settings.names[a], settings.names[b]) || a - b,
};

const perPage = () => parseInt($("size").value) || figures.length;
const page = () => Math.floor(current / perPage());

function mark(i) {
  for (const button of buttons[i]) button.setAttribute("aria-pressed", inputs[i].value !== "" && +button.value === valueOf(i));
}

function count() {
  const rated = inputs.filter(input => input.value !== "").length;
  $("bar").max = inputs.length;
  $("bar").value = rated;
  $("done").textContent = `${rated} of ${inputs.length} rated`;
}

function layout() {
  const from = page() * perPage(), to = Math.min(from + perPage(), order.length), single = perPage() === 1;
  const standing = document.createDocumentFragment();
  for (const i of order) standing.append(figures[i]);
  order.forEach((i, place) => {
    figures[i].hidden = place < from || place >= to;
    figures[i].classList.toggle("current", place === current);
    figures[i].tabIndex = place === current ? 0 : -1;
    // Quality is judged on the file itself where one picture is shown.
    if (single && place === current) showWhole(pictures[i], small[i], figures[i].querySelector("a").href, () => order[current] === i && perPage() === 1);
    else if (pictures[i].src !== small[i]) pictures[i].src = small[i];
  });
  const main = document.querySelector("main");
  main.classList.toggle("single", single);
  main.append(standing);
  $("pages").hidden = perPage() >= order.length;
  $("place").textContent = `${from + 1} to ${to} of ${order.length}`;
  $("back").disabled = from === 0;
  $("on").disabled = to === order.length;
}

function go(place) {
  if (place < 0 || place >= order.length) return;
  const turned = Math.floor(place / perPage()) !== page();
  figures[order[current]].classList.remove("current");
  figures[order[current]].tabIndex = -1;
  current = place;
  if (turned) layout();
  const figure = figures[order[current]];
  figure.classList.add("current");
  figure.tabIndex = 0;
  figure.focus({preventScroll: true});
  figure.scrollIntoView({block: turned ? "start" : "nearest"});
}

// Takes in what another tab has written; the field that is being typed into shows what is typed.
function refresh(typed = -1) {
  const now = stored(settings.key);
  if (!now) return;
  settings.names.forEach((name, i) => {
    if ((now[name] ?? "") === (ratings[name] ?? "")) return;
    ratings[name] = now[name] ?? "";
    if (i === typed) return;
    inputs[i].value = ratings[name];
    mark(i);
  });
}

function set(i, value, {remember = true, typed = false} = {}) {
  refresh(i);
  if (remember) undo.push([i, ratings[settings.names[i]] ?? ""]);
  // Written back, "3." would lose its point before the next digit comes.
  if (!typed) inputs[i].value = value;
  ratings[settings.names[i]] = value;
  saved = false;
  keep(settings.key, ratings);
  mark(i);
  count();
}

function sort() {
  const i = order[current];
  order = figures.map((_, k) => k).sort(orders[$("sort").value]);
  current = $("sort").value === "unrated" ? 0 : order.indexOf(i);
  layout();
}

figures.forEach((figure, i) => {
  inputs[i].value = ratings[settings.names[i]] ?? "";
  mark(i);
  inputs[i].addEventListener("input", () => set(i, inputs[i].value, {typed: true}));
  inputs[i].addEventListener("focus", () => {
    if (order[current] !== i) { figures[order[current]].classList.remove("current"); current = order.indexOf(i); figure.classList.add("current"); }
  });
  inputs[i].addEventListener("keydown", event => {
    if (event.key === "Enter") go(order.indexOf(i) + 1);
    else if (event.key === "Escape") figure.focus();
  });
  for (const button of buttons[i]) button.addEventListener("click", () => { set(i, button.value); go(order.indexOf(i)); });
  figure.addEventListener("click", event => { if (!event.target.closest("a, button, input")) go(order.indexOf(i)); });
});

function columns() {
  return getComputedStyle(document.querySelector("main")).gridTemplateColumns.split(" ").length;
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  const i = order[current], key = buttons[i].findIndex(button => button.value === event.key || (button.value === "10" && event.key === "0"));
  const move = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), PageUp: -perPage(), PageDown: perPage()}[event.key];
  if (event.repeat && !move) return;  // a key held down would rate photographs that nobody has seen
  if (key >= 0) { set(i, buttons[i][key].value); go(current + 1); }
  else if (move) { go(Math.max(0, Math.min(order.length - 1, current + move))); event.preventDefault(); }
  else if (event.key === "Delete" || event.key === "Backspace") { set(i, ""); event.preventDefault(); }
  else if (event.key === "z" && undo.length) { const [which, was] = undo.pop(); set(which, was, {remember: false}); go(order.indexOf(which)); }
  else if (event.key === "Enter" && event.target.closest("figure") && !event.target.closest("button, a")) figures[i].querySelector("a").click();
});
addEventListener("storage", event => { if (event.key === settings.key) { refresh(); count(); } });
$("sort").addEventListener("change", sort);
$("size").addEventListener("change", layout);
$("back").addEventListener("click", () => go(Math.max(0, (page() - 1) * perPage())));
$("on").addEventListener("click", () => go(Math.min(order.length - 1, (page() + 1) * perPage())));
$("save").addEventListener("click", () => {
  const wrong = inputs.findIndex(input => !input.checkValidity());
  if (wrong >= 0) { go(order.indexOf(wrong)); inputs[wrong].focus(); inputs[wrong].reportValidity(); return; }
  // Pictures without a rating are left out, so that the table can be fitted on as it is.
  download(["path", "mos"], settings.names.flatMap((name, i) => inputs[i].value === "" ? [] : [[name, inputs[i].value]]));
});
count();
layout();

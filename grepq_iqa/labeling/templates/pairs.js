const sources = [...document.querySelectorAll(".source")];
// Each answer under the names of its pair; the order in which they were given is what undo goes back through.
const nameOf = pair => JSON.stringify(pair.map(i => settings.names[i]));
let {answers = {}, given = []} = load(settings.key) ?? {};
const isOpen = k => !(nameOf(settings.pairs[k]) in answers);
let queue = settings.pairs.map((_, k) => k).filter(isOpen);

// Takes in what another tab has written.
function refresh() {
  const now = stored(settings.key);
  if (!now) return;
  ({answers, given} = now);
  const open = new Set([...settings.pairs.keys()].filter(isOpen));
  queue = [...queue.filter(k => open.delete(k)), ...open];
}

function show() {
  const answered = settings.pairs.length - queue.length, k = queue[0];
  $("bar").value = answered;
  $("done").textContent = `${answered} of ${settings.pairs.length} answered`;
  $("undo").disabled = !given.length;
  $("question").hidden = k === undefined;
  $("end").hidden = k !== undefined;
  if (k === undefined) return;
  ["left", "right"].forEach((side, at) => {
    const source = sources[settings.pairs[k][at]];
    showWhole($(side).querySelector("img"), source.src, source.dataset.link, () => queue[0] === k);
    $(side).querySelector(".name").textContent = source.alt;
    $(side).title = source.title;
  });
  // The next pair is fetched while this one is looked at.
  if (queue.length > 1) for (const i of settings.pairs[queue[1]]) new Image().src = sources[i].dataset.link;
}

function answer(winner) {
  const asked = queue[0];
  refresh();
  if (asked === undefined || queue[0] !== asked) { show(); return; }  // answered in another tab meanwhile
  const k = queue.shift(), name = nameOf(settings.pairs[k]);
  answers[name] = winner;
  given.push(name);
  saved = false;
  keep(settings.key, {answers, given});
  show();
}

function undo() {
  refresh();
  const name = given.pop();
  if (name === undefined) return;
  delete answers[name];
  const k = settings.pairs.findIndex(pair => nameOf(pair) === name);
  if (k >= 0) queue.unshift(k);
  keep(settings.key, {answers, given});
  show();
}

function later() {
  if (queue.length > 1) { queue.push(queue.shift()); show(); }
}

$("left").addEventListener("click", () => answer("left"));
$("right").addEventListener("click", () => answer("right"));
$("tie").addEventListener("click", () => answer("tie"));
$("later").addEventListener("click", later);
$("undo").addEventListener("click", undo);
$("save").addEventListener("click", () => {
  const rows = settings.pairs.flatMap(pair => {
    const winner = answers[nameOf(pair)];
    return winner === undefined ? [] : [[...pair.map(i => settings.names[i]), winner]];
  });
  download(["left", "right", "winner"], rows);
});
addEventListener("storage", event => { if (event.key === settings.key) { refresh(); show(); } });
document.addEventListener("keydown", event => {
  // A key held down would answer pairs that nobody has seen.
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const act = {ArrowLeft: () => answer("left"), ArrowRight: () => answer("right"), ArrowDown: () => answer("tie"),
    t: () => answer("tie"), s: later, z: undo, Backspace: undo}[event.key];
  if (act) { act(); event.preventDefault(); }
});
show();

// The page: photographs come in, are scored a few at a time, and appear as tiles.

import { ask, byId } from "./server.js";
import * as labeling from "./labeling.js";
import * as tiles from "./tiles.js";
import * as viewer from "./viewer.js";

const AT_ONCE = 4; // uploads under way; the server decodes and scores them in its own order
const AT_START = 500; // photographs of the folder that are scored without being asked
const most = Number(document.body.dataset.most);
const endings = new Set(document.body.dataset.endings.split(" "));
const waiting = [];
let running = 0, done = 0, total = 0, stopper = new AbortController();

function enqueue(jobs) {
  if (running === 0 && waiting.length === 0) { done = 0; total = 0; stopper = new AbortController(); }
  waiting.push(...jobs);
  total += jobs.length;
  report();
  while (running < AT_ONCE && waiting.length) work();
}

async function work() {
  running += 1;
  while (waiting.length) {
    const job = waiting.shift();
    try {
      tiles.put(await job.run(stopper.signal));
    } catch (error) {
      if (!stopper.signal.aborted) byId("trouble").textContent = `${job.name}: ${error.message}`;
    }
    done += 1;
    report();
  }
  running -= 1;
  report();
}

function report() {
  const busy = running > 0 || waiting.length > 0;
  byId("working").hidden = !busy;
  byId("progress").max = Math.max(1, total);
  byId("progress").value = done;
  byId("progress-text").textContent = `${done} of ${total} scored`;
  if (!busy && total) {
    byId("status").textContent = `${done} scored.`;
    labeling.catchUp();
  }
  if (busy) byId("status").textContent = "";
}

function add(files, { all = true } = {}) {
  byId("trouble").textContent = "";
  const ending = name => name.slice(name.lastIndexOf(".")).toLowerCase();
  const wanted = files.filter(({ name }) => !name.split("/").pop().startsWith(".") && (all || endings.has(ending(name))));
  if (!wanted.length) { byId("trouble").textContent = "There are no photographs among these."; return; }
  enqueue(wanted.map(({ file, name }) => ({
    name,
    run: signal => {
      if (file.size > most) throw new Error(`is larger than ${Math.round(most / 1e6)} MB`);
      return ask(`/page/photos?name=${encodeURIComponent(name)}`, {
        method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file, signal,
      });
    },
  })));
}

const named = files => [...files].map(file => ({ file, name: file.webkitRelativePath || file.name }));

async function entries(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: path + file.name }];
  }
  const reader = entry.createReader(), found = [];
  for (;;) { // a folder is read a hundred entries at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    for (const one of some) found.push(...await entries(one, `${path}${entry.name}/`));
  }
  return found;
}

async function dropped(event) {
  event.preventDefault();
  byId("drop").classList.remove("over");
  const roots = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!roots.length) { add(named(event.dataTransfer.files)); return; }
  const found = [];
  for (const root of roots) found.push(...await entries(root));
  add(found, { all: roots.every(root => root.isFile) });
}

async function begin() {
  const { photos, fit } = await ask("/page/photos");
  photos.forEach(tiles.put);
  labeling.showFit(fit);
  const unscored = photos.filter(one => !one.row);
  const jobs = unscored.map(one => ({
    name: one.name, run: signal => ask(`/page/photos/${one.id}/score`, { method: "POST", signal }),
  }));
  const button = byId("score-folder");
  button.textContent = `Score the ${jobs.length} of the folder`;
  button.addEventListener("click", () => { button.hidden = true; enqueue(jobs); });
  if (jobs.length > AT_START) button.hidden = false;
  else if (jobs.length) enqueue(jobs);
  else labeling.catchUp();
}

byId("choose-files").addEventListener("click", () => byId("files").click());
byId("choose-folder").addEventListener("click", () => byId("folder").click());
byId("files").addEventListener("change", event => { add(named(event.target.files)); event.target.value = ""; });
byId("folder").addEventListener("change", event => { add(named(event.target.files), { all: false }); event.target.value = ""; });
byId("stop").addEventListener("click", () => { waiting.length = 0; total = done; stopper.abort(); report(); });
byId("clear").addEventListener("click", async () => {
  await ask("/page/photos", { method: "DELETE" });
  tiles.drop(one => one.folder);
});
document.addEventListener("dragover", event => { event.preventDefault(); byId("drop").classList.add("over"); });
document.addEventListener("dragleave", event => { if (!event.relatedTarget) byId("drop").classList.remove("over"); });
document.addEventListener("drop", dropped);
tiles.listen(viewer.open);
viewer.listen();
labeling.listen();
begin().catch(error => { byId("trouble").textContent = error.message; });

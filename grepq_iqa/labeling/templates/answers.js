// What both pages share: answers that the browser keeps, and when they are saved.
const $ = id => document.getElementById(id);
const settings = JSON.parse($("settings").textContent);
let kept = false;  // whether this browser keeps what is answered

// What stands under a key now, null where nothing does: another tab with the same page may have written it.
function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch { return null; }
}

function load(...keys) {
  try {
    localStorage.setItem(`${keys[0]}-try`, "1");
    localStorage.removeItem(`${keys[0]}-try`);
    kept = true;
  } catch { /* storage is off */ }
  $("lost").hidden = kept;
  for (const key of keys) {
    const found = stored(key);
    if (found) return found;
  }
  return null;
}

function keep(key, answers) {
  try {
    localStorage.setItem(key, JSON.stringify(answers));
    kept = true;
  } catch { kept = false; }
  $("lost").hidden = kept;
}

let saved = true;
// Only where the browser keeps nothing is there something to lose.
addEventListener("beforeunload", event => { if (!kept && !saved) event.preventDefault(); });

function download(header, rows) {
  saveTable(settings.csv, [header, ...rows]);
  saved = true;
}

// The file itself where it still lies there and the browser can show it, else the small picture.
function showWhole(picture, small, link, current) {
  picture.src = small;
  const whole = new Image();
  whole.addEventListener("load", () => { if (current()) picture.src = link; });
  whole.src = link;
}

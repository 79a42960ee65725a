// The learning curve as a small drawing, with the same figures in words for those who do not see it.

const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 340, HEIGHT = 200, LEFT = 40, RIGHT = 12, TOP = 12, BOTTOM = 34;

function shape(kind, attributes, text) {
  const element = document.createElementNS(SPACE, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

export function draw(curve) {
  const lowest = Math.min(0, ...curve.low), counts = curve.labels;
  const first = counts[0], last = counts[counts.length - 1];
  const x = n => LEFT + (WIDTH - LEFT - RIGHT) * (last === first ? 0.5 : (n - first) / (last - first));
  const y = v => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (v - lowest) / (1 - lowest));
  const words = counts.map((n, i) => `${n} labels ${curve.srcc[i].toFixed(2)}`).join(", ");
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Held-out SRCC: ${words}` });
  svg.append(
    shape("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(lowest), y2: y(lowest) }),
    shape("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: y(lowest) }),
    shape("text", { x: LEFT - 6, y: y(1) + 8, "text-anchor": "end" }, "1"),
    shape("text", { x: LEFT - 6, y: y(0) + 4, "text-anchor": "end" }, "0"),
    shape("text", { x: LEFT - 6, y: y(0.5) + 4, "text-anchor": "end" }, "0.5"),
  );
  const upper = counts.map((n, i) => `${x(n)},${y(curve.high[i])}`);
  const lower = counts.map((n, i) => `${x(n)},${y(curve.low[i])}`).reverse();
  svg.append(shape("polygon", { class: "band", points: [...upper, ...lower].join(" ") }));
  svg.append(shape("polyline", { class: "line", points: counts.map((n, i) => `${x(n)},${y(curve.srcc[i])}`).join(" ") }));
  counts.forEach((n, i) => svg.append(shape("circle", { class: "dot", cx: x(n), cy: y(curve.srcc[i]), r: 3.5 })));
  for (const n of new Set([first, last])) {
    svg.append(shape("text", { x: x(n), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(n)));
  }
  svg.append(shape("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "labels"));
  return svg;
}

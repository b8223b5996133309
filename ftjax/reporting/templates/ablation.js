// The charts of ablation.html, drawn from the JSON inside the page: what the filter leaves is drawn and listed.
const told = JSON.parse(document.getElementById("data").textContent);
const PALETTE = ["#2f6bd8", "#c9690b", "#12866a", "#c93a3a", "#7a5bd6", "#0b8f9c", "#b0457f", "#6c7a2a", "#8b6b4a", "#55617a"];
const colours = Object.fromEntries(told.arms.map((name, index) => [name, PALETTE[index % PALETTE.length]]));
const shown = new Set(told.arms);
const WIDTH = 460, WIDE = 1040, HEIGHT = 280, PAD = { left: 52, right: 16, top: 14, bottom: 38 };

function tag(name, attributes, children = []) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  for (const child of [children].flat()) node.append(child);
  return node;
}
function text(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1).replace("e+", "e") : String(Number(value.toPrecision(4)));
}
function scale(values, start, stop, log = false) {
  const by = log ? Math.log10 : (value) => value;
  let low = Math.min(...values.map(by)), high = Math.max(...values.map(by));
  if (low === high) { low -= 0.5 * Math.abs(low) || 0.5; high += 0.5 * Math.abs(high) || 0.5; }
  const room = 0.06 * (high - low);
  const place = (value) => start + ((by(value) - low + room) / (high - low + 2 * room)) * (stop - start);
  place.ticks = [0, 1, 2, 3, 4].map((step) => low + (step / 4) * (high - low)).map((value) => (log ? 10 ** value : value));
  return place;
}
function frame(width, height, label) {
  return tag("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" });
}
function axes(svg, x, y, xlabel, width = WIDTH) {
  for (const value of y.ticks) {
    svg.append(tag("line", { x1: PAD.left, x2: width - PAD.right, y1: y(value), y2: y(value), class: "grid" }));
    svg.append(tag("text", { x: PAD.left - 7, y: y(value) + 4, class: "tick", "text-anchor": "end" }, text(Number(value.toPrecision(3)))));
  }
  for (const value of x.ticks.filter((_, index) => index % 2 === 0)) {
    svg.append(tag("text", { x: x(value), y: HEIGHT - PAD.bottom + 16, class: "tick", "text-anchor": "middle" }, text(Number(value.toPrecision(2)))));
  }
  svg.append(tag("text", { x: width - PAD.right, y: HEIGHT - 6, class: "tick", "text-anchor": "end" }, xlabel));
}
function hover(node, cell) {
  node.append(tag("title", {}, `${cell.name}: ${told.metric} ${text(cell.test)} (${text(cell.low)} to ${text(cell.high)})`));
  node.addEventListener("mouseenter", () => light(cell.index));
  node.addEventListener("mouseleave", () => light(null));
  return node;
}
function light(index) {
  for (const node of document.querySelectorAll("[data-cell]")) {
    const mine = node.dataset.cell === String(index);
    if (node.tagName === "TR") node.classList.toggle("lit", mine);
    else node.classList.toggle("dim", index !== null && !mine);
  }
}
function scatter(place, key, xlabel, cells) {
  const known = cells.filter((cell) => cell[key] !== null && cell.test !== null);
  if (!known.length) { place.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: "Nothing to draw here." })); return; }
  const log = known.every((cell) => cell[key] > 0);
  const x = scale(known.map((cell) => cell[key]), PAD.left, WIDTH - PAD.right, log);
  const y = scale(known.flatMap((cell) => [cell.low, cell.high]), HEIGHT - PAD.bottom, PAD.top);
  const svg = frame(WIDTH, HEIGHT, `${told.metric} against ${xlabel}`);
  axes(svg, x, y, xlabel);
  for (const cell of known) {
    const at = { stroke: colours[cell.arm], "data-cell": cell.index };
    svg.append(tag("line", { ...at, x1: x(cell[key]), x2: x(cell[key]), y1: y(cell.low), y2: y(cell.high), "stroke-width": 1.2, opacity: 0.55 }));
    svg.append(hover(tag("circle", { ...at, cx: x(cell[key]), cy: y(cell.test), r: cell.chosen ? 5.5 : 3.5, fill: cell.chosen ? colours[cell.arm] : "none", "stroke-width": 1.6 }), cell));
  }
  place.replaceChildren(svg);
}
function parallel(place, cells) {
  const known = cells.filter((cell) => cell.test !== null);
  const names = [...told.keys, told.metric];
  const width = WIDE, gap = (width - 150) / Math.max(names.length - 1, 1);
  const svg = frame(width, 300, "settings and result of every cell");
  const scales = names.map((name, index) => {
    const values = told.cells.map((cell) => (index < told.keys.length ? cell.settings[index] : cell.test)).filter((value) => value !== null);
    if (values.every((value) => typeof value === "number")) {
      return values.length ? scale(values, 250, 40, index < told.keys.length && values.every((value) => value > 0)) : null;
    }
    const words = [...new Set(values.map(String))];
    const at = (value) => 250 - (words.length > 1 ? words.indexOf(String(value)) / (words.length - 1) : 0.5) * 210;
    at.ticks = words;
    return at;
  });
  names.forEach((name, index) => {
    const x = 60 + index * gap;
    svg.append(tag("line", { x1: x, x2: x, y1: 40, y2: 250, class: "baseline" }));
    svg.append(tag("text", { x, y: 282, class: "tick", "text-anchor": "middle" }, name));
    for (const value of scales[index]?.ticks ?? []) svg.append(tag("text", { x: x + 6, y: scales[index](value) + 4, class: "tick" }, text(value)));
  });
  for (const cell of known) {
    const values = [...cell.settings, cell.test];
    const points = values.map((value, index) => (value === null || !scales[index] ? null : [60 + index * gap, scales[index](value)])).filter(Boolean);
    const path = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
    svg.append(hover(tag("path", { d: `M${path}`, class: "line", stroke: colours[cell.arm], "stroke-width": cell.chosen ? 2.6 : 1.3, "data-cell": cell.index }), cell));
  }
  place.replaceChildren(svg);
}
function curves(place, cells) {
  const known = cells.filter((cell) => cell.chosen && cell.curve.length);
  if (!known.length) { place.replaceChildren(); return; }
  const x = scale(known.flatMap((cell) => cell.curve.map((point) => point[0])), PAD.left, WIDE - PAD.right);
  const y = scale(known.flatMap((cell) => cell.curve.flatMap((point) => [point[2], point[3]])), HEIGHT - PAD.bottom, PAD.top);
  const svg = frame(WIDE, HEIGHT, `validation ${told.metric} while training`);
  axes(svg, x, y, "step", WIDE);
  for (const cell of known) {
    const line = (index, points) => points.map((point) => `${x(point[0]).toFixed(1)} ${y(point[index]).toFixed(1)}`);
    const band = [...line(3, cell.curve), ...line(2, [...cell.curve].reverse())].join("L");
    svg.append(tag("path", { d: `M${band}Z`, class: "band", fill: colours[cell.arm], "data-cell": cell.index }));
    svg.append(hover(tag("path", { d: `M${line(1, cell.curve).join("L")}`, class: "line", stroke: colours[cell.arm], "stroke-width": 2, "data-cell": cell.index }), cell));
  }
  place.replaceChildren(svg);
}
function draw() {
  const words = document.getElementById("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const left = told.cells.filter((cell) => shown.has(cell.arm) && words.every((word) => cell.name.toLowerCase().includes(word)));
  const numbers = new Set(left.map((cell) => String(cell.index)));
  for (const row of document.querySelectorAll("#table tbody tr")) row.hidden = !numbers.has(row.dataset.cell);
  parallel(document.getElementById("parallel"), left);
  scatter(document.getElementById("travel"), "distance", "distance", left);
  scatter(document.getElementById("cost"), "seconds", "seconds", left);
  curves(document.getElementById("curves"), left);
}
for (const name of told.arms) {
  const label = document.createElement("label"), box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
  const key = document.createElement("i");
  key.style.background = colours[name];
  box.addEventListener("change", () => { box.checked ? shown.add(name) : shown.delete(name); draw(); });
  label.append(box, key, name);
  document.getElementById("names").append(label);
}
document.getElementById("words").addEventListener("input", draw);
document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());
draw();

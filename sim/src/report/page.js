"use strict";
// Draws the run from the data in the page. Texts are set as texts, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const drawing = document.getElementById("drawing");
const now = document.getElementById("now");
const witnesses = new Set(data.witnesses);
const LEFT = 170, ROW = 20, WIDTH = 1400, POINTS_MAX = 6000;
const view = { from: 0, until: Math.max(data.end, 1), frames: true };
let chosen = data.witnesses.length ? data.witnesses[data.witnesses.length - 1] : 0;

const make = (kind, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const titled = (element, text) => { element.append(make("title", {}, text)); return element; };
const x = (t) => LEFT + ((t - view.from) / (view.until - view.from)) * (WIDTH - LEFT - 10);
const visible = (from, until) => until >= view.from && from <= view.until;

const time = (ms) => ms >= 1000 ? (ms / 1000).toFixed(3).replace(/\.?0+$/, "") + "s" : +ms.toFixed(3) + "ms";

function draw() {
  const rows = [];
  for (const [title, lanes] of [["nodes", data.lanes.nodes], ["groups: generations", data.lanes.groups],
                                ["partitions: leaders and offsets", data.lanes.partitions],
                                ["aggregates: handlers", data.lanes.aggregates]]) {
    if (!lanes.length) continue;
    rows.push({ section: title });
    for (const lane of lanes) rows.push({ lane, node: lanes === data.lanes.nodes ? lane.title : undefined });
  }
  const height = (rows.length + 2) * ROW;
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img" });
  // Ticks at round times, about eight of them.
  const rough = (view.until - view.from) / 8, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  for (let t = Math.ceil(view.from / step) * step; t <= view.until - step / 4; t += step) {
    svg.append(make("line", { class: "base", x1: x(t), x2: x(t), y1: ROW, y2: height }));
    svg.append(make("text", { x: x(t) + 2, y: 12 }, time(t)));
  }
  const place = new Map();
  let drawn = 0;
  rows.forEach((row, index) => {
    const y = (index + 1.5) * ROW;
    if (row.section) { svg.append(make("text", { class: "section", x: 0, y: y + 6 }, row.section)); return; }
    if (row.node !== undefined) place.set(row.node, y);
    svg.append(titled(make("text", { x: 8, y: y + 4 }, row.lane.title.slice(0, 24)), row.lane.title));
    svg.append(make("line", { class: "base", x1: LEFT, x2: WIDTH, y1: y, y2: y }));
    for (const bar of row.lane.bars) {
      if (!visible(bar.from, bar.until)) continue;
      const from = Math.max(x(bar.from), LEFT), until = Math.min(x(bar.until), WIDTH - 10);
      svg.append(titled(make("rect", { class: "bar " + bar.class, x: from, y: y - 7, width: Math.max(until - from, 1.5), height: 14 }), bar.label));
      if (until - from > bar.label.length * 6.8) svg.append(make("text", { x: from + 3, y: y + 4 }, bar.label));
    }
  });
  if (view.frames) for (const frame of data.frames) {
    const until = frame.received === null ? frame.sent + (view.until - view.from) / 100 : frame.received;
    if (!visible(frame.sent, until) || !place.has(frame.from) || !place.has(frame.to) || drawn++ > POINTS_MAX) continue;
    const lost = frame.received === null;
    const [y1, to] = [place.get(frame.from), place.get(frame.to)];
    svg.append(titled(make("line", { class: lost ? "frame lost" : "frame", x1: x(frame.sent), y1, x2: x(until), y2: lost ? (y1 + to) / 2 : to }),
      `${frame.what}: ${frame.from} → ${frame.to}${lost ? ", lost" : ""}`));
  }
  // Those of the counter-example lie on top.
  for (const top of [false, true]) rows.forEach((row, index) => {
    if (!row.lane) return;
    for (const number of row.lane.points) {
      const event = data.events[number];
      if (top !== (witnesses.has(number) || number === chosen) || !visible(event.t, event.t)) continue;
      const shown = witnesses.has(number);
      if (!shown && number !== chosen && drawn++ > POINTS_MAX) continue;
      const point = make("circle", { class: "point" + (shown ? " witness" : "") + (number === chosen ? " chosen" : ""),
        cx: x(event.t), cy: (index + 1.5) * ROW, r: shown || number === chosen ? 5 : 2, "data-event": number });
      point.addEventListener("click", () => choose(number));
      svg.append(titled(point, event.text));
    }
  });
  const event = data.events[chosen];
  if (event && visible(event.t, event.t)) svg.append(make("line", { class: "cursor", x1: x(event.t), x2: x(event.t), y1: ROW, y2: height }));
  drawing.replaceChildren(svg);
  now.textContent = event ? `${chosen + 1} of ${data.events.length}: ${event.text}` : "nothing happened";
}

function choose(number) {
  chosen = Math.min(Math.max(number, 0), Math.max(data.events.length - 1, 0));
  const event = data.events[chosen];
  if (event && !visible(event.t, event.t)) {
    const span = view.until - view.from;
    view.from = Math.max(0, event.t - span / 2);
    view.until = view.from + span;
  }
  draw();
}

function zoom(factor) {
  const centre = data.events[chosen] ? data.events[chosen].t : (view.from + view.until) / 2;
  const span = Math.min(Math.max((view.until - view.from) * factor, 0.01), Math.max(data.end, 1));
  view.from = Math.max(0, centre - span / 2);
  view.until = view.from + span;
  draw();
}

const all = () => { view.from = 0; view.until = Math.max(data.end, 1); draw(); };
const witness = () => { if (data.witnesses.length) choose(data.witnesses.find((number) => number > chosen) ?? data.witnesses[0]); };
const actions = { first: () => choose(0), back: () => choose(chosen - 1), forward: () => choose(chosen + 1),
  last: () => choose(data.events.length - 1), witness, closer: () => zoom(0.5), wider: () => zoom(2), all };
for (const [id, action] of Object.entries(actions)) document.getElementById(id).addEventListener("click", action);
document.getElementById("frames").addEventListener("change", (event) => { view.frames = event.target.checked; draw(); });
const keys = { ArrowLeft: actions.back, ArrowRight: actions.forward, w: witness, "+": actions.closer, "-": actions.wider };
document.addEventListener("keydown", (event) => { if (keys[event.key]) { keys[event.key](); event.preventDefault(); } });
if (data.witnesses.length) {
  // Begin where the counter-example is.
  const times = data.witnesses.map((number) => data.events[number].t);
  const [from, until] = [Math.min(...times), Math.max(...times)];
  const margin = Math.max((until - from) / 2, 250);
  view.from = Math.max(0, from - margin);
  view.until = until + margin;
}
draw();

// A flow as a picture: sources to the left, sinks to the right, each edge as
// warm as its backpressure.

import { h, heat, rate, svg } from "./dom.js";

const BOX = { width: 168, height: 54 };
const GAP = { x: 104, y: 22 };
const MARKS = { source: "M3 3h5l5 5-5 5H3z", operator: "M8 2l6 6-6 6-6-6z", sink: "M13 3H8L3 8l5 5h5z" };

/** The component of one end of an edge, whose port may be named. */
function owner(names, end) {
  if (names.has(end)) return end;
  const dot = end.lastIndexOf(".");
  return dot > 0 ? end.slice(0, dot) : end;
}

/** Columns by the longest way from a source; ways back are left out. */
function layers(components, edges) {
  const layer = new Map(components.map((c) => [c.name, 0]));
  const back = new Set();
  const seen = new Map();
  const visit = (name) => {
    seen.set(name, "open");
    for (const edge of edges.filter((e) => e.source === name)) {
      if (seen.get(edge.target) === "open") back.add(edge);
      else if (!seen.has(edge.target)) visit(edge.target);
    }
    seen.set(name, "done");
  };
  components.filter((c) => c.role === "source").forEach((c) => seen.has(c.name) || visit(c.name));
  components.forEach((c) => seen.has(c.name) || visit(c.name));
  for (let round = 0; round < components.length; round += 1) {
    let moved = false;
    for (const edge of edges) {
      const at = layer.get(edge.source) + 1;
      if (!back.has(edge) && at > layer.get(edge.target)) {
        layer.set(edge.target, at);
        moved = true;
      }
    }
    if (!moved) break;
  }
  const last = Math.max(...layer.values());
  // Sinks that nothing leads to (dead letters) stand with the other sinks.
  components.filter((c) => c.role === "sink").forEach((c) => layer.set(c.name, last || 1));
  return { layer, back };
}

/**
 * Where each component stands, and the way of each edge. An edge over several
 * columns gets a place in each of them, so that it leads past the others.
 * Rows follow those of who they read.
 */
function places(components, edges) {
  const { layer, back } = layers(components, edges);
  const columns = [];
  const put = (name, at) => (columns[at] ??= []).push(name);
  components.forEach((c) => put(c.name, layer.get(c.name)));
  const ways = new Map();
  const links = [];
  edges.forEach((edge, number) => {
    const [from, to] = [layer.get(edge.source), layer.get(edge.target)];
    const way = [edge.source];
    for (let at = from + 1; at < to && !back.has(edge); at += 1) {
      const stop = `${number} ${at}`;
      put(stop, at);
      way.push(stop);
    }
    way.push(edge.target);
    ways.set(edge, way);
    if (!back.has(edge)) way.slice(1).forEach((name, at) => links.push([way[at], name]));
  });
  const stands = new Map(components.map((c) => [c.name, true]));
  const height = (name) => (stands.has(name) ? BOX.height : 12);
  const middle = new Map();
  for (const column of columns.filter(Boolean)) {
    const weight = (name) => {
      const from = links.filter(([, to]) => to === name).map(([source]) => middle.get(source)).filter((y) => y !== undefined);
      return from.length ? from.reduce((x, y) => x + y, 0) / from.length : 1e6;
    };
    const weights = new Map(column.map((name) => [name, weight(name)]));
    column.sort((x, y) => weights.get(x) - weights.get(y));
    const total = column.reduce((sum, name) => sum + height(name) + GAP.y, -GAP.y);
    let y = -total / 2;
    for (const name of column) {
      middle.set(name, y + height(name) / 2);
      y += height(name) + GAP.y;
    }
  }
  const top = Math.min(...[...middle].map(([name, y]) => y - height(name) / 2));
  const x = (at) => 8 + at * (BOX.width + GAP.x);
  const place = new Map();
  columns.forEach((column, at) => column?.forEach((name) => place.set(name, { x: x(at), y: 22 + middle.get(name) - top })));
  return { place, ways, back };
}

/** Ends of edges beside each other, where several meet at one component. */
function spread(edges, end, place) {
  const offsets = new Map();
  for (const name of new Set(edges.map((edge) => edge[end]))) {
    const other = end === "source" ? "target" : "source";
    const here = edges.filter((edge) => edge[end] === name).sort((a, b) => place.get(a[other]).y - place.get(b[other]).y);
    const step = Math.min(12, (BOX.height - 16) / here.length);
    here.forEach((edge, at) => offsets.set(edge, (at - (here.length - 1) / 2) * step));
  }
  return offsets;
}

/** A way from the right of one box to the left of another, in curves. */
function line(points) {
  let d = `M${points[0][0]} ${points[0][1]}`;
  points.slice(1).forEach(([x, y], at) => {
    const [fromX, fromY] = points[at];
    d += fromY === y ? ` H${x}` : ` C${(fromX + x) / 2} ${fromY} ${(fromX + x) / 2} ${y} ${x} ${y}`;
  });
  return d;
}

/** The picture; `update` brings new figures, a click or Enter picks. */
export function graph(onPick) {
  const holder = h("div", { class: "graph scroll" });
  let shape = "";
  let parts = {};

  const draw = (components, edges) => {
    const { place, ways, back } = places(components, edges);
    const [outs, ins] = [spread(edges, "source", place), spread(edges, "target", place)];
    const all = components.map((c) => place.get(c.name));
    const width = Math.max(...all.map((p) => p.x)) + BOX.width + 12;
    const under = Math.max(...[...place.values()].map((p) => p.y)) + BOX.height / 2 + 16;
    const height = under + (back.size ? 14 + back.size * 8 : 6);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Components and edges" });
    parts = { edges: [], nodes: new Map() };
    let backs = 0;
    for (const edge of edges) {
      const [a, b] = [place.get(edge.source), place.get(edge.target)];
      const [x1, y1] = [a.x + BOX.width, a.y + outs.get(edge)];
      const [x2, y2] = [b.x, b.y + ins.get(edge)];
      let d;
      let at;
      if (back.has(edge)) {
        const low = under + 8 * (backs += 1);
        d = `M${x1} ${y1} c26 0 26 ${low - y1} 0 ${low - y1} H${x2} c-26 0 -26 ${y2 - low} 0 ${y2 - low}`;
        at = [(x1 + x2) / 2, low - 6];
      } else {
        const stops = ways.get(edge).slice(1, -1).map((name) => place.get(name));
        const points = [[x1, y1], ...stops.flatMap((p) => [[p.x, p.y], [p.x + BOX.width, p.y]]), [x2, y2]];
        d = line(points);
        const [[xa, ya], [xb, yb]] = stops.length ? points.slice(1, 3) : points;
        // Beside a line that climbs, above one that does not.
        at = [(xa + xb) / 2 - Math.min(24, Math.abs(ya - yb) / 2), (ya + yb) / 2 - 6];
      }
      const path = svg("path", { d, class: "edge" });
      const label = svg("text", { x: at[0], y: at[1], class: "edge-label" });
      const title = svg("title", {});
      root.append(svg("g", {}, title, path));
      parts.edges.push({ line: path, label, title });
    }
    // Above all lines.
    root.append(...parts.edges.map((edge) => edge.label));
    for (const component of components) {
      const { x } = place.get(component.name);
      const y = place.get(component.name).y - BOX.height / 2;
      const figures = svg("text", { x: x + 14, y: y + 42, class: "figures" });
      const lamp = svg("circle", { cx: x + BOX.width - 14, cy: y + 17, r: 4.5 });
      const name = component.name.length > 18 ? `${component.name.slice(0, 17)}…` : component.name;
      const pick = () => onPick(component.name);
      const node = svg("g", { class: `component ${component.role}`, tabindex: "0", role: "button", "data-component": component.name,
        onclick: pick, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(); } } },
        svg("rect", { x, y, width: BOX.width, height: BOX.height, rx: 10 }),
        svg("path", { d: MARKS[component.role], transform: `translate(${x + 12} ${y + 9})`, class: "mark" }),
        svg("text", { x: x + 34, y: y + 22, class: "name" }, name), figures, lamp);
      root.append(node);
      parts.nodes.set(component.name, { node, figures, lamp });
    }
    holder.replaceChildren(root);
  };

  const update = (flow, picked) => {
    const names = new Set(flow.components.map((c) => c.name));
    const edges = flow.edges.map((e) => ({ ...e, source: owner(names, e.from), target: owner(names, e.to) }));
    const now = JSON.stringify([flow.components.map((c) => [c.name, c.role]), edges.map((e) => [e.from, e.to])]);
    if (now !== shape) {
      shape = now;
      draw(flow.components, edges);
    }
    edges.forEach((edge, at) => {
      const { line, label, title } = parts.edges[at];
      const percent = edge.backpressure_percent;
      line.setAttribute("class", `edge ${heat(percent)}`);
      label.setAttribute("class", `edge-label ${heat(percent)}`);
      label.textContent = percent >= 0.1 || edge.queued_batches ? `${rate(percent)} %` : "";
      title.textContent = `${edge.from} to ${edge.to}: ${rate(percent)} % backpressure, ${edge.queued_batches} batches queued`;
    });
    for (const component of flow.components) {
      const { node, figures, lamp } = parts.nodes.get(component.name);
      const shown = component.role === "sink" ? component.rate_out : component.rate_in;
      figures.textContent = `${rate(shown)}/s`;
      lamp.setAttribute("class", `lamp ${component.health}`);
      node.classList.toggle("picked", component.name === picked);
      node.setAttribute("aria-pressed", String(component.name === picked));
      node.setAttribute("aria-label", `${component.role} ${component.name}, ${component.health}, ${rate(shown)} messages per second`);
    }
  };
  return { node: holder, update };
}

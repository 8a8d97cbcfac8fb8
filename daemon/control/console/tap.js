// A live look at messages as they pass.

import { events, flow as path, Refused } from "./api.js";
import { count, h, say } from "./dom.js";

const KEPT = 300;

/** JSON with its kinds told apart; long ones are cut by the style. */
export function json(value) {
  const part = (kind, text) => h("span", { class: `j-${kind}` }, text);
  if (value === null || typeof value !== "object") {
    const kind = value === null ? "null" : typeof value;
    return part(kind, JSON.stringify(value));
  }
  const list = Array.isArray(value);
  const members = Object.entries(value).flatMap(([key, member], at) => [
    at ? ", " : "", list ? null : part("key", JSON.stringify(key)), list ? null : ": ", json(member)]);
  return h("span", {}, list ? "[" : "{", members, list ? "]" : "}");
}

/** The panel. */
export function tap(flow, { component }) {
  let abort = null;
  let [shown, paused] = [0, false];
  const names = flow.components.map((c) => c.name);
  const of = h("select", { name: "component", "aria-label": "Component" },
    h("option", { value: "" }, "whole flow"), names.map((name) => h("option", { value: name, selected: name === component }, name)));
  const where = h("input", { name: "where", class: "mono wide", placeholder: "rpm > 100 and status ~= \"off\"", spellcheck: "false", "aria-describedby": "where-help" });
  const sample = h("input", { name: "sample", type: "number", min: 1, value: 1, class: "narrow" });
  const limit = h("input", { name: "limit", type: "number", min: 1, max: 10_000, value: 20, class: "narrow" });
  const go = h("button", { class: "main", type: "submit" }, "Start");
  const pause = h("button", { type: "button", disabled: true, onclick: () => {
    paused = !paused;
    say(pause, paused ? "Go on" : "Pause");
  } }, "Pause");
  const clear = h("button", { type: "button", onclick: () => list.replaceChildren() }, "Clear");
  const status = h("p", { class: "soft", role: "status" }, "A look never holds messages up: what does not fit is skipped and counted.");
  const error = h("p", { class: "error", role: "alert" });
  const list = h("ol", { class: "messages mono", tabindex: "0", "aria-label": "Messages, the newest first" });

  const add = (name, message) => {
    shown += 1;
    if (paused) return;
    const clock = new Date().toLocaleTimeString("sv", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
    list.prepend(h("li", {}, h("time", {}, clock), h("span", { class: "from" }, name), json(message)));
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
  };
  const counted = (told) => `${count(shown)} shown` +
    (told?.skipped ? `, ${count(told.skipped)} of ${count(told.seen)} skipped` : "") + (told?.failed ? `, ${count(told.failed)} failed` : "");
  const each = (kind, data) => {
    const event = JSON.parse(data);
    if (kind === "message") {
      add(event.component, event.message);
      if (shown % 10 === 1) say(status, counted(last));
    } else if (kind === "state") say(status, `The flow was ${event.state}.`);
    else {
      last = event;
      say(status, kind === "end" ? `Ended: ${event.detail}. ${counted(event)}` : counted(event));
    }
  };
  let last = null;

  const stop = () => {
    abort?.abort();
    abort = null;
    pause.disabled = true;
    say(go, "Start");
    go.classList.add("main");
  };
  const start = async () => {
    const asked = new URLSearchParams({ sample: sample.value || 1, limit: limit.value || 20 });
    if (of.value) asked.set("component", of.value);
    if (where.value.trim()) asked.set("where", where.value.trim());
    const mine = new AbortController();
    abort = mine;
    [shown, last, paused] = [0, null, false];
    say(error, "");
    say(status, "Waiting for messages.");
    say(go, "Stop");
    go.classList.remove("main");
    pause.disabled = false;
    try {
      await events(path(flow.name, `/tap?${asked}`), mine.signal, each);
    } catch (problem) {
      if (!mine.signal.aborted) {
        say(error, problem instanceof Refused ? problem.message : `The connection broke: ${problem.message}`);
        say(status, "");
      }
    }
    if (abort === mine) stop();
  };
  const form = h("form", { class: "row", onsubmit: (event) => {
    event.preventDefault();
    if (abort) stop();
    else start();
  } }, h("label", {}, "Component", of), h("label", { class: "grow" }, "Where", where), h("label", {}, "Every", sample, "th"),
  h("label", {}, "At most", limit, "/s"), go, pause, clear);
  const node = h("div", { class: "card pad" }, form,
    h("p", { id: "where-help", class: "hidden" }, "A Lua expression over the fields of a message, as in a filter"), error, status, list);
  return { node, close: stop };
}

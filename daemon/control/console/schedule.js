// When a flow runs, if not always, and how its runs went.

import { flow as path, get, Refused, send } from "./api.js";
import { ask, count, h, say, time, toast } from "./dom.js";

const KINDS = { running: "good", completed: "good", expired: "calm", stopped: "calm", restarted: "calm", replaced: "calm", failed: "hot" };
const words = (problem) => [problem.message, ...(problem.errors ?? [])].join("\n");

/** The panel. */
export function schedule(flow, { refresh }) {
  const what = h("h2", {});
  const state = h("p", { class: "soft", role: "status" });
  const buttons = h("div", { class: "row" });
  const body = h("tbody", {});
  const runs = h("div", { class: "card scroll spaced", hidden: true }, h("table", {}, h("caption", { class: "hidden" }, "Runs, the newest first"),
    h("thead", {}, h("tr", {}, ["Run", "Result", "Due", "Started", "Ended", "In", "Out", "Rejected", "Errors"].map((label) =>
      h("th", { scope: "col", class: ["In", "Out", "Rejected"].includes(label) ? "number" : "" }, label)))), body));
  const area = h("textarea", { class: "mono short", "aria-label": "Schedule", spellcheck: "false", placeholder: "cron = \"0 0 6 * * *\"\nduration = \"2h\"" });
  const errors = h("div", { class: "errors", hidden: true, role: "alert" });

  const change = async (method, rest, text) => {
    errors.hidden = true;
    try {
      const report = await send(method, path(flow.name, `/schedule${rest}`), text);
      toast(`${flow.name}: ${report.action}`);
    } catch (problem) {
      errors.hidden = false;
      say(errors, words(problem));
    }
    await load();
    refresh();
  };
  const button = (label, call, danger) => h("button", { type: "button", class: danger ? "danger" : "", onclick: call }, label);
  const remove = async () => {
    const yes = await ask({ title: "Take the schedule away?", text: "The flow runs when it is started, until it is stopped.", yes: "Take it away", danger: true });
    if (yes) await change("DELETE", "");
  };

  const listens = (to) => to && `${to.trouble ? `not listening: ${to.trouble}` : to.connected ? "listening" : "connecting"}, ${count(to.messages)} messages`;
  const run = (r) => h("tr", {}, h("th", { scope: "row", title: [r.cause, r.topic].filter(Boolean).join(" ") }, String(r.number)), h("td", {}, h("span", { class: `badge ${KINDS[r.result] ?? "calm"}` }, r.result)),
    h("td", {}, time(r.due)), h("td", {}, time(r.started)), h("td", {}, time(r.ended)),
    [r.messages_in, r.messages_out, r.dead].map((n) => h("td", { class: "number" }, count(n))), h("td", { class: "wrap error" }, (r.errors ?? []).join("; ")));

  const load = async () => {
    const is = await get(path(flow.name, "/schedule")).catch((problem) => {
      if (problem instanceof Refused && problem.status === 404) return null;
      throw problem;
    });
    say(what, is ? is.schedule : "No schedule");
    runs.hidden = !is?.runs.length;
    if (!is) {
      say(state, "The flow runs when it is started, until it is stopped.");
      buttons.replaceChildren();
      return;
    }
    const now = is.suspended ? "Suspended" : is.running ? "A run is on" : "Waiting";
    say(state, [now, is.next_run && `next run ${time(is.next_run)}`, listens(is.listener), `${count(is.runs_started)} runs, ${count(is.runs_failed)} failed`, is.skipped && `${count(is.skipped)} skipped`].filter(Boolean).join(" · "));
    buttons.replaceChildren(is.suspended ? button("Resume", () => change("POST", "/resume")) : button("Suspend", () => change("POST", "/suspend")), button("Take away", remove, true));
    body.replaceChildren(...is.runs.toReversed().map(run));
  };
  load().catch((problem) => say(state, problem.message));
  const node = h("div", {},
    h("div", { class: "card pad" }, h("div", { class: "row" }, what, h("span", { class: "grow" }), buttons), state,
      h("label", { class: "block" }, "Another schedule, as it stands in [schedule]", area), errors,
      h("div", { class: "row ends" }, button("Set schedule", () => change("PUT", "", area.value)))), runs);
  return { node };
}

// Messages that were refused: why, since when, what they are, and putting them
// back in.

import { flow as path, get, Refused, send } from "./api.js";
import { ask, count, h, say, time, toast } from "./dom.js";
import { json } from "./tap.js";

const SHOWN = 100;

/** The panel. */
export function dead(flow, { refresh }) {
  let wanted = { component: "", reason: "" };
  const total = h("p", { class: "soft", role: "status" });
  const error = h("p", { class: "error", role: "alert" });
  const kinds = h("tbody", {});
  const list = h("ol", { class: "letters" });
  const scope = h("span", { class: "soft" });
  const all = h("button", { type: "button", onclick: () => { wanted = { component: "", reason: "" }; load(); } }, "Show all");
  const reload = h("button", { type: "button", onclick: () => load() }, "Refresh");
  const again = h("button", { type: "button", class: "main", onclick: () => replay({ ...wanted }, describe()) }, "Replay these");

  const describe = () => (wanted.component ? `the letters of ${wanted.component} with reason ${wanted.reason}` : "all letters of the flow");
  const query = (more) => new URLSearchParams(Object.entries(more).filter(([, value]) => value)).toString();

  const replay = async (which, words) => {
    const yes = await ask({ title: `Replay ${words}?`, yes: "Replay",
      text: "They go in again at the component that refused them, while the flow runs. What is delivered leaves the store; what is refused again stays there with its new reason." });
    if (!yes) return;
    again.disabled = true;
    try {
      const report = await send("POST", path(flow.name, `/dead_letters/replay?${query(which)}`));
      toast(`${count(report.replayed)} put back in, ${count(report.refused)} refused again`, report.refused ? "warm" : "good");
    } catch (problem) {
      toast([problem.message, ...(problem.errors ?? [])].join("\n"), "hot");
    }
    again.disabled = false;
    load();
    refresh();
  };

  const kind = (k) => h("tr", {},
    h("th", { scope: "row" }, h("button", { type: "button", class: "plain", onclick: () => { wanted = { component: k.component, reason: k.reason }; load(); } }, k.component)),
    h("td", {}, h("span", { class: "badge warm" }, k.reason)), h("td", { class: "number" }, count(k.count)),
    h("td", {}, time(k.first)), h("td", {}, time(k.last)), h("td", { class: "wrap" }, k.detail));

  const letter = ({ id, letter: l }) => h("li", {},
    h("div", { class: "row" }, h("time", {}, time(l.time)), h("strong", {}, l.component), h("span", { class: "badge warm" }, l.reason),
      h("span", { class: "grow wrap" }, l.detail),
      h("button", { type: "button", class: "small", onclick: () => replay({ ids: id }, "this letter") }, "Replay")),
    h("div", { class: "mono body" }, l.message === undefined ? h("span", { class: "j-string" }, l.raw ?? "") : json(l.message)));

  const load = async () => {
    say(error, "");
    try {
      const page = await get(path(flow.name, `/dead_letters?${query({ ...wanted, limit: SHOWN })}`));
      const sum = page.total ? `${count(page.total)} dead letters` : "No dead letters: nothing was refused.";
      say(total, page.complete ? sum : `${sum} in the newest part of the store, which is all that is looked at here`);
      kinds.replaceChildren(...page.kinds.map(kind));
      list.replaceChildren(...page.letters.map(letter));
      say(scope, page.letters.length ? `${describe()}, the newest ${count(page.letters.length)} of ${count(page.matching)}` : "");
      again.disabled = !page.letters.length;
      all.hidden = !wanted.component;
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      say(error, problem.message);
      again.disabled = true;
    }
  };
  load().catch((problem) => say(error, problem.message));
  const node = h("div", {},
    h("div", { class: "card scroll" }, h("div", { class: "pad row" }, total, h("span", { class: "grow" }), reload), error,
      h("table", {}, h("caption", { class: "hidden" }, "Dead letters by component and reason"), h("thead", {}, h("tr", {},
        ["Component", "Reason", "Count", "First", "Last", "Last detail"].map((label) => h("th", { scope: "col", class: label === "Count" ? "number" : "" }, label)))), kinds)),
    h("div", { class: "row spaced" }, h("h2", {}, "Letters"), scope, h("span", { class: "grow" }), all, again), list);
  return { node };
}

// Lua operators and the versions that they run.

import { flow as path, get, send } from "./api.js";
import { count, h, say, time, toast } from "./dom.js";

/** The panel. */
export function scripts(flow) {
  const body = h("tbody", {});
  const none = h("p", { class: "empty", hidden: true }, "This flow has no Lua operators.");
  const error = h("p", { class: "error pad", role: "alert" });
  const load = async () => {
    const list = await get(path(flow.name, "/scripts"));
    none.hidden = list.length > 0;
    body.replaceChildren(...list.map((s) => h("tr", {},
      h("th", { scope: "row" }, s.operator), h("td", { class: "mono wrap" }, s.file ?? "in the flow's file"), h("td", {}, s.version ?? ""),
      h("td", { class: "mono" }, s.hash.slice(0, 12)), h("td", {}, time(s.swapped_at)), h("td", { class: "number" }, count(s.swaps)),
      h("td", { class: "number" }, s.swaps ? `${count(s.swap_us)} µs` : ""), h("td", { class: "error wrap" }, s.last_error ?? ""))));
  };
  const again = async () => {
    say(error, "");
    try {
      const report = await send("POST", path(flow.name, "/scripts/reload"));
      toast(`Scripts: ${report.action}`);
    } catch (problem) {
      say(error, [problem.message, ...(problem.errors ?? [])].join("\n"));
    }
    await load();
  };
  load().catch((problem) => say(error, problem.message));
  const node = h("div", { class: "card scroll" },
    h("div", { class: "pad row" }, h("span", { class: "soft" }, "Scripts are swapped between two batches; their state stays."), h("span", { class: "grow" }),
      h("button", { type: "button", onclick: again }, "Reload scripts")), error,
    h("table", {}, h("caption", { class: "hidden" }, "Scripts"), h("thead", {}, h("tr", {}, ["Operator", "File", "Version", "Hash", "Since", "Swaps", "Last pause", "Last error"].map((label) =>
      h("th", { scope: "col", class: ["Swaps", "Last pause"].includes(label) ? "number" : "" }, label)))), body), none);
  return { node };
}

// The text of a flow: reading it, changing it, its versions, and a new one.

import { flow as path, get, send, text } from "./api.js";
import { ask, h, say, time, toast } from "./dom.js";

const FIRST = `name = "new-flow"

[sources.numbers]
type = "generator"
rate = 10

[sinks.nowhere]
type = "blackhole"
inputs = ["numbers"]
`;

const words = (problem) => [problem.message, ...(problem.errors ?? [])].join("\n\n");

function editor(value, save, label) {
  const area = h("textarea", { "aria-label": "Definition", spellcheck: "false", class: "mono" });
  area.value = value;
  const errors = h("div", { class: "errors", hidden: true, role: "alert" });
  const go = h("button", { type: "button", class: "main", onclick: async () => {
    go.disabled = true;
    errors.hidden = true;
    try {
      await save(area.value);
    } catch (problem) {
      errors.hidden = false;
      say(errors, words(problem));
    }
    go.disabled = false;
  } }, label);
  return { area, errors, go };
}

/** The panel of a flow. */
export function definition(flow, { refresh }) {
  const kept = h("div", {});
  const versions = h("tbody", {});
  const past = h("div", { class: "card scroll spaced", hidden: true }, h("table", {}, h("caption", { class: "hidden" }, "Versions"),
    h("thead", {}, h("tr", {}, ["Version", "Put in", "By", "How", ""].map((label) => h("th", { scope: "col" }, label)))), versions));

  const back = async (version) => {
    const yes = await ask({ title: `Back to version ${version}?`, text: "It becomes the newest version. If the flow runs, it takes the place of the one that does.", yes: "Roll back" });
    if (!yes) return;
    try {
      const report = await send("POST", path(flow.name, `/rollback/${version}`));
      toast(`${flow.name}: ${report.action}`);
      load();
      refresh();
    } catch (problem) {
      toast(words(problem), "hot");
    }
  };
  const load = async () => {
    const source = await text(path(flow.name, "/definition"));
    const list = await get(path(flow.name, "/versions")).catch(() => null);
    if (!list) {
      kept.replaceChildren(h("p", { class: "soft" }, flow.file ? `Written in ${flow.file}: change it there, it is read again.` : ""), h("pre", { class: "source", tabindex: "0" }, source));
      return;
    }
    const { area, errors, go } = editor(source, async (value) => {
      const report = await send("PUT", path(flow.name), value);
      toast(`${flow.name}: ${report.action} in ${report.duration_ms} ms`);
      load();
      refresh();
    }, "Save and deploy");
    kept.replaceChildren(area, errors, h("div", { class: "row ends" }, go));
    past.hidden = false;
    versions.replaceChildren(...list.toReversed().map((v, at) => h("tr", {}, h("th", { scope: "row" }, String(v.version)), h("td", {}, time(v.created)),
      h("td", {}, v.creator), h("td", {}, v.action), h("td", { class: "number" }, at ? h("button", { type: "button", class: "small", onclick: () => back(v.version) }, "Roll back") : "in use"))));
  };
  load().catch((problem) => kept.replaceChildren(h("p", { class: "error" }, problem.message)));
  return { node: h("div", {}, h("div", { class: "card pad" }, kept), past) };
}

/** The page for a flow that is not there yet. */
export function fresh() {
  const deploy = h("input", { type: "checkbox", checked: true });
  const { area, errors, go } = editor(FIRST, async (value) => {
    const report = await send("POST", `api/v1/flows?deploy=${deploy.checked}`, value);
    toast(`${report.flows.join(", ")}: ${report.action} in ${report.duration_ms} ms`);
    location.hash = `#/flow/${encodeURIComponent(report.flows[0])}`;
  }, "Put it in");
  const node = h("section", { "aria-labelledby": "new-title" }, h("nav", { "aria-label": "Way back" }, h("a", { href: "#/" }, "Flows"), h("span", { class: "soft" }, " / ")),
    h("div", { class: "head" }, h("h1", { id: "new-title" }, "New flow")),
    h("div", { class: "card pad" }, area, errors, h("div", { class: "row ends" }, h("label", {}, deploy, "run it now"), go)));
  return { node, title: "New flow", update: async () => {}, close: () => {} };
}

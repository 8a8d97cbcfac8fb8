// Columns whose widths are dragged by the lines between their headings, or
// moved with the arrow keys, and kept for the next visit.

import { h } from "./dom.js";

const KEY = "ringmain-columns";
const LEAST = 56;
const STEP = 16;

const stored = () => {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
};

/**
 * A head for a table of `columns` ({ key, label, width, number, sortable }) and
 * the colgroup that holds their widths.
 */
export function columns(list, onSort) {
  const widths = { ...Object.fromEntries(list.map((c) => [c.key, c.width])), ...stored() };
  const cols = new Map(list.map((c) => [c.key, h("col", {})]));
  const handles = new Map();

  const set = (key, width, keep) => {
    widths[key] = Math.max(LEAST, Math.round(width));
    cols.get(key).style.width = `${widths[key]}px`;
    const sum = list.reduce((total, c) => total + widths[c.key], 0);
    group.closest("table")?.style.setProperty("min-width", `${sum}px`);
    handles.get(key)?.setAttribute("aria-valuenow", String(widths[key]));
    if (keep) localStorage.setItem(KEY, JSON.stringify(widths));
  };

  const handle = (column) => {
    const grip = h("span", { class: "grip", role: "separator", tabindex: "0", "aria-orientation": "vertical",
      "aria-label": `Width of ${column.label}`, "aria-valuemin": LEAST, "aria-valuenow": widths[column.key] });
    grip.addEventListener("pointerdown", (down) => {
      down.preventDefault();
      grip.setPointerCapture(down.pointerId);
      const from = cols.get(column.key).getBoundingClientRect().width || widths[column.key];
      const move = (event) => set(column.key, from + event.clientX - down.clientX);
      const up = () => {
        grip.removeEventListener("pointermove", move);
        set(column.key, widths[column.key], true);
      };
      grip.addEventListener("pointermove", move);
      grip.addEventListener("pointerup", up, { once: true });
      grip.addEventListener("pointercancel", up, { once: true });
    });
    grip.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
      if (by) {
        event.preventDefault();
        set(column.key, widths[column.key] + by, true);
      }
    });
    grip.addEventListener("dblclick", () => set(column.key, column.width, true));
    grip.addEventListener("click", (event) => event.stopPropagation());
    handles.set(column.key, grip);
    return grip;
  };

  const heads = list.map((column) => {
    const label = column.sortable
      ? h("button", { type: "button", class: "sort", onclick: () => onSort(column.key) }, column.label)
      : h("span", { class: column.hidden ? "hidden" : "" }, column.label);
    return h("th", { scope: "col", class: column.number ? "number" : "", "data-key": column.key }, label, handle(column));
  });
  const group = h("colgroup", {}, [...cols.values()]);
  const head = h("thead", {}, h("tr", {}, heads));

  /** To be called when both are in their table. */
  const settle = () => list.forEach((c) => set(c.key, widths[c.key]));

  /** Shows which column the rows are in the order of. */
  const sorted = (key, down) => heads.forEach((th) => {
    if (th.dataset.key === key) th.setAttribute("aria-sort", down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  });
  return { group, head, settle, sorted };
}

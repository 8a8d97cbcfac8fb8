// Elements, numbers as people read them, questions and notes.

const SVG = "http://www.w3.org/2000/svg";

function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(9).filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element of HTML. Text is text: nothing is read as markup. */
export const h = (tag, attributes, ...children) =>
  made(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const svg = (tag, attributes, ...children) =>
  made(document.createElementNS(SVG, tag), attributes, children);

/** Changes text only where it differs, so that selections and readers stay. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/**
 * Has a table's body show these rows, in this order. Those that stay are moved
 * as little as possible, so that they keep the focus that is in them; and not
 * at all while one of them has a menu open.
 */
export function arrange(body, rows) {
  const stay = new Set(rows);
  [...body.children].forEach((row) => stay.has(row) || row.remove());
  if (body.querySelector(":popover-open")) {
    rows.forEach((row) => row.parentNode === body || body.append(row));
    return;
  }
  rows.forEach((row, at) => {
    const there = body.children[at] ?? null;
    if (there === row) return;
    if (row.parentNode === body && body.moveBefore) body.moveBefore(row, there);
    else body.insertBefore(row, there);
  });
}

/** A count. */
export const count = (n) => (n === undefined || n === null ? "" : whole.format(n));

/** A rate: three digits say enough. */
export function rate(n) {
  if (n === undefined || n === null) return "";
  if (n >= 100_000) return short.format(n);
  return n >= 100 ? whole.format(n) : tenth.format(n);
}

/** Bytes. */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  return `${at ? tenth.format(n) : whole.format(n)} ${units[at]}`;
}

/** How long something has been going on. */
export function lasted(seconds) {
  const parts = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0 s";
  const [size, unit] = parts[at];
  const rest = parts[at + 1] && at < 2 ? Math.floor((seconds % size) / parts[at + 1][0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${parts[at + 1][1]}` : ""}`;
}

/** A time (RFC 3339) in the reader's zone; the day where it is not today. */
export function time(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return "";
  const today = at.toDateString() === new Date().toDateString();
  const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return today ? clock : `${at.toLocaleDateString("sv")} ${clock}`;
}

/** How warm a percentage of backpressure is. */
export const heat = (percent) => (percent >= 50 ? "hot" : percent >= 10 ? "warm" : "good");

/** A button that opens a list of links and buttons beside it. */
export function menu(label, entries) {
  const list = h("div", { popover: "auto", class: "menu card", "aria-label": label }, entries);
  const button = h("button", { type: "button", class: "small", "aria-label": label, "aria-haspopup": "true", "aria-expanded": "false" }, "\u22ef");
  button.popoverTargetElement = list;
  list.addEventListener("beforetoggle", (event) => {
    const opens = event.newState === "open";
    button.setAttribute("aria-expanded", String(opens));
    if (!opens) return;
    const { right, bottom } = button.getBoundingClientRect();
    list.style.right = `${Math.max(8, document.documentElement.clientWidth - right)}px`;
    // Above the button where there is no room below.
    const room = innerHeight - bottom > 40 * entries.length;
    list.style.top = room ? `${bottom + 4}px` : "auto";
    list.style.bottom = room ? "auto" : `${innerHeight - bottom + 30}px`;
  });
  list.addEventListener("click", () => list.hidePopover());
  return [button, list];
}

/** A note that goes by itself; errors stay longer. */
export function toast(text, kind = "good") {
  const note = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "hot" ? 12_000 : 4_000);
}

/**
 * Asks before something is done. `fields` are inputs by name; resolves to
 * their values, or to null when the answer is no.
 */
export function ask({ title, text, yes, danger, fields = {} }) {
  return new Promise((resolve) => {
    const inputs = Object.entries(fields).map(([name, field]) =>
      h("label", {}, field.label, h("input", { name, value: field.value ?? "", type: field.type ?? "text",
        required: field.required ?? true, autocomplete: "off", spellcheck: "false" })));
    const go = h("button", { class: danger ? "danger main" : "main", value: "yes" }, yes);
    const dialog = h("dialog", { "aria-labelledby": "ask-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "ask-title" }, title), text ? h("p", { class: "soft" }, text) : null, inputs,
        h("div", { class: "row ends" },
          // No submit button: Enter in an input says yes.
          h("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel"), go)));
    dialog.addEventListener("close", () => {
      const form = new FormData(dialog.querySelector("form"));
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? Object.fromEntries(form) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    if (!inputs.length) go.focus();
  });
}

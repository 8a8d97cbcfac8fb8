// The daemon's API: questions with the token, refusals as errors, live events.

const KEY = "ringmain-token";
let token = sessionStorage.getItem(KEY) ?? "";
let onRefused = () => {};

/** What the daemon said against it. */
export class Refused extends Error {
  constructor(status, detail, errors) {
    super(detail);
    this.status = status;
    this.errors = errors ?? [];
  }
}

/** Called when the daemon wants a token, or another one. */
export const whenRefused = (call) => { onRefused = call; };

export const hasToken = () => token !== "";

/** Kept as long as the window is. */
export function setToken(text) {
  token = text.trim();
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

async function fetched(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const refused = new Refused(response.status, problem.detail ?? `status ${response.status}`, problem.errors);
  if (response.status === 401) onRefused(refused);
  throw refused;
}

export const get = async (path) => (await fetched(path)).json();
export const text = async (path) => (await fetched(path)).text();

export async function send(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/toml" };
  return (await fetched(path, { method, body, headers })).json();
}

/** Path of a flow. */
export const flow = (name, rest = "") => `api/v1/flows/${encodeURIComponent(name)}${rest}`;

/** Server-sent events with a token, which EventSource cannot show. */
export async function events(path, signal, each) {
  const response = await fetched(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const of = (key) => lines.find((line) => line.startsWith(key))?.slice(key.length);
      const data = of("data: ");
      if (data !== undefined) each(of("event: ") ?? "message", data);
    }
  }
}

// The model server's routes, as the page uses them.

import { parse, stringify } from "./exact.js";

// Where the server is mounted: the folder above this file's own.
const BASE = new URL("../", import.meta.url);

/** The address of a route, for showing to a person, too. */
export function address(route) {
  return new URL(route, BASE).href;
}

/** A request that was answered, but not with success. */
export class RefusedError extends Error {
  /** `detail`: what the server says, a text or a list of problems with their places. */
  constructor(status, detail, retryAfter) {
    super(refusal(status, detail, retryAfter));
    this.status = status;
    this.problems = Array.isArray(detail) ? detail : [];
  }
}

function refusal(status, detail, retryAfter) {
  const said = typeof detail === "string" && detail ? `: ${detail}` : "";
  const when = retryAfter ? ` Try again in ${retryAfter} s.` : "";
  if (status === 413) return `The input is too large for this server${said}.`;
  if (status === 422) return "The server refused the input.";
  if (status === 503) return `The server takes no request now${said}.${when}`;
  return `The server answered ${status}${said}.${when}`;
}

async function ask(route, options = {}) {
  const response = await fetch(new URL(route, BASE), { cache: "no-store", ...options });
  const text = await response.text();
  let body = null;
  try {
    body = text === "" ? null : parse(text);
  } catch {
    // A proxy's own page: the status says enough.
    if (response.ok) throw new TypeError("the answer is not JSON");
  }
  if (response.ok) return body;
  throw new RefusedError(response.status, body?.detail, response.headers.get("Retry-After"));
}

/** The model's name and its schemas. */
export const describe = () => ask("");

/** Starts a run of one input; gives its id. `signal` stops the upload. */
export async function start(input, signal) {
  const body = stringify([input]);
  const headers = { "Content-Type": "application/json" };
  return (await ask("demo", { method: "POST", headers, body, signal })).demo_id;
}

/** Asks the server to stop a run. */
export const cancel = (id) => ask(`demo/${encodeURIComponent(id)}/cancel`, { method: "POST" });

const FIRST_WAIT = 150;
const LONGEST_WAIT = 2000;
const LONGEST_WAIT_FOR_CONNECTION = 10000;

/**
 * Follows a run until it ends: yields `{run}` for each answer, and `{lost, wait}` (milliseconds) where there was none.
 *
 * Asks often at first and less often later; never gives up for want of a connection. Throws RefusedError where the
 * server no longer knows the run, and an AbortError once `signal` is aborted.
 */
export async function* follow(id, signal) {
  let wait = FIRST_WAIT;
  let failures = 0;
  for (;;) {
    try {
      const run = await ask(`demo/${encodeURIComponent(id)}`, { signal });
      if (failures > 0) wait = FIRST_WAIT;
      failures = 0;
      yield { run };
      if (run.status === "success" || run.status === "failed") return;
    } catch (error) {
      signal.throwIfAborted();
      const passing = error instanceof TypeError || (error instanceof RefusedError && error.status >= 500);
      if (!passing) throw error;
      failures += 1;
      wait = Math.min(500 * 2 ** failures, LONGEST_WAIT_FOR_CONNECTION);
      yield { lost: error, wait };
    }
    await pause(wait, signal);
    if (failures === 0) wait = Math.min(wait * 1.3, LONGEST_WAIT);
  }
}

/**
 * Follows a run's pieces: yields what is new of its output, until the run or the connection ends.
 *
 * What comes of the run is `follow`'s to say.
 */
export async function* pieces(id, signal) {
  const headers = { Accept: "text/event-stream" };
  const response = await fetch(new URL(`demo/${encodeURIComponent(id)}`, BASE), { cache: "no-store", headers, signal });
  if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\n");
      if (name === "event: piece") yield parse(data.slice("data: ".length)).output;
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
  });
}

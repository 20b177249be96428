// The page: ties the form, a run on the server, and its result together.

import { RefusedError, address, cancel, describe, follow, pieces, start } from "./api.js";
import { curlCommand } from "./curl.js";
import { readableSize, shortJson } from "./datauri.js";
import { copy, copyButton, h } from "./dom.js";
import { stringify } from "./exact.js";
import { put } from "./files.js";
import { Form } from "./form.js";
import { release, renderOutput } from "./results.js";
import { firstPicture, readable } from "./schema.js";
import { tabs } from "./tabs.js";

const $ = (id) => document.getElementById(id);
const RUN_KEY = `tungsten run ${address("demo")}`;
const WORDS = { idle: "", sending: "Sending", pending: "Waiting for its turn", running: "Running", success: "Done", failed: "Failed",
  canceled: "Canceled", lost: "Unknown" };

let model = null;
let form = null;
let run = null; // {id, started, input, stop, canceled}: the one in progress, or null

async function open() {
  try {
    model = await describe();
  } catch (error) {
    $("fields").replaceChildren(h("div", { class: "notice bad", role: "alert" }, h("p", {}, `The model can't be reached. ${explain(error)}`),
      h("button", { type: "button", class: "small", onclick: open }, "Try again")));
    return;
  }
  document.title = `${readable(model.name)} · demo`;
  $("name").textContent = readable(model.name);
  showExamples();
  fresh();
  showIdle();
  $("run").disabled = $("reset").disabled = false;
  const id = remembered();
  if (id) watch({ id, input: null, started: performance.now(), stop: new AbortController() });
}

function showExamples() {
  const buttons = (model.examples ?? []).map((example, index) => {
    const picture = firstPicture(example);
    const text = Object.values(example).find((value) => typeof value === "string" && !value.startsWith("data:"));
    return h("button", { type: "button", class: "small", onclick: () => fill(example) },
      picture && h("img", { src: picture, alt: "" }), h("span", {}, text || `Example ${index + 1}`));
  });
  $("examples").replaceChildren(...buttons);
  $("examples").hidden = buttons.length === 0;
}

function fill(example) {
  fresh(example);
  $("run").focus({ preventScroll: true });
}

function fresh(example) {
  form = new Form(model.input_schema, example);
  const empty = Object.keys(model.input_schema.properties ?? {}).length === 0;
  $("fields").replaceChildren(form.element, ...(empty ? [h("p", { class: "hint" }, "This model takes no input.")] : []));
  notice("form-notice", "");
  showCurl();
}

function explain(error) {
  if (error instanceof RefusedError) return error.message;
  return navigator.onLine === false ? "This machine is not connected." : "The server does not answer.";
}

function notice(id, text) {
  $(id).textContent = text;
  $(id).hidden = text === "";
}

// Running

// A reloaded page finds its run again. Where a browser keeps nothing, it does not.
function remember(id) {
  try {
    if (id) sessionStorage.setItem(RUN_KEY, id);
    else sessionStorage.removeItem(RUN_KEY);
  } catch {
    // forbidden by the user's settings
  }
}

function remembered() {
  try {
    return sessionStorage.getItem(RUN_KEY);
  } catch {
    return null;
  }
}

async function submit() {
  if (run) return;
  const { value, problems } = await form.read();
  if (run) return; // two quick clicks, while a file was read
  notice("form-notice", "");
  form.show(problems);
  if (problems.length > 0) {
    notice("form-notice", problems.length === 1 ? "One field needs a change." : `${problems.length} fields need a change.`);
    return;
  }
  const mine = { id: null, input: value, started: performance.now(), stop: new AbortController() };
  begin(mine, "sending");
  try {
    mine.id = await start(value, mine.stop.signal);
  } catch (error) {
    if (mine.stop.signal.aborted) return finish(mine, "canceled", null);
    finish(mine, "idle", null);
    showIdle();
    return refused(error);
  }
  remember(mine.id);
  await watch(mine);
}

function refused(error) {
  const { placed, others } = form.place(error.problems ?? []);
  form.show(placed);
  const text = placed.length > 0 ? "The server refused the input; see the fields." : explain(error);
  const largest = error.status === 413 ? form.files().sort((one, other) => other.size - one.size)[0] : null;
  const which = largest ? `The largest file is ${largest.name}, ${readableSize(largest.size)}.` : "";
  notice("form-notice", [text, ...others, which].filter(Boolean).join(" "));
  if (placed.length === 0) $("run").focus();
}

function begin(mine, state) {
  run = mine;
  release($("output"));
  $("output").replaceChildren(h("div", { class: "progress", "aria-hidden": "true" }));
  mine.timer = setInterval(() => showElapsed(mine), 100);
  showElapsed(mine);
  setState(state);
  const focused = document.activeElement === $("run");
  $("cancel").hidden = false;
  $("cancel").disabled = false;
  $("cancel").textContent = "Cancel";
  $("run").disabled = true;
  if (focused) $("cancel").focus({ preventScroll: true });
  const { top } = $("result").getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.7) $("result").scrollIntoView({ block: "start" });
}

async function watch(mine) {
  if (run !== mine) begin(mine, "pending");
  if (model.stream) grow(mine);
  try {
    for await (const { run: now, lost, wait } of follow(mine.id, mine.stop.signal)) {
      if (lost) {
        notice("connection", `${explain(lost)} The run goes on; asking again in ${Math.round(wait / 1000)} s.`);
        continue;
      }
      notice("connection", "");
      if (now.status === "success") finish(mine, "success", now);
      else if (now.status === "failed") finish(mine, now.error_message === "Canceled" ? "canceled" : "failed", now);
      else showProgress(now);
    }
  } catch (error) {
    finish(mine, mine.stop.signal.aborted ? "canceled" : "lost", null);
    if (!mine.stop.signal.aborted) {
      const gone = error instanceof RefusedError && error.status === 404;
      notice("connection", gone ? "The server no longer has this run." : explain(error));
    }
  }
}

/** Shows the output while it comes, of a model whose outputs come piece by piece. */
async function grow(mine) {
  const fields = model.output_schema.properties ?? {};
  const output = {};
  let waits = false;
  try {
    for await (const piece of pieces(mine.id, mine.stop.signal)) {
      for (const [name, value] of Object.entries(piece)) {
        const grows = fields[name]?.["x-fold"] === "concatenate" && value !== null && output[name] != null;
        output[name] = !grows ? value : Array.isArray(value) ? [...output[name], ...value] : output[name] + value;
      }
      if (waits) continue;
      waits = true; // many pieces come between two frames
      requestAnimationFrame(() => {
        waits = false;
        if (run === mine) showGrowing(fields, output, mine);
      });
    }
  } catch {
    // `watch` tells how it ends.
  }
}

function showGrowing(fields, output, mine) {
  let view = $("output").querySelector(".growing");
  if (!view) {
    view = h("div", { class: "growing" });
    $("output").prepend(view);
  }
  release(view);
  const texts = Object.keys(output).filter((name) => fields[name]?.["x-fold"] && typeof output[name] === "string");
  const others = Object.fromEntries(Object.entries(output).filter(([name, value]) => !texts.includes(name) && value !== null));
  view.replaceChildren(...texts.map((name) => h("p", { class: "prose" }, output[name])),
    ...(Object.keys(others).length > 0 ? [renderOutput(model.output_schema, others, firstPicture(mine.input))] : []));
}

function finish(mine, state, now) {
  clearInterval(mine.timer);
  run = null;
  remember(null);
  notice("connection", "");
  showElapsed(mine);
  setState(state);
  const focused = $("cancel") === document.activeElement;
  $("cancel").hidden = true;
  $("run").disabled = false;
  // Run may be far from the result, which stays in view.
  if (focused) $("run").focus({ preventScroll: true });
  $("output").replaceChildren(...showEnd(mine, state, now));
}

async function stop() {
  const mine = run;
  if (!mine) return;
  if (mine.id === null) return mine.stop.abort();
  // A second press: the server does not react, and the user is not kept waiting.
  if (mine.canceled) return mine.stop.abort();
  mine.canceled = true;
  $("cancel").textContent = "Stop waiting";
  try {
    await cancel(mine.id);
  } catch (error) {
    if (run === mine) notice("connection", `It was not canceled. ${explain(error)}`);
    mine.canceled = false;
    $("cancel").textContent = "Cancel";
  }
}

// Showing

function setState(state) {
  $("state").dataset.state = state;
  if ($("status").textContent !== WORDS[state]) $("status").textContent = WORDS[state];
  $("elapsed").hidden = state === "idle";
}

function showElapsed(mine) {
  const seconds = (performance.now() - mine.started) / 1000;
  const minutes = Math.floor(seconds / 60);
  $("elapsed").textContent = minutes > 0 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${seconds.toFixed(1)} s`;
}

function showIdle() {
  setState("idle");
  $("output").replaceChildren(h("p", { class: "empty" }, "The result appears here."));
}

function showProgress({ status, logs }) {
  setState(status);
  if (!logs) return;
  let view = $("output").querySelector("pre.logs");
  if (!view) {
    view = logView("");
    $("output").append(h("h3", {}, "Logs"), view);
  }
  const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 8;
  if (view.textContent !== logs) view.textContent = logs;
  if (atEnd) view.scrollTop = view.scrollHeight;
}

function logView(logs) {
  return h("pre", { class: "logs", tabindex: "0", "aria-label": "Logs" }, logs);
}

function showEnd(mine, state, now) {
  if (state !== "success") {
    const text = state === "canceled" ? null : now?.error_message;
    return [
      text ? h("div", { class: "notice bad failure" }, h("p", {}, text)) : null,
      !text && state === "canceled" ? h("p", { class: "empty" }, "The run was canceled.") : null,
      now?.logs ? h("h3", {}, "Logs") : null,
      now?.logs ? logView(now.logs) : null,
    ].filter(Boolean);
  }
  const shown = now.demo_outputs?.[0] ?? now.outputs[0];
  const schema = now.demo_outputs?.[0] ? model.demo_output_schema ?? model.output_schema : model.output_schema;
  const ownDemo = stringify(model.demo_output_schema) !== stringify(model.output_schema);
  const picture = firstPicture(mine.input);
  const json = () => stringify(now.outputs[0], 2);
  return [tabs("Result", [
    { label: "Preview", content: renderOutput(schema, shown, picture) },
    // What programs get, where people see something else.
    { label: "Output", hidden: !ownDemo, content: () => renderOutput(model.output_schema, now.outputs[0], picture) },
    { label: "JSON", content: h("div", { class: "code" }, copyButton(json),
      h("pre", { tabindex: "0", "aria-label": "Output as JSON" }, shortJson(now.outputs[0], 2))) },
    { label: "Logs", content: now.logs ? h("div", { class: "code" }, copyButton(() => now.logs), logView(now.logs)) : h("p", { class: "empty" }, "Nothing was logged.") },
  ])];
}

async function showCurl() {
  if (!$("curl").open || !form) return;
  const { value } = await form.read();
  $("curl-text").textContent = curlCommand(address("predict"), value, { short: true });
}

// Events

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    submit();
  }
});
$("cancel").addEventListener("click", stop);
$("reset").addEventListener("click", () => {
  fresh();
  if (!run) {
    notice("connection", "");
    release($("output"));
    showIdle();
  }
});
$("form").addEventListener("input", showCurl);
$("form").addEventListener("change", showCurl);
$("curl").addEventListener("toggle", showCurl);
$("copy-curl").addEventListener("click", async () => {
  const { value } = await form.read();
  copy($("copy-curl"), curlCommand(address("predict"), value, { short: false }));
});

/** Gives a file that came to no field to the one that it can be for. */
function offer(file) {
  if (!put($("form"), file)) notice("form-notice", `${file.name} was not taken: no field here is for such a file.`);
}

document.addEventListener("paste", (event) => {
  const file = event.clipboardData?.files[0];
  // What an office program copies is text and a picture of it.
  if (!file || [...event.clipboardData.types].includes("text/plain")) return;
  event.preventDefault();
  offer(file);
});
// A file dropped beside its field must not replace the page.
document.addEventListener("dragover", (event) => {
  if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const file = event.dataTransfer.files[0];
  if (!file || event.defaultPrevented) return;
  event.preventDefault();
  offer(file);
});

open();

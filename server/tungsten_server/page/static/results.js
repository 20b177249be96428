// A model's output, each value shown by its type. The schema says what a value is; where it says nothing, the value does.

import { boxField, boxesOf, pictureWithBoxes } from "./boxes.js";
import { describeUri, fileName, playable, readableSize, shortJson } from "./datauri.js";
import { copyButton, freshId, h } from "./dom.js";
import { isNumber } from "./exact.js";
import { MEDIA, isObject, matches, readable, withoutNull } from "./schema.js";

const MOST_ROWS = 200;
const MOST_LINES = 12;
const MOST_CHARACTERS = 900; // about as many lines

/**
 * Shows an output. `picture`: the input's picture as a URL, for boxes to be drawn on, or null.
 *
 * Gives an element; the blob: URLs in it are released by `release(element)`.
 */
export function renderOutput(schema, output, picture) {
  return h("div", { class: "output" }, render(schema, output, { picture, name: "output" }));
}

/** Gives back the memory of an output that is no longer shown. */
export function release(element) {
  for (const media of element.querySelectorAll("[src^='blob:'], [href^='blob:']")) URL.revokeObjectURL(media.src ?? media.href);
}

function render(schema, value, context) {
  if (value === null) return h("p", { class: "none" }, "None");
  const fitting = schema?.anyOf ? schema.anyOf.find((member) => matches(member, value)) ?? {} : withoutNull(schema ?? {}).schema;
  const type = mediaType(fitting, value);
  if (type) return renderFile(type, value, context);
  if (Array.isArray(value)) return renderList(fitting, value, context);
  if (isObject(value)) return renderObject(fitting, value, context);
  if (typeof value === "string") return renderText(value);
  return h("p", { class: "scalar" }, scalar(value));
}

function mediaType(schema, value) {
  if (typeof value !== "string") return null;
  if (MEDIA.includes(schema["x-file-type"])) return schema["x-file-type"];
  return /^data:(image|audio|video)\//i.exec(value.slice(0, 20))?.[1].toLowerCase() ?? null;
}

function scalar(value) {
  if (typeof value === "boolean") return value ? "Yes" : "No";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return String(value);
}

function renderText(text) {
  if (text === "") return h("p", { class: "none" }, "Empty text");
  if (!text.includes("\n") && text.length <= 60) return h("p", { class: "scalar" }, text);
  return h("div", { class: "text" }, folded(text), copyButton(() => text));
}

/** A text; of a long one the beginning is seen until all of it is asked for. */
function folded(text) {
  const prose = h("p", { class: "prose", id: freshId() }, text);
  if (text.length <= MOST_CHARACTERS && text.split("\n").length <= MOST_LINES) return prose;
  const show = (all) => {
    prose.classList.toggle("folded", !all);
    button.setAttribute("aria-expanded", String(all));
    button.textContent = all ? "Show less" : "Show all";
  };
  const button = h("button", { type: "button", class: "small", "aria-controls": prose.id,
    onclick: () => show(prose.classList.contains("folded")) });
  show(false);
  return [prose, button];
}

function renderFile(type, uri, { name }) {
  // What is not a file of this page or this server is never loaded: it is shown as text.
  const about = describeUri(uri);
  if (!about && !isOurs(uri)) return renderText(uri);
  const kind = about?.type.startsWith("image/") && type === "binary" ? "image" : type;
  const source = playable(uri, about?.type ?? "");
  const link = h("a", { class: "download", href: source, download: about ? fileName(name, about.type, about.suffix) : "" }, "Download");
  const size = about ? h("span", { class: "hint" }, `${about.type} · ${readableSize(about.size)}`) : null;
  const label = readable(name);
  const failed = () => shown.replaceWith(h("p", { class: "none" }, "This browser can't show the file."));
  const shown =
    kind === "image" ? h("img", { src: source, alt: label, onerror: () => failed() })
    : kind === "audio" ? h("audio", { src: source, controls: true, "aria-label": label })
    : kind === "video" ? h("video", { src: source, controls: true, playsinline: true, "aria-label": label })
    : null;
  const pixels = kind === "image" ? h("span", { class: "hint" }) : null;
  if (pixels) shown.addEventListener("load", () => (pixels.textContent = `${shown.naturalWidth} × ${shown.naturalHeight}`));
  return h("figure", { class: `file ${kind}` }, shown, h("figcaption", {}, link, pixels, size));
}

function isOurs(uri) {
  try {
    return new URL(uri, location.href).origin === location.origin;
  } catch {
    return false;
  }
}

function renderList(schema, values, context) {
  if (values.length === 0) return h("p", { class: "none" }, "Empty list");
  const items = schema.prefixItems ? {} : schema.items ?? {};
  if (values.every(isObject) && !items["x-file-type"]) return renderTable(items, values, context);
  if (values.every((value) => !isObject(value) && !Array.isArray(value) && !mediaType(items, value))) {
    const short = values.every((value) => String(value).length <= 40);
    return limited(values, (shown) => h("ul", { class: short ? "chips" : "plain" }, shown.map((value) => h("li", {}, typeof value === "string" ? folded(value) : scalar(value)))));
  }
  if (values.every((value) => Array.isArray(value) && value.every((cell) => typeof cell !== "object"))) {
    return limited(values, (rows) => scrolled(context.name, h("table", { class: "matrix" },
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", { class: numeric(cell) }, scalar(cell)))))))));
  }
  return limited(values, (shown) => h("div", { class: "gallery" }, shown.map((value, index) =>
    render(schema.prefixItems?.[index] ?? items, value, { ...context, name: `${context.name}-${index + 1}` }))));
}

function limited(values, show) {
  const shown = show(values.slice(0, MOST_ROWS));
  const more = values.length - MOST_ROWS;
  return more > 0 ? h("div", {}, shown, h("p", { class: "hint" }, `${more} more are in the JSON.`)) : shown;
}

function scrolled(name, table) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${readable(name)}, table` }, table);
}

const numeric = (value) => (isNumber(value) ? "figure" : null);

/** A list of objects as a table, and over the input's picture where each is a detection. */
function renderTable(schema, objects, context) {
  const columns = [...new Set(objects.flatMap(Object.keys))];
  const boxes = boxesOf(objects);
  const boxed = boxes && context.picture ? pictureWithBoxes(context.picture, objects, boxes) : null;
  const row = (object, index) => {
    const cells = columns.map((name) =>
      h("td", { class: numeric(object[name]) }, cell(schema.properties?.[name] ?? {}, object, name, context)));
    const events = boxed ? { onpointerenter: () => boxed.light(index), onpointerleave: () => boxed.light(null) } : {};
    return h("tr", events, cells);
  };
  const table = limited(objects, (shown) => scrolled(context.name, h("table", {},
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col", class: numeric(objects[0][name]) }, readable(name))))),
    h("tbody", {}, shown.map(row)))));
  return boxed ? h("div", { class: "stack" }, boxed.element, table) : table;
}

function cell(schema, object, name, context) {
  const value = object[name];
  if (value === undefined || value === null) return "–";
  if (name === boxField(object) && Array.isArray(value)) return value.map(scalar).join(", ");
  if (mediaType(schema, value)) return render(schema, value, { ...context, name });
  if (typeof value === "string" && value.length > 80) return h("div", { class: "long" }, folded(value));
  return typeof value === "object" ? h("code", {}, shortJson(value)) : scalar(value);
}

function renderObject(schema, object, context) {
  const names = Object.keys(object);
  if (names.length === 0) return h("p", { class: "none" }, "Empty");
  const field = (name) => schema.properties?.[name] ?? (isObject(schema.additionalProperties) ? schema.additionalProperties : {});
  // A detection alone is drawn like one of many.
  if (context.picture && boxesOf([object])) return renderTable(schema, [object], context);
  if (names.length > 1 && names.every((name) => isPart(object[name]) && !schema.properties)) return renderParts(object, names);
  // The one field of an output needs no heading: all that is shown is it.
  if (names.length === 1 && context.name === "output") return render(field(names[0]), object[names[0]], { ...context, name: names[0] });
  return h("dl", {}, names.map((name) => h("div", { class: `entry-${inline(object[name]) ? "line" : "block"}` },
    h("dt", {}, schema.properties ? readable(name) : name),
    h("dd", {}, render(field(name), object[name], { ...context, name })))));
}

const inline = (value) => value === null || (typeof value !== "object" && String(value).length <= 60);
const isPart = (value) => typeof value === "number" && value >= 0 && value <= 1;

/** Names with parts of one, such as a classifier's probabilities: the largest first, each with a bar. */
function renderParts(object, names) {
  const sorted = [...names].sort((one, other) => object[other] - object[one]);
  return limited(sorted, (shown) => h("ul", { class: "parts" }, shown.map((name) => {
    const filled = h("span", {});
    filled.style.width = `${100 * object[name]}%`;
    return h("li", {}, h("span", {}, name), h("span", { class: "bar", "aria-hidden": "true" }, filled),
      h("span", { class: "figure" }, scalar(object[name])));
  })));
}

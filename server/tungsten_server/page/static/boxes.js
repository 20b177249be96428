// Detections: which objects have a box, and how boxes are drawn over a picture.

import { h, svg } from "./dom.js";
import { isObject } from "./schema.js";

const COLOURS = 8;
const NAMES = ["bbox", "box", "bounding_box"];

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** The name of the field that is a box in itself, or null. */
export function boxField(object) {
  return NAMES.find((name) => corners(object[name]) !== null) ?? null;
}

/** What a box is written as: `{x1, y1, x2, y2}`, or null for what is no box. */
function corners(value) {
  if (Array.isArray(value)) {
    return value.length === 4 && value.every(isNumber) ? { x1: value[0], y1: value[1], x2: value[2], y2: value[3], list: true } : null;
  }
  if (!isObject(value)) return null;
  const pick = (...names) => names.map((name) => value[name]);
  for (const found of [pick("xmin", "ymin", "xmax", "ymax"), pick("x1", "y1", "x2", "y2"), pick("left", "top", "right", "bottom")]) {
    if (found.every(isNumber)) return { x1: found[0], y1: found[1], x2: found[2], y2: found[3] };
  }
  const [x, y, width, height] = pick("x", "y", "width", "height");
  return [x, y, width, height].every(isNumber) ? { x1: x, y1: y, x2: x + width, y2: y + height } : null;
}

/** The box of an object, in itself or in one of its fields; null where there is none. */
function boxOf(object) {
  if (!isObject(object)) return null;
  const name = boxField(object);
  return name ? corners(object[name]) : corners(object);
}

/** The boxes of a list of objects: a list as long, or null unless each of them has one. */
export function boxesOf(objects) {
  if (objects.length === 0) return null;
  const boxes = objects.map(boxOf);
  if (boxes.some((box) => box === null)) return null;
  // Four numbers are corners, or a corner with width and height: one that ends before it begins tells.
  if (boxes.every(({ list }) => list) && boxes.some(({ x1, y1, x2, y2 }) => x2 < x1 || y2 < y1)) {
    return boxes.map(({ x1, y1, x2, y2 }) => ({ x1, y1, x2: x1 + x2, y2: y1 + y2 }));
  }
  return boxes;
}

function labelOf(object) {
  const name = ["label", "name", "class", "class_name", "category"].find((key) => ["string", "number"].includes(typeof object[key]));
  return name ? String(object[name]) : "";
}

function scoreOf(object) {
  const name = ["score", "confidence", "probability", "conf"].find((key) => isNumber(object[key]));
  if (!name) return "";
  const value = object[name];
  return value >= 0 && value <= 1 ? `${Math.round(value * 100)} %` : String(value);
}

/**
 * A picture with boxes. `objects` and `boxes` are of one length; gives `{element, light}`, where `light(index)` makes
 * one box stand out, and `light(null)` none.
 */
export function pictureWithBoxes(source, objects, boxes) {
  const image = h("img", { src: source, alt: `The input with ${boxes.length} ${boxes.length === 1 ? "box" : "boxes"}; the table lists them.` });
  const drawing = svg("svg", { class: "boxes", "aria-hidden": "true", preserveAspectRatio: "none" });
  const names = h("div", { class: "box-names", "aria-hidden": "true" });
  const element = h("div", { class: "boxed" }, image, drawing, names);
  const labels = [...new Set(objects.map(labelOf))];
  const drawn = [];
  image.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    // Boxes from 0 to 1 are parts of the picture.
    const relative = boxes.every(({ x1, y1, x2, y2 }) => Math.max(x1, y1, x2, y2) <= 1);
    const [sx, sy] = relative ? [width, height] : [1, 1];
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    boxes.forEach((box, index) => {
      const colour = `colour-${labels.indexOf(labelOf(objects[index])) % COLOURS}`;
      const [x, y] = [box.x1 * sx, box.y1 * sy];
      const rectangle = svg("rect", { x, y, width: Math.max(0, box.x2 * sx - x), height: Math.max(0, box.y2 * sy - y), class: colour });
      drawing.append(rectangle);
      const text = [labelOf(objects[index]), scoreOf(objects[index])].filter(Boolean).join(" ");
      const name = h("span", { class: `box-name ${colour}`, hidden: text === "" }, text);
      name.style.left = `${(100 * Math.min(Math.max(x, 0), width)) / width}%`;
      name.style.top = `${(100 * Math.min(Math.max(y, 0), height)) / height}%`;
      if (y < height * 0.06) name.classList.add("inside");
      names.append(name);
      drawn.push([rectangle, name]);
    });
  });
  const light = (chosen) => {
    element.classList.toggle("dimmed", chosen !== null);
    drawn.forEach((parts, index) => parts.forEach((part) => part.classList.toggle("lit", index === chosen)));
  };
  return { element, light };
}

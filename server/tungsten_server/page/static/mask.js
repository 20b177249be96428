// The control for a picture with a mask: the user paints over what is meant.

import { Control } from "./control.js";
import { h } from "./dom.js";
import { FileControl } from "./files.js";
import { ABSENT } from "./schema.js";

const INK = [234, 88, 12];

export class MaskControl extends Control {
  constructor(field) {
    super(field);
    this.painter = null;
    const { schema, initial } = field;
    this.given = initial?.mask ?? null; // belongs to the picture that is given with it
    const pictureField = { ...field, name: "image", named: false, description: null,
      schema: { "x-file-type": "image", ...schema.properties?.image }, initial: initial?.image };
    this.picture = new FileControl(pictureField, { preview: (_type, source) => this.paintOver(source) });
    this.element = this.grouped(this.picture.element);
    this.element.classList.add("masked");
  }

  paintOver(source) {
    this.painter = new Painter(source, this.given, () => this.element.dispatchEvent(new Event("change", { bubbles: true })));
    this.given = null;
    return this.painter.element;
  }

  target() {
    return this.picture.target();
  }

  parts() {
    return [this.picture];
  }

  /** What is wrong with the mask is said of the whole. */
  part(key) {
    return key === "image" ? this.picture : null;
  }

  async read(problems) {
    const before = problems.length;
    const image = await this.picture.read(problems);
    if (image === null || image === ABSENT || problems.length > before) return image;
    const mask = await this.painter.mask();
    if (mask === null) {
      problems.push({ control: this, message: "This browser can't show the picture, so there is nothing to paint on." });
      return ABSENT;
    }
    return { image, mask };
  }
}

/**
 * A picture to paint on. Keeps the strokes, not pixels, so that undoing costs no memory. `given`: a mask to begin with.
 *
 * The canvas has as many pixels as the picture; the page shows both smaller.
 */
class Painter {
  constructor(source, given, changed) {
    this.given = given;
    this.base = null; // the given mask, as it is painted
    this.changed = changed;
    this.strokes = [];
    this.current = null;
    this.pen = null; // where the keyboard's brush is, once it is used
    this.image = h("img", { src: source, alt: "" });
    this.canvas = h("canvas", { tabindex: "0", role: "img", width: "1", height: "1",
      "aria-label": "Mask. Arrow keys move the brush, Space paints, with Shift they move further." });
    this.cursor = h("span", { class: "brush", hidden: true, "aria-hidden": "true" });
    this.stage = h("div", { class: "stage" }, this.image, this.canvas, this.cursor);
    this.tools = this.makeTools();
    this.element = h("div", { class: "painter" }, this.stage, this.tools);
    this.ready = this.image.decode().then(() => this.prepare(), () => false);
    this.listen();
  }

  async prepare() {
    // As the picture is seen, with a camera's turn: the model sees it so, too.
    Object.assign(this.canvas, { width: this.image.naturalWidth, height: this.image.naturalHeight });
    this.base = this.given && (await painted(this.given, this.canvas));
    this.draw();
    this.stage.classList.add("ready");
    return true;
  }

  makeTools() {
    const tool = (name, erases) => {
      const button = h("button", { type: "button", class: "small", "aria-pressed": String(!erases) }, name);
      button.addEventListener("click", () => this.choose(erases));
      return button;
    };
    this.brush = tool("Brush", false);
    this.eraser = tool("Eraser", true);
    this.size = h("input", { type: "range", min: "1", max: "25", step: "1", "aria-label": "Size of the brush" });
    this.size.value = "6";
    this.size.addEventListener("change", (event) => event.stopPropagation());
    const undo = h("button", { type: "button", class: "small", onclick: () => this.edit(() => this.strokes.pop()) }, "Undo");
    const clear = h("button", { type: "button", class: "small", onclick: () => this.edit(() => this.clear()) }, "Clear");
    this.erases = false;
    return h("div", { class: "tools", role: "toolbar", "aria-label": "Mask" }, this.brush, this.eraser,
      h("label", { class: "size" }, "Size", this.size), undo, clear);
  }

  choose(erases) {
    this.erases = erases;
    this.brush.setAttribute("aria-pressed", String(!erases));
    this.eraser.setAttribute("aria-pressed", String(erases));
  }

  edit(change) {
    change();
    this.draw();
    this.changed();
  }

  /** The brush's width in the picture's pixels: a part of its shorter side. */
  width() {
    return Math.max(1, (Math.min(this.canvas.width, this.canvas.height) * Number(this.size.value)) / 100);
  }

  listen() {
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      this.canvas.focus({ preventScroll: true });
      this.canvas.setPointerCapture(event.pointerId);
      this.begin(this.point(event));
    });
    this.canvas.addEventListener("pointermove", (event) => {
      this.showBrush(this.point(event));
      if (!this.canvas.hasPointerCapture(event.pointerId) || !this.current) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length > 0 ? events : [event]) this.extend(this.point(one));
    });
    const end = () => this.current && this.end();
    this.canvas.addEventListener("pointerup", end);
    this.canvas.addEventListener("pointercancel", end);
    this.canvas.addEventListener("pointerleave", () => (this.cursor.hidden = true));
    this.canvas.addEventListener("blur", () => (this.cursor.hidden = true));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      this.edit(() => this.strokes.pop());
    } else if (event.key === " ") {
      this.pen ??= { x: this.canvas.width / 2, y: this.canvas.height / 2 };
      this.begin({ ...this.pen });
      this.end();
    } else if (direction) {
      this.pen ??= { x: this.canvas.width / 2, y: this.canvas.height / 2 };
      const step = (this.width() / 2) * (event.shiftKey ? 4 : 1);
      this.pen.x = Math.min(this.canvas.width, Math.max(0, this.pen.x + direction[0] * step));
      this.pen.y = Math.min(this.canvas.height, Math.max(0, this.pen.y + direction[1] * step));
    } else {
      return;
    }
    event.preventDefault();
    if (this.pen) this.showBrush(this.pen);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * this.canvas.width) / box.width,
      y: ((event.clientY - box.top) * this.canvas.height) / box.height,
    };
  }

  showBrush({ x, y }) {
    const scale = this.canvas.getBoundingClientRect().width / this.canvas.width;
    this.cursor.hidden = false;
    this.cursor.style.width = this.cursor.style.height = `${this.width() * scale}px`;
    this.cursor.style.left = `${x * scale}px`;
    this.cursor.style.top = `${y * scale}px`;
  }

  begin(point) {
    this.current = { erases: this.erases, width: this.width(), points: [point] };
    this.strokes.push(this.current);
    stroke(this.canvas.getContext("2d"), this.current, 0);
  }

  extend(point) {
    this.current.points.push(point);
    stroke(this.canvas.getContext("2d"), this.current, this.current.points.length - 2);
  }

  end() {
    this.current = null;
    this.changed();
  }

  clear() {
    this.strokes = [];
    this.base = null;
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.globalCompositeOperation = "source-over";
    if (this.base) context.drawImage(this.base, 0, 0);
    for (const one of this.strokes) stroke(context, one, 0);
  }

  /** A PNG of the picture's size as a data: URI, white where it is painted; null where there is no picture. */
  async mask() {
    if (!(await this.ready)) return null;
    const { width, height } = this.canvas;
    const pixels = this.canvas.getContext("2d").getImageData(0, 0, width, height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      // Two values and no soft edge: a model's mask has no more.
      pixels.data.fill(pixels.data[i + 3] < 128 ? 0 : 255, i, i + 3);
      pixels.data[i + 3] = 255;
    }
    const canvas = h("canvas", { width, height });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas.toDataURL("image/png");
  }
}

/** A mask as it looks when it is painted: coloured where it is not black. Null for what is no picture. */
async function painted(mask, { width, height }) {
  const image = h("img", { src: mask, alt: "" });
  try {
    await image.decode();
  } catch {
    return null;
  }
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.set([...INK, pixels.data[i] + pixels.data[i + 1] + pixels.data[i + 2] > 0 ? 255 : 0], i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Draws a stroke from one of its points on; a single point is a dot. */
function stroke(context, { erases, width, points }, from) {
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  context.fillStyle = context.strokeStyle = `rgb(${INK.join(" ")})`;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  if (points.length === 1) {
    context.arc(points[0].x, points[0].y, width / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.moveTo(points[from].x, points[from].y);
  for (const { x, y } of points.slice(from)) context.lineTo(x, y);
  context.stroke();
}

// What every control of the form is: it has an element, reads itself, and shows its own error.

import { freshId, h } from "./dom.js";
import { ABSENT, descriptionOf, readable, withoutNull } from "./schema.js";

/**
 * What a control is made for.
 *
 * schema: without null. label: for people. initial: the value to begin with, or undefined. whenEmpty: what an empty
 * control means: "refuse" (an error), "null", or "omit" (no value: the server has a default). named: a field of the
 * model's, not a part of one.
 */
export function makeField(name, schema, { required = true, initial = schema.default, label = readable(name), named = false } = {}) {
  const inner = withoutNull(schema);
  const whenEmpty = inner.nullable ? "null" : required ? "refuse" : "omit";
  return { name, label, initial, whenEmpty, named, schema: inner.schema, description: descriptionOf(schema, name) };
}

/** Base of all controls. A control that is made of others gives them in `parts()`. */
export class Control {
  constructor(field) {
    this.field = field;
    this.id = freshId();
    this.error = h("p", { class: "error", id: `${this.id}-error`, hidden: true });
  }

  /** The value as JSON, or ABSENT. Adds `{control, message}` to `problems` for each thing that is wrong. */
  async read(_problems) {
    throw new Error("a control must say how it is read");
  }

  parts() {
    return [];
  }

  /** The control that a path of names and indexes leads to: the last one on the way that exists. */
  find(path) {
    if (path.length === 0) return this;
    const part = this.part(path[0]);
    return part ? part.find(path.slice(1)) : this;
  }

  part(_key) {
    return null;
  }

  /** The element that takes the focus. */
  target() {
    return this.element;
  }

  focus() {
    this.target().focus();
  }

  fail(message) {
    this.error.textContent = message;
    this.error.hidden = false;
    this.element.classList.add("wrong");
    this.target().setAttribute("aria-invalid", "true");
    for (let box = this.element.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  }

  clear() {
    this.error.hidden = true;
    this.error.textContent = "";
    this.element.classList.remove("wrong");
    this.target().removeAttribute("aria-invalid");
    for (const part of this.parts()) part.clear();
  }

  /** Ids of what describes this control. */
  describedBy() {
    return this.field.description ? `${this.id}-hint ${this.id}-error` : `${this.id}-error`;
  }

  hint() {
    return this.field.description ? h("p", { class: "hint", id: `${this.id}-hint` }, this.field.description) : null;
  }

  mark() {
    return this.field.named && this.field.whenEmpty === "refuse" ? h("span", { class: "required", "aria-hidden": "true" }, " *") : null;
  }

  /** A label above one element that a person fills in. */
  framed(...content) {
    return h("div", { class: "field" },
      h("label", { for: this.id, class: "label" }, this.field.label, this.mark()),
      this.hint(), content, this.error);
  }

  /** A legend around several. */
  grouped(...content) {
    return h("fieldset", { class: "group", "aria-describedby": this.describedBy(), tabindex: "-1" },
      h("legend", {}, this.field.label, this.mark()), this.hint(), this.error, content);
  }

  /** What an empty control stands for. */
  empty(problems, message = "This field is required.") {
    if (this.field.whenEmpty === "refuse") problems.push({ control: this, message });
    return this.field.whenEmpty === "null" ? null : ABSENT;
  }
}

/** "1 item", "3 items". */
export function counted(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

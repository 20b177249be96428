// Controls that are made of others. Each gets `make`, which makes the control for a field.

import { Control, counted, makeField } from "./control.js";
import { freshId, h } from "./dom.js";
import { isNumber } from "./exact.js";
import { ABSENT, isObject, typeName } from "./schema.js";

/** Fields with names, in the order of their declaration; of the whole input, options are a part of their own. */
export class ObjectControl extends Control {
  constructor(field, make, { bare = false } = {}) {
    super(field);
    const { properties, required = [] } = field.schema;
    const given = isObject(field.initial) ? field.initial : {};
    this.controls = new Map();
    const elements = { inputs: [], options: [] };
    const isOption = (name) => bare && properties[name]?.["x-option"] === true;
    for (const [name, schema] of Object.entries(properties)) {
      const initial = Object.hasOwn(given, name) ? given[name] : schema.default;
      const control = make(makeField(name, schema, { required: required.includes(name), initial, named: true }));
      this.controls.set(name, control);
      (isOption(name) ? elements.options : elements.inputs).push(control.element);
    }
    if (bare) {
      const setsOption = Object.keys(given).some(isOption);
      const options = elements.options.length > 0
        && h("details", { class: "options", open: elements.inputs.length === 0 || setsOption },
          h("summary", {}, "Options", h("span", { class: "count", "aria-hidden": "true" }, String(elements.options.length))),
          h("div", { class: "stack" }, elements.options));
      this.element = h("div", { class: "stack", tabindex: "-1" }, this.error, elements.inputs, options);
    } else {
      this.element = this.grouped(h("div", { class: "stack" }, elements.inputs));
    }
  }

  parts() {
    return [...this.controls.values()];
  }

  part(key) {
    return this.controls.get(key) ?? null;
  }

  async read(problems) {
    const value = {};
    for (const [name, control] of this.controls) {
      const inner = await control.read(problems);
      // A field may be called "__proto__".
      if (inner !== ABSENT) Object.defineProperty(value, name, { value: inner, enumerable: true, writable: true, configurable: true });
    }
    return value;
  }
}

/** Any number of values of one type. */
export class ListControl extends Control {
  constructor(field, make) {
    super(field);
    this.make = make;
    this.items = [];
    this.rows = h("ol", { class: "rows" });
    this.add = h("button", { type: "button", class: "small", onclick: () => this.append().focus() }, "+ Add");
    this.add.setAttribute("aria-label", `Add to ${field.label}`);
    this.element = this.grouped(this.rows, this.add);
    const given = Array.isArray(field.initial) ? field.initial : null;
    // A row to begin with, unless it is said that there are none.
    const least = Math.max(given?.length ?? (field.whenEmpty === "refuse" ? 1 : 0), field.schema.minItems ?? 0);
    for (let index = 0; index < least; index += 1) this.append(given?.[index]);
    this.renumber();
  }

  append(initial = this.field.schema.items.default) {
    const control = this.make(makeField("item", this.field.schema.items, { initial, label: `Item ${this.items.length + 1}` }));
    const remove = h("button", { type: "button", class: "small icon", onclick: () => this.remove(item) }, "✕");
    const item = { control, remove, row: h("li", {}, control.element, remove) };
    this.items.push(item);
    this.rows.append(item.row);
    this.renumber();
    return control;
  }

  remove(item) {
    const index = this.items.indexOf(item);
    this.items.splice(index, 1);
    item.row.remove();
    this.renumber();
    (this.items[index]?.remove ?? this.add).focus();
    this.element.dispatchEvent(new Event("change", { bubbles: true }));
  }

  renumber() {
    this.items.forEach(({ control, remove }, index) => {
      const label = control.element.querySelector(".label, legend");
      if (label) label.firstChild.textContent = `Item ${index + 1}`;
      remove.setAttribute("aria-label", `Remove item ${index + 1} of ${this.field.label}`);
    });
    this.add.disabled = this.items.length >= (this.field.schema.maxItems ?? Infinity);
  }

  target() {
    return this.items.length === 0 ? this.add : this.element;
  }

  parts() {
    return this.items.map(({ control }) => control);
  }

  part(key) {
    return this.items[key]?.control ?? null;
  }

  async read(problems) {
    const { minItems = 0, maxItems = Infinity } = this.field.schema;
    const found = [];
    for (const { control } of this.items) found.push(await control.read(problems));
    const values = found.filter((value) => value !== ABSENT);
    if (this.items.length < minItems) problems.push({ control: this, message: `Give at least ${counted(minItems, "item")}.` });
    if (this.items.length > maxItems) problems.push({ control: this, message: `Give at most ${counted(maxItems, "item")}.` });
    return values;
  }
}

/** A fixed number of values, each of its own type. */
export class TupleControl extends Control {
  constructor(field, make) {
    super(field);
    const given = Array.isArray(field.initial) ? field.initial : [];
    this.controls = field.schema.prefixItems.map((schema, index) =>
      make(makeField(String(index), schema, { initial: given[index] ?? schema.default, label: `Part ${index + 1}` })));
    this.element = this.grouped(h("div", { class: "stack side" }, this.controls.map((control) => control.element)));
  }

  parts() {
    return this.controls;
  }

  part(key) {
    return this.controls[key] ?? null;
  }

  async read(problems) {
    const values = [];
    for (const control of this.controls) values.push(await control.read(problems));
    return values.map((value) => (value === ABSENT ? null : value));
  }
}

/** Values of one type under names that the user gives. */
export class DictionaryControl extends Control {
  constructor(field, make) {
    super(field);
    this.make = make;
    this.entries = [];
    this.rows = h("ul", { class: "rows" });
    this.add = h("button", { type: "button", class: "small", onclick: () => this.append("").name.focus() }, "+ Add");
    this.add.setAttribute("aria-label", `Add to ${field.label}`);
    this.element = this.grouped(this.rows, this.add);
    for (const [name, value] of Object.entries(isObject(field.initial) ? field.initial : {})) this.append(name, value);
  }

  append(key, initial = this.field.schema.additionalProperties.default) {
    const id = freshId();
    const name = h("input", { type: "text", id, autocomplete: "off", spellcheck: "false" });
    name.value = key;
    const control = this.make(makeField("value", this.field.schema.additionalProperties, { initial, label: "Value" }));
    const remove = h("button", { type: "button", class: "small icon", "aria-label": `Remove entry of ${this.field.label}`,
      onclick: () => this.remove(entry) }, "✕");
    const row = h("li", { class: "entry" },
      h("div", { class: "field" }, h("label", { for: id, class: "label" }, "Name"), name), control.element, remove);
    const entry = { name, control, row };
    this.entries.push(entry);
    this.rows.append(row);
    return entry;
  }

  remove(entry) {
    this.entries.splice(this.entries.indexOf(entry), 1);
    entry.row.remove();
    this.add.focus();
    this.element.dispatchEvent(new Event("change", { bubbles: true }));
  }

  parts() {
    return this.entries.map(({ control }) => control);
  }

  part(key) {
    return this.entries.find(({ name }) => name.value === key)?.control ?? null;
  }

  async read(problems) {
    const { minProperties = 0, maxProperties = Infinity, propertyNames } = this.field.schema;
    const values = new Map();
    for (const { name, control } of this.entries) {
      if (values.has(name.value)) problems.push({ control: this, message: `The name "${name.value}" is given twice.` });
      if (propertyNames?.pattern && !new RegExp(propertyNames.pattern, "u").test(name.value)) {
        const whole = propertyNames.pattern === "^-?[0-9]+$";
        problems.push({ control: this, message: `The name "${name.value}" must ${whole ? "be a whole number" : `match ${propertyNames.pattern}`}.` });
      }
      const value = await control.read(problems);
      if (value !== ABSENT) values.set(name.value, value);
    }
    if (values.size < minProperties) problems.push({ control: this, message: `Give at least ${minProperties} entries.` });
    if (values.size > maxProperties) problems.push({ control: this, message: `Give at most ${maxProperties} entries.` });
    return Object.fromEntries(values);
  }
}

/** A value of one of several types. */
export class UnionControl extends Control {
  constructor(field, make) {
    super(field);
    this.make = make;
    this.members = field.schema.anyOf;
    this.select = h("select", { id: this.id, "aria-label": `Type of ${field.label}` },
      this.members.map((member, index) => h("option", { value: index }, typeName(member))));
    this.place = h("div", {});
    this.element = this.grouped(this.select, this.place);
    this.select.addEventListener("change", () => this.choose(undefined));
    const fitting = this.members.findIndex((member) => jsType(member) === (isNumber(field.initial) ? "number" : typeof field.initial) && field.initial !== undefined);
    this.select.value = String(Math.max(0, fitting));
    this.choose(field.initial);
  }

  choose(initial) {
    this.control = this.make(makeField("value", this.members[Number(this.select.value)], { initial, label: "Value" }));
    this.place.replaceChildren(this.control.element);
  }

  parts() {
    return [this.control];
  }

  part() {
    return this.control;
  }

  /** Which member is shown says nothing in the path. */
  find(path) {
    return path.length === 0 ? this : this.control.find(path);
  }

  read(problems) {
    return this.control.read(problems);
  }
}

function jsType(schema) {
  return { integer: "number", array: "object" }[schema.type] ?? schema.type;
}

/** A value that may be left out: a switch, and the control while it is on. */
export class MaybeControl extends Control {
  constructor(field, make) {
    super(field);
    this.input = h("input", { type: "checkbox", role: "switch", id: this.id });
    this.input.checked = field.initial !== undefined && field.initial !== null;
    this.control = make({ ...field, whenEmpty: "refuse", description: null });
    this.element = h("div", { class: "field maybe" },
      h("div", { class: "switch" }, this.input, h("label", { for: this.id, class: "label" }, `Set ${field.label}`)),
      this.hint(), this.error, this.control.element);
    const show = () => (this.control.element.hidden = !this.input.checked);
    this.input.addEventListener("change", show);
    show();
  }

  target() {
    return this.input;
  }

  parts() {
    return [this.control];
  }

  find(path) {
    return path.length === 0 ? this : this.control.find(path);
  }

  async read(problems) {
    if (this.input.checked) return this.control.read(problems);
    return this.field.whenEmpty === "null" ? null : ABSENT;
  }
}

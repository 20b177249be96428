// Controls for one value that is typed or chosen: text, numbers, choices, yes or no, and JSON for everything else.

import { Control, counted } from "./control.js";
import { h } from "./dom.js";
import { isWhole, parse, stringify, toNumber } from "./exact.js";
import { ABSENT } from "./schema.js";

export class TextControl extends Control {
  constructor(field) {
    super(field);
    const { schema } = field;
    const attributes = { id: this.id, "aria-describedby": this.describedBy(), "aria-required": String(field.whenEmpty === "refuse"),
      spellcheck: "false", autocomplete: "off", name: field.name };
    const short = schema.maxLength !== undefined && schema.maxLength <= 80;
    this.input = short ? h("input", { type: "text", ...attributes }) : h("textarea", { rows: "1", ...attributes });
    this.input.value = field.initial ?? "";
    this.element = this.framed(this.input);
  }

  target() {
    return this.input;
  }

  async read(problems) {
    const { schema, initial, whenEmpty } = this.field;
    const text = this.input.value;
    // Where the default is a text, an emptied box is meant as one.
    if (text === "" && !(whenEmpty === "omit" && typeof initial === "string")) return this.empty(problems);
    const length = [...text].length;
    const problem =
      length < (schema.minLength ?? 0) ? `Write at least ${counted(schema.minLength, "character")}.`
      : length > (schema.maxLength ?? Infinity) ? `Write at most ${counted(schema.maxLength, "character")}; these are ${length}.`
      : fits(schema.pattern, text) ? null : `This must match ${schema.pattern}`;
    if (problem) problems.push({ control: this, message: problem });
    return text;
  }
}

function fits(pattern, text) {
  if (pattern === undefined) return true;
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return true; // written for another dialect: the server decides
  }
}

export class NumberControl extends Control {
  constructor(field) {
    super(field);
    const { schema } = field;
    this.whole = schema.type === "integer";
    this.least = schema.minimum ?? schema.exclusiveMinimum;
    this.most = schema.maximum ?? schema.exclusiveMaximum;
    this.input = h("input", { type: "number", id: this.id, step: this.whole ? "1" : "any", min: this.least, max: this.most,
      "aria-describedby": this.describedBy(), "aria-required": String(field.whenEmpty === "refuse"), name: field.name });
    this.input.value = field.initial ?? "";
    const slides = this.least !== undefined && this.most !== undefined && this.most > this.least;
    this.slider = slides ? this.makeSlider() : null;
    const range = this.range();
    this.element = this.framed(
      h("div", { class: "number" }, this.slider, this.input),
      range && h("p", { class: "range" }, range),
    );
  }

  makeSlider() {
    const slider = h("input", { type: "range", min: this.least, max: this.most, step: this.step(),
      "aria-label": `${this.field.label}, slider` });
    const follow = () => (slider.value = this.input.value === "" ? this.least : this.input.value);
    follow();
    this.input.addEventListener("input", follow);
    slider.addEventListener("input", () => {
      this.input.value = slider.value;
      this.input.dispatchEvent(new Event("change", { bubbles: true }));
    });
    return slider;
  }

  /** About a hundred steps, each a round number. */
  step() {
    if (this.field.schema.multipleOf) return this.field.schema.multipleOf;
    const exact = (Number(this.most) - Number(this.least)) / 100;
    const power = 10 ** Math.floor(Math.log10(exact));
    const round = [1, 2, 5, 10].find((factor) => factor * power >= exact * 0.999) * power;
    const step = Number(round.toPrecision(1));
    return this.whole ? Math.max(1, Math.round(step)) : step;
  }

  range() {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = this.field.schema;
    if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
    const limits = [
      minimum !== undefined && `at least ${minimum}`, exclusiveMinimum !== undefined && `more than ${exclusiveMinimum}`,
      maximum !== undefined && `at most ${maximum}`, exclusiveMaximum !== undefined && `less than ${exclusiveMaximum}`,
    ].filter(Boolean);
    const text = limits.join(", ");
    return text && text[0].toUpperCase() + text.slice(1);
  }

  target() {
    return this.input;
  }

  async read(problems) {
    if (this.input.validity.badInput) {
      problems.push({ control: this, message: "This is not a number." });
      return ABSENT;
    }
    if (this.input.value === "") return this.empty(problems);
    const value = toNumber(this.input.value);
    const message = this.problem(value);
    if (message) problems.push({ control: this, message });
    return value;
  }

  problem(value) {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = this.field.schema;
    if (!isWhole(value) && !Number.isFinite(value)) return "This number is too large.";
    if (this.whole && !isWhole(value)) return "This must be a whole number.";
    if (minimum !== undefined && value < minimum) return `This must be at least ${minimum}.`;
    if (maximum !== undefined && value > maximum) return `This must be at most ${maximum}.`;
    if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return `This must be more than ${exclusiveMinimum}.`;
    if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return `This must be less than ${exclusiveMaximum}.`;
    if (multipleOf && !isMultiple(value, multipleOf)) return `This must be a multiple of ${multipleOf}.`;
    return null;
  }
}

function isMultiple(value, of) {
  if (isWhole(value) && isWhole(of)) return BigInt(value) % BigInt(of) === 0n;
  const times = Number(value) / Number(of);
  return Math.abs(times - Math.round(times)) <= 1e-9;
}

/** One of several values. */
export class ChoiceControl extends Control {
  constructor(field) {
    super(field);
    this.values = (field.schema.choices ?? field.schema.enum).filter((value) => value !== null);
    const none = field.whenEmpty === "refuse" ? "Choose…" : field.whenEmpty === "null" ? "None" : "Default";
    const chosen = this.values.indexOf(field.initial);
    const needed = field.whenEmpty === "refuse" || (field.whenEmpty === "omit" && chosen >= 0);
    this.input = h("select", { id: this.id, "aria-describedby": this.describedBy(), name: field.name,
      "aria-required": String(field.whenEmpty === "refuse") },
      needed && chosen >= 0 ? null : h("option", { value: "" }, none),
      this.values.map((value, index) => h("option", { value: index }, typeof value === "string" ? value || "(empty)" : stringify(value))),
    );
    this.input.value = chosen < 0 ? "" : String(chosen);
    this.element = this.framed(this.input);
  }

  target() {
    return this.input;
  }

  async read(problems) {
    return this.input.value === "" ? this.empty(problems, "Choose one.") : this.values[Number(this.input.value)];
  }
}

/** Yes or no. Where there may be no value, a ChoiceControl of true and false is made instead. */
export class SwitchControl extends Control {
  constructor(field) {
    super(field);
    this.input = h("input", { type: "checkbox", role: "switch", id: this.id, "aria-describedby": this.describedBy(), name: field.name });
    this.input.checked = field.initial === true;
    this.element = h("div", { class: "field" },
      h("div", { class: "switch" }, this.input, h("label", { for: this.id, class: "label" }, field.label)),
      this.hint(), this.error);
  }

  target() {
    return this.input;
  }

  async read() {
    return this.input.checked;
  }
}

/** A value of any type, written as JSON. */
export class JsonControl extends Control {
  constructor(field) {
    super(field);
    this.input = h("textarea", { rows: "3", class: "mono", id: this.id, "aria-describedby": this.describedBy(), spellcheck: "false",
      placeholder: "JSON", name: field.name });
    this.input.value = field.initial === undefined || field.initial === null ? "" : stringify(field.initial, 2);
    this.element = this.framed(this.input);
  }

  target() {
    return this.input;
  }

  async read(problems) {
    const text = this.input.value.trim();
    if (text === "") return this.empty(problems);
    try {
      return parse(text);
    } catch (error) {
      problems.push({ control: this, message: `This is not JSON: ${error.message}` });
      return ABSENT;
    }
  }
}

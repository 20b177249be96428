// The form for an input: a control for each field of the model's schema.

import { makeField } from "./control.js";
import { FileControl } from "./files.js";
import { DictionaryControl, ListControl, MaybeControl, ObjectControl, TupleControl, UnionControl } from "./groups.js";
import { MaskControl } from "./mask.js";
import { ChoiceControl, JsonControl, NumberControl, SwitchControl, TextControl } from "./scalars.js";
import { kindOf } from "./schema.js";

// An empty box says "no value" for these by itself; the others need a switch for it.
const CAN_BE_EMPTY = new Set(["text", "number", "choice", "file", "mask", "json"]);

const CONTROLS = {
  text: TextControl, number: NumberControl, choice: ChoiceControl, switch: SwitchControl, json: JsonControl, file: FileControl,
  mask: MaskControl, object: ObjectControl, list: ListControl, tuple: TupleControl, dictionary: DictionaryControl, union: UnionControl,
};

/** Makes the control for a field. */
export function makeControl(field) {
  const kind = kindOf(field.schema);
  const unset = field.whenEmpty === "null" || (field.whenEmpty === "omit" && field.initial === undefined);
  if (unset && kind === "switch") return new ChoiceControl({ ...field, schema: { ...field.schema, choices: [true, false] } });
  if (unset && !CAN_BE_EMPTY.has(kind)) return new MaybeControl(field, makeControl);
  if (kind === "file" || kind === "mask") return new CONTROLS[kind](field);
  return new CONTROLS[kind](field, makeControl);
}

/** The whole form. `element` is what to show. */
export class Form {
  /** example: an input to begin with. */
  constructor(schema, example) {
    const field = makeField("input", { ...schema, properties: schema.properties ?? {} }, { initial: example });
    this.root = new ObjectControl(field, makeControl, { bare: true });
    this.element = this.root.element;
  }

  /** Gives `{value, problems}`; shows nothing. */
  async read() {
    const problems = [];
    return { value: await this.root.read(problems), problems };
  }

  /** The files that are chosen. */
  files() {
    return [...this.element.querySelectorAll(".field")].map((element) => element.fileControl?.file).filter(Boolean);
  }

  /** Shows problems at their fields, and puts the focus on the first. */
  show(problems) {
    this.root.clear();
    for (const { control, message } of problems) control.fail(message);
    const inOrder = [...problems].sort((one, other) =>
      one.control.element.compareDocumentPosition(other.control.element) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);
    inOrder[0]?.control.focus();
  }

  /**
   * Turns the server's problems (`loc`: "body", the input's index, then names and indexes) into the form's own.
   *
   * Gives `{placed, others}`; the others, messages, are about no field.
   */
  place(details) {
    const placed = [];
    const others = [];
    for (const { loc = [], msg = "" } of details) {
      const message = msg === "" ? msg : `${msg[0].toUpperCase()}${msg.slice(1)}`;
      const control = loc.length > 2 ? this.root.find(loc.slice(2)) : this.root;
      if (control === this.root) others.push([loc.slice(2).join(" › "), message].filter(Boolean).join(": "));
      else placed.push({ control, message });
    }
    return { placed, others };
  }
}

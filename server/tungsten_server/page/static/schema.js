// What a JSON Schema, in the normal form that the server publishes, says about one value.

import { isNumber, isWhole } from "./exact.js";

/** Where there is no value at all, as opposed to null. */
export const ABSENT = Symbol("absent");

export const MEDIA = ["image", "audio", "video", "binary"];

/** "num_steps", "num-steps" and "numSteps" as a person writes them: "Num steps". */
export function readable(name) {
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .replace(/[-_\s]+/g, " ")
    .trim();
  return words === "" ? name : words[0].toUpperCase() + words.slice(1);
}

/** A description, or null where there is none that says more than the name does. */
export function descriptionOf(schema, name) {
  const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
  const text = schema.description;
  return text && plain(text) !== plain(name) ? text : null;
}

/** Takes null out of a schema: gives what is left, and whether null was allowed. */
export function withoutNull(schema) {
  const { anyOf, ...outer } = schema;
  const members = anyOf?.filter((member) => member.type !== "null");
  const nullable = (anyOf !== undefined && members.length < anyOf.length) || (schema.enum?.includes(null) ?? false);
  if (members?.length === 1) return { schema: { ...members[0], ...outer }, nullable };
  return { schema: members ? { ...outer, anyOf: members } : schema, nullable };
}

/** The word for the control, and the words in "one of several types". */
export function kindOf(schema) {
  const file = schema["x-file-type"];
  if (file === "masked_image") return "mask";
  if (MEDIA.includes(file)) return "file";
  if (schema.enum || schema.choices) return "choice";
  if (schema.anyOf) return "union";
  if (schema.type === "boolean") return "switch";
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "string") return "text";
  if (schema.type === "array" && schema.prefixItems) return "tuple";
  if (schema.type === "array" && schema.items) return "list";
  if (schema.type === "object" && schema.properties) return "object";
  if (schema.type === "object" && typeof schema.additionalProperties === "object") return "dictionary";
  return "json";
}

/** A short name of a type, for the choice between several. */
export function typeName(schema) {
  const kind = kindOf(schema);
  if (kind === "file") return { image: "Image", audio: "Audio", video: "Video", binary: "File" }[schema["x-file-type"]];
  if (kind === "number") return schema.type === "integer" ? "Whole number" : "Number";
  if (kind === "list") return `List: ${typeName(schema.items).toLowerCase()}`;
  if (kind === "object") return Object.keys(schema.properties).map(readable).join(", ") || "Object";
  return { mask: "Image with mask", choice: "Choice", switch: "Yes or no", text: "Text", tuple: "Tuple",
    dictionary: "Dictionary", union: "Several types", json: "JSON" }[kind];
}

/** Whether a value could be of a schema: enough to choose between the members of an `anyOf`. */
export function matches(schema, value) {
  if (schema.enum && !schema.enum.includes(value)) return false;
  if (schema.anyOf) return schema.anyOf.some((member) => matches(member, value));
  switch (schema.type) {
    case "null": return value === null;
    case "boolean": return typeof value === "boolean";
    case "integer": return isWhole(value);
    case "number": return isNumber(value);
    case "string": return typeof value === "string" && (!schema["x-file-type"] || /^(data|https?|blob):|^\//.test(value));
    case "array": return Array.isArray(value);
    case "object":
      return isObject(value) && (schema.required ?? []).every((name) => Object.hasOwn(value, name))
        && Object.entries(schema.properties ?? {}).every(([name, field]) => !Object.hasOwn(value, name) || matches(field, value[name]));
    default: return true;
  }
}

/** A JSON object: neither null nor a list. */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The data URI of the first picture in a value, or null. */
export function firstPicture(value) {
  if (typeof value === "string") return /^data:image\//i.test(value) ? value : null;
  if (typeof value !== "object" || value === null) return null;
  for (const inner of Object.values(value)) {
    const found = firstPicture(inner);
    if (found) return found;
  }
  return null;
}

// JSON whose whole numbers stay what they are: those that a number of JavaScript's can't hold are BigInts.

/** Reads JSON. */
export function parse(text) {
  return JSON.parse(text, (_key, value, context) => exactly(value, context?.source));
}

/** Writes JSON, with what `replace(key, value)` gives in place of each value. */
export function stringify(value, indent, replace = (_key, inner) => inner) {
  return JSON.stringify(value, (key, inner) => written(replace(key, inner)), indent);
}

/** The number that a text says, or NaN. */
export function toNumber(text) {
  return exactly(Number(text), text);
}

export const isNumber = (value) => typeof value === "number" || typeof value === "bigint";

export const isWhole = (value) => typeof value === "bigint" || Number.isInteger(value);

function exactly(value, source) {
  // Browsers of before 2025 may not say what stood in the text.
  const lost = typeof value === "number" && !Number.isSafeInteger(value) && /^-?[0-9]+$/.test(source ?? "");
  return lost ? BigInt(source) : value;
}

function written(value) {
  if (typeof value !== "bigint") return value;
  return JSON.rawJSON ? JSON.rawJSON(String(value)) : Number(value);
}

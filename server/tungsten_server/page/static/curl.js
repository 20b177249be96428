// A prediction as a command for a shell.

import { shortJson } from "./datauri.js";
import { stringify } from "./exact.js";

/** The command that sends an input: whole, or with long files shortened so that a person can read it. */
export function curlCommand(url, input, { short }) {
  // On standard input, since a picture is longer than an argument may be. JSON on one line holds no line "JSON".
  const body = short ? `[${shortJson(input, 2)}]` : stringify([input]);
  return `curl -s ${quoted(url)} -H 'Content-Type: application/json' --data-binary @- <<'JSON'\n${body}\nJSON`;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

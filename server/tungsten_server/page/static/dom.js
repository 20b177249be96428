// Elements, made without markup: text stays text, whatever a model or a user puts into it.

let made = 0;

/** A fresh id, for labels and descriptions. */
export function freshId() {
  made += 1;
  return `t${made}`;
}

/**
 * Makes an element.
 *
 * `attributes`: `on…` are listeners, true and false set and leave out, null leaves out, all else is written as text.
 * `children`: elements, or text; null and false are left out.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A button that copies what `text()` gives, and says so. */
export function copyButton(text, label = "Copy") {
  const button = h("button", { type: "button", class: "small", onclick: () => copy(button, text()) }, label);
  return button;
}

/** Copies text and lets a button say whether it worked. */
export async function copy(button, text) {
  const label = button.dataset.label ?? button.textContent;
  button.dataset.label = label;
  let said = "Copied";
  try {
    await write(text);
  } catch {
    said = "Copying failed";
  }
  button.textContent = said;
  setTimeout(() => (button.textContent = label), 1600);
}

async function write(text) {
  // The clipboard's interface exists on https and localhost alone.
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch {
      // refused: the old way may still be allowed
    }
  }
  const area = h("textarea", { class: "off-screen", "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  if (!copied) throw new Error("not allowed");
}

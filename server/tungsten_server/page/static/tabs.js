// Tabs, as the ARIA practices describe them: arrow keys move, Home and End jump.

import { freshId, h } from "./dom.js";

/**
 * Makes tabs of `{label, content, hidden}` for each; gives their element. `content` is an element, or a function that
 * makes one when its tab is first shown.
 */
export function tabs(label, pages) {
  const shown = pages.filter(({ hidden }) => !hidden);
  const buttons = shown.map((page, index) => {
    const [id, panelId] = [freshId(), freshId()];
    page.panel = h("div", { role: "tabpanel", id: panelId, "aria-labelledby": id, class: "panel" },
      typeof page.content === "function" ? null : page.content);
    return h("button", { type: "button", role: "tab", id, "aria-controls": panelId, onclick: () => choose(index, true) }, page.label);
  });
  const choose = (chosen, focus) => {
    buttons.forEach((button, index) => {
      button.setAttribute("aria-selected", String(index === chosen));
      button.tabIndex = index === chosen ? 0 : -1;
      shown[index].panel.hidden = index !== chosen;
    });
    const { content, panel } = shown[chosen];
    if (typeof content === "function" && !panel.hasChildNodes()) panel.append(content());
    if (focus) buttons[chosen].focus();
  };
  const list = h("div", { role: "tablist", "aria-label": label, class: "tabs", onkeydown: (event) => {
    const now = buttons.indexOf(document.activeElement);
    const last = buttons.length - 1;
    const next = { ArrowRight: now === last ? 0 : now + 1, ArrowLeft: now === 0 ? last : now - 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    choose(next, true);
  } }, buttons);
  choose(0, false);
  return h("div", {}, list, shown.map(({ panel }) => panel));
}

// The control for a file: choose, drop or paste; pictures, sound and films are shown.

import { Control } from "./control.js";
import { describeUri, readableSize, toDataUri, toFile } from "./datauri.js";
import { h } from "./dom.js";
import { ABSENT } from "./schema.js";

const WORDS = { image: "an image", audio: "a sound file", video: "a video", binary: "a file" };

export class FileControl extends Control {
  constructor(field, { preview = showFile } = {}) {
    super(field);
    this.type = field.schema["x-file-type"];
    this.preview = preview;
    const given = typeof field.initial === "string" && /^data:.*,./is.test(field.initial) ? field.initial : null;
    // A default is a file of the model's: it is used when nothing is sent.
    this.standard = given === field.schema.default ? given : null;
    // Any other, such as an example's, is sent.
    this.file = given && !this.standard ? toFile(given, field.name) : null;
    this.uri = this.file && given; // the file's contents, once they are read
    this.input = h("input", { type: "file", id: this.id, class: "off-screen", name: field.name,
      accept: this.type === "binary" ? null : `${this.type}/*`,
      "aria-describedby": this.describedBy(), onchange: () => this.input.files[0] && this.take(this.input.files[0]) });
    this.shown = h("div", { class: "file-shown" });
    this.invitation = h("label", { for: this.id, class: "invitation" });
    this.remove = h("button", { type: "button", class: "small", hidden: true, "aria-label": `Remove the file of ${field.label}`,
      onclick: () => this.drop() }, "Remove");
    this.about = h("p", { class: "file-about" });
    this.zone = h("div", { class: "drop-zone" }, this.input, this.shown, this.invitation, h("div", { class: "file-foot" }, this.about, this.remove));
    this.element = this.framed(this.zone);
    this.element.fileControl = this;
    this.listen();
    this.show();
  }

  listen() {
    const over = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      this.zone.classList.add("over");
    };
    this.zone.addEventListener("dragenter", over);
    this.zone.addEventListener("dragover", over);
    this.zone.addEventListener("dragleave", (event) => this.zone.contains(event.relatedTarget) || this.zone.classList.remove("over"));
    this.zone.addEventListener("drop", (event) => {
      event.preventDefault();
      this.zone.classList.remove("over");
      if (event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
  }

  /** Whether a file is of the field's type, as far as the browser knows. */
  fits(file) {
    return this.type === "binary" || file.type === "" || file.type.startsWith(`${this.type}/`);
  }

  take(file) {
    this.clear();
    if (!this.fits(file)) {
      super.fail(`${file.name} is not ${WORDS[this.type]}.`);
      return;
    }
    this.file = file;
    this.uri = null;
    this.show();
    this.zone.dispatchEvent(new Event("change", { bubbles: true }));
  }

  drop() {
    this.file = this.uri = null;
    this.input.value = "";
    this.show();
    this.input.focus();
    this.zone.dispatchEvent(new Event("change", { bubbles: true }));
  }

  show() {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = this.file ? URL.createObjectURL(this.file) : null;
    const source = this.url ?? this.standard;
    this.shown.replaceChildren(...(source ? [this.preview(this.type, source, this.file?.name ?? "the default")] : []));
    this.zone.classList.toggle("filled", source !== null);
    const action = source ? "Choose another" : `Choose ${WORDS[this.type]}`;
    this.invitation.replaceChildren(h("strong", {}, action), h("span", {}, source ? "" : this.type === "image" ? ", drop or paste one" : " or drop it here"));
    this.remove.hidden = this.file === null;
    this.about.textContent = this.file
      ? `${this.file.name} · ${readableSize(this.file.size)}`
      : this.standard ? `Default · ${readableSize(describeUri(this.standard)?.size ?? 0)}` : "";
  }

  target() {
    return this.input;
  }

  /** What is wrong, with the name of the file. */
  fail(message) {
    super.fail(this.file && !message.includes(this.file.name) ? `${this.file.name}: ${message}` : message);
  }

  async read(problems) {
    if (this.file === null) return this.standard ? ABSENT : this.empty(problems, `Choose ${WORDS[this.type]}.`);
    try {
      this.uri ??= await toDataUri(this.file);
      return this.uri;
    } catch {
      problems.push({ control: this, message: `${this.file.name} can't be read any more; choose it again.` });
      return ABSENT;
    }
  }
}

function showFile(type, source, name) {
  if (type === "image") return h("img", { src: source, alt: `Preview of ${name}` });
  if (type === "audio") return h("audio", { src: source, controls: true, "aria-label": name });
  if (type === "video") return h("video", { src: source, controls: true, "aria-label": name });
  return h("p", { class: "file-icon", "aria-hidden": "true" }, "▤");
}

/**
 * Gives a file to one of the form's file controls: the one that has the focus, else the first that is empty and takes
 * files of its type. Gives false where none does.
 */
export function put(form, file) {
  const controls = [...form.querySelectorAll(".field")].map((element) => element.fileControl).filter((control) => control?.fits(file));
  const chosen = controls.find(({ element }) => element.contains(document.activeElement))
    ?? controls.find((control) => control.file === null) ?? controls[0];
  chosen?.take(file);
  return chosen !== undefined;
}

// Files as data: URIs: reading, taking apart, and showing in few characters.

import { stringify } from "./exact.js";

/** Reads a file whole. Rejects where the browser can't, for example because it has changed on disk. */
export function toDataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      // An empty file gives "data:" in some browsers.
      const text = reader.result.includes(",") ? reader.result : `data:${file.type || "application/octet-stream"};base64,`;
      resolve(named(text, file));
    };
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** The URI with the file's suffix in it, where the media type alone would lead to another one. */
function named(uri, { name, type }) {
  const suffix = suffixOf(name);
  if (suffix === "" || fileName("", type || "application/octet-stream") === suffix.toLowerCase()) return uri;
  return uri.replace(/;base64,/, `;name=file${suffix};base64,`);
}

/** A file name's suffix, with the one before it where that is a compression's. */
function suffixOf(name) {
  return /[^./\\]((\.[a-z0-9]{1,10})?\.(gz|bz2|xz|zst)|\.[a-z0-9]{1,10})$/i.exec(name)?.[1] ?? "";
}

/** The media type, the size in bytes and the file's suffix, if it is said, of a data: URI; null for any other text. */
export function describeUri(uri) {
  const match = /^data:([^,;]*)((?:;[^,;]*)*),/i.exec(uri.slice(0, 500));
  if (!match) return null;
  const length = uri.length - match[0].length;
  const base64 = /;base64$/i.test(match[2]);
  const padding = base64 ? (uri.endsWith("==") ? 2 : uri.endsWith("=") ? 1 : 0) : 0;
  const suffix = suffixOf(/;name=([^;]*)/i.exec(match[2])?.[1] ?? "");
  return { type: match[1].toLowerCase() || "text/plain", size: base64 ? Math.floor((length * 3) / 4) - padding : length, suffix };
}

/** "12 kB", "3.4 MB". */
export function readableSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["kB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), units.length);
  const value = bytes / 1000 ** power;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[power - 1]}`;
}

const LONG = 96;

/** JSON in which long files are shortened, for showing only. */
export function shortJson(value, indent) {
  const short = (_key, inner) => {
    if (typeof inner !== "string" || inner.length <= LONG) return inner;
    const file = describeUri(inner);
    return file ? `${inner.slice(0, 44)}… (${readableSize(file.size)})` : inner;
  };
  return stringify(value, indent, short);
}

const EXTENSIONS = { "image/jpeg": "jpg", "image/svg+xml": "svg", "audio/mpeg": "mp3", "audio/x-wav": "wav", "text/plain": "txt",
  "application/octet-stream": "bin", "video/quicktime": "mov", "application/x-tar": "tar", "application/gzip": "gz",
  "image/tiff": "tif", "audio/mp4": "m4a", "audio/x-flac": "flac", "audio/vnd.wave": "wav", "audio/wave": "wav", "video/x-matroska": "mkv",
  "video/x-msvideo": "avi" };

/** A file name for a download. suffix: where it is known. */
export function fileName(stem, type, suffix = "") {
  if (suffix) return stem + suffix;
  const extension = EXTENSIONS[type] ?? type.split("/")[1]?.replace(/^x-/, "").replace(/\+.*$/, "");
  return `${stem}.${/^[a-z0-9-]+$/.test(extension ?? "") ? extension : "bin"}`;
}

/** The bytes of a data: URI as a blob: URL, which players can seek in; any other URI as it is. */
export function playable(uri, type) {
  const bytes = bytesOf(uri);
  return bytes ? URL.createObjectURL(new Blob([bytes], { type })) : uri;
}

/** A data: URI as a file, as if a person had chosen it; null for what is none. */
export function toFile(uri, stem) {
  const about = describeUri(uri);
  const bytes = bytesOf(uri);
  return bytes ? new File([bytes], fileName(stem, about.type, about.suffix), { type: about.type }) : null;
}

function bytesOf(uri) {
  const match = /^data:[^,]*;base64,/i.exec(uri.slice(0, 500));
  if (!match) return null;
  try {
    const text = atob(uri.slice(match[0].length));
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return bytes;
  } catch {
    return null;
  }
}

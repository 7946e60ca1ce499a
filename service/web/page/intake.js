// @ts-check
import { byId } from "./dom.js";

/**
 * Every way that photos come in: the file dialog, a drop anywhere on the page, the clipboard.
 * @param {(files: File[]) => void} given
 */
export function takePhotos(given) {
  const input = /** @type {HTMLInputElement} */ (byId("files"));
  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    given(Array.from(input.files ?? []));
    // So that the same file may be chosen again.
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = Array.from(event.clipboardData?.files ?? []);
    // What is copied from a spreadsheet is text and a picture of it: a field takes the text.
    const typed = event.target instanceof HTMLInputElement && event.clipboardData?.types.includes("text/plain");
    if (!files.length || typed) return;
    event.preventDefault();
    given(files);
  });
  takeDrops(given);
}

/** @param {(files: File[]) => void} given */
function takeDrops(given) {
  const drop = byId("drop");
  /** @param {DragEvent} event */
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    given(Array.from(event.dataTransfer?.files ?? []));
  });
}

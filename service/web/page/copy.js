// @ts-check
import { announce, byId } from "./dom.js";

/** How long a button says that it has copied. */
const SHOWN_MS = 2000;

/**
 * Make a button copy the text of another element.
 * @param {string} buttonId
 * @param {string} sourceId
 * @param {string} what for those who listen
 */
export function copyButton(buttonId, sourceId, what) {
  const button = byId(buttonId);
  const label = button.textContent ?? "";
  let reset = 0;
  button.addEventListener("click", async () => {
    const done = await copy(byId(sourceId));
    button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
    announce(done ? `${what} copied` : `${what} selected, press Control C to copy`);
    clearTimeout(reset);
    reset = setTimeout(() => (button.textContent = label), SHOWN_MS);
  });
}

/**
 * @param {HTMLElement} source
 * @returns {Promise<boolean>} false where the browser refuses (plain HTTP on another host): then it is selected
 */
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
    return true;
  } catch {
    getSelection()?.selectAllChildren(source);
    return false;
  }
}

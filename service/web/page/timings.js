// @ts-check
import { el } from "./dom.js";

const STAGES = ["queue", "decode", "detect", "crop", "classify"];

/**
 * The time that each stage took, as a bar and in words.
 * @param {Record<string, number>} timings milliseconds, as an answer has them
 * @param {string} [note]
 * @returns {HTMLElement}
 */
export function timingsCard(timings, note = "") {
  const present = STAGES.filter((stage) => stage in timings);
  const spread = el("div", { class: "spread", "aria-hidden": "true" }, ...present.map((stage) => {
    const part = el("span", { "data-stage": stage });
    part.style.setProperty("--share", String(timings[stage]));
    return part;
  }));
  const items = present.map((stage) =>
    el("li", { "data-stage": stage }, `${stage} `, el("b", {}, milliseconds(timings[stage]))));
  const heading = el("h2", {}, `${milliseconds(timings.total)} in the service`, el("small", {}, note));
  return el("section", { class: "card timings", "aria-label": "Time of each stage" }, heading, spread, el("ul", {}, ...items));
}

/**
 * @param {number} value
 * @returns {string}
 */
export function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

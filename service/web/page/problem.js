// @ts-check
import { el } from "./dom.js";

/**
 * A failure in words, with what a log or a colleague would ask for.
 * @param {import("./api.js").Problem} problem
 * @returns {HTMLElement}
 */
export function problemCard(problem) {
  const trace = problem.request_id ? `, request ${problem.request_id}` : "";
  return el(
    "section",
    { class: "card problem", role: "alert" },
    el("h2", {}, problem.title),
    el("p", {}, problem.detail),
    el("small", {}, `Code ${problem.code}${trace}`),
  );
}

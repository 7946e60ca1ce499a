// @ts-check
/** The seven emotions, and how the page writes and draws them. */

/** FER2013's order, that of every answer. */
export const EMOTIONS = /** @type {const} */ (["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]);

/** Okabe and Ito's colours, lightened where a thin line on the dark chart needs it. */
export const LINE_COLORS = {
  angry: "#e8751a",
  disgust: "#12b886",
  fear: "#cc79a7",
  happy: "#f0e442",
  sad: "#3d9ad6",
  surprise: "#8fd0f7",
  neutral: "#bbbbbb",
};

/** Each line has its own dashes, so that colour is not all that tells them apart. */
export const LINE_DASHES = {
  angry: [14, 3, 2, 3, 2, 3],
  disgust: [10, 3, 2, 3],
  fear: [2, 3],
  happy: [],
  sad: [8, 4],
  surprise: [4, 3],
  neutral: [14, 4],
};

/**
 * @param {number} share 0 to 1
 * @param {number} [digits]
 * @returns {string}
 */
export function percent(share, digits = 0) {
  return `${(100 * share).toFixed(digits)} %`;
}

/**
 * "happy 93 %", an uncertain one "happy? 41 %".
 * @param {import("./api.js").Face} face
 * @returns {string}
 */
export function verdict(face) {
  const mark = face.uncertain ? "?" : "";
  return `${face.dominant_emotion}${mark} ${percent(face.probabilities[face.dominant_emotion])}`;
}

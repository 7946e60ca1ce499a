// @ts-check
import { EMOTIONS, LINE_COLORS, LINE_DASHES, percent } from "./emotions.js";

/** @typedef {Record<import("./api.js").Emotion, number>} Probabilities */
/** @typedef {{at: number, faces: Map<number, Probabilities>}} Sample */

const WINDOW_MS = 30_000;
/** A line is broken where nothing is known for longer. */
const GAP_MS = 1500;
const MARGIN = { left: 52, right: 78, top: 12, bottom: 26 };
const LABEL_HEIGHT = 15;
const GRID = "#333d40";
const INK = "#c3cdca";

/** Seven lines over the last half minute. */
export class Chart {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    /** @type {Sample[]} */
    this.samples = [];
    /** What was last drawn, for those who do not see it. */
    this.words = "";
  }

  clear() {
    this.samples = [];
  }

  /** @param {Sample} sample */
  add(sample) {
    this.samples.push(sample);
    const oldest = sample.at - WINDOW_MS;
    // One sample beyond the edge lets the lines run out of the picture.
    while (this.samples.length > 1 && this.samples[1].at < oldest) this.samples.shift();
  }

  /**
   * @param {number | undefined} id the face, or undefined for the mean of all
   * @param {number} now
   */
  draw(id, now) {
    const context = this.#context();
    if (!context) return;
    const points = this.samples
      .map(({ at, faces }) => ({ at, values: id === undefined ? mean(faces) : faces.get(id) }))
      .filter((point) => point.values !== undefined);
    const plot = plotOf(this.canvas, now);
    drawGrid(context, plot);
    for (const emotion of EMOTIONS) drawLine(context, plot, /** @type {Point[]} */ (points), emotion);
    const last = points.at(-1);
    const values = last && now - last.at < GAP_MS ? last.values : undefined;
    if (values) drawLabels(context, plot, values);
    this.words = described(values);
  }

  #context() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context?.setTransform(ratio, 0, 0, ratio, 0, 0);
    context?.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    return context;
  }
}

/** @typedef {{at: number, values: Probabilities}} Point */
/** @typedef {{left: number, right: number, top: number, bottom: number, x: (at: number) => number, y: (share: number) => number}} Plot */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} now
 * @returns {Plot}
 */
function plotOf(canvas, now) {
  const left = MARGIN.left;
  const right = canvas.clientWidth - MARGIN.right;
  const top = MARGIN.top;
  const bottom = canvas.clientHeight - MARGIN.bottom;
  const x = (/** @type {number} */ at) => right - ((now - at) / WINDOW_MS) * (right - left);
  const y = (/** @type {number} */ share) => bottom - share * (bottom - top);
  return { left, right, top, bottom, x, y };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Plot} plot
 */
function drawGrid(context, plot) {
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.setLineDash([]);
  context.lineWidth = 1;
  context.strokeStyle = GRID;
  context.fillStyle = INK;
  context.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    const y = Math.round(plot.y(share)) + 0.5;
    context.beginPath();
    context.moveTo(plot.left, y);
    context.lineTo(plot.right, y);
    context.stroke();
    context.fillText(percent(share), plot.left - 6, y);
  }
  context.textAlign = "left";
  context.fillText("30 s ago", plot.left, plot.bottom + 14);
  context.textAlign = "right";
  context.fillText("now", plot.right, plot.bottom + 14);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Plot} plot
 * @param {Point[]} points
 * @param {import("./api.js").Emotion} emotion
 */
function drawLine(context, plot, points, emotion) {
  context.save();
  context.beginPath();
  context.rect(plot.left, 0, plot.right - plot.left, plot.bottom + 2);
  context.clip();
  context.strokeStyle = LINE_COLORS[emotion];
  context.setLineDash(LINE_DASHES[emotion]);
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.beginPath();
  points.forEach(({ at, values }, index) => {
    const broken = index === 0 || at - points[index - 1].at > GAP_MS;
    const draw = broken ? context.moveTo : context.lineTo;
    draw.call(context, plot.x(at), plot.y(values[emotion]));
  });
  context.stroke();
  context.restore();
}

/**
 * Each line's name at its end, moved apart where lines meet.
 * @param {CanvasRenderingContext2D} context
 * @param {Plot} plot
 * @param {Probabilities} values
 */
function drawLabels(context, plot, values) {
  context.textAlign = "left";
  const ordered = [...EMOTIONS].sort((one, other) => values[other] - values[one]);
  const room = plot.bottom + 8 - LABEL_HEIGHT * (ordered.length - 1);
  let y = 0;
  ordered.forEach((emotion, index) => {
    y = Math.min(Math.max(plot.y(values[emotion]), index ? y + LABEL_HEIGHT : 0), room + LABEL_HEIGHT * index);
    context.fillStyle = LINE_COLORS[emotion];
    context.fillText(emotion, plot.right + 8, y);
  });
}

/**
 * @param {Map<number, Probabilities>} faces
 * @returns {Probabilities | undefined}
 */
function mean(faces) {
  if (!faces.size) return undefined;
  const all = [...faces.values()];
  const entries = EMOTIONS.map((name) => [name, all.reduce((sum, values) => sum + values[name], 0) / all.length]);
  return Object.fromEntries(entries);
}

/** @param {Probabilities | undefined} values */
function described(values) {
  if (!values) return "Probabilities over the last 30 seconds; none now";
  const parts = EMOTIONS.map((emotion) => `${emotion} ${percent(values[emotion])}`);
  return `Probabilities over the last 30 seconds; now ${parts.join(", ")}`;
}

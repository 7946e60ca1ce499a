// @ts-check
import { el } from "./dom.js";
import { EMOTIONS, percent, verdict } from "./emotions.js";

/** @typedef {import("./api.js").Face} Face */
/** @typedef {{width: number, height: number}} Size */

/** How much of its surroundings a face's portrait shows, in box sizes. */
const PORTRAIT_MARGIN = 0.15;
const PORTRAIT_PIXELS = 128;
/** A box that is within this share of the picture's edge has no room for a label above or below it. */
const EDGE = 0.08;
/** The label of a box that begins beyond this share of the picture would run out of it: it ends with the box. */
const RIGHT = 0.65;

/**
 * Boxes, landmarks and labels over a picture.
 * @param {HTMLElement} overlay lies exactly over the picture
 * @param {Face[]} faces
 * @param {Size} size of the picture that the faces speak of
 * @param {number | undefined} lit the number of the face to bring forward
 */
export function drawOverlay(overlay, faces, size, lit) {
  overlay.replaceChildren(...faces.map((face, index) => box(face, face.id ?? index + 1, size, lit)));
}

/**
 * @param {Face} face
 * @param {number} number
 * @param {Size} size
 * @param {number | undefined} lit
 */
function box(face, number, size, lit) {
  const { x, y, width, height } = face.box;
  const element = el("div", { class: "box", "data-emotion": face.dominant_emotion });
  element.classList.toggle("uncertain", face.uncertain);
  const high = y < EDGE * size.height;
  const low = y + height > (1 - EDGE) * size.height;
  element.classList.toggle("high", high && !low);
  element.classList.toggle("filling", high && low);
  element.classList.toggle("rightmost", x > RIGHT * size.width);
  element.classList.toggle("lit", lit === number);
  element.classList.toggle("dim", lit !== undefined && lit !== number);
  place(element, x / size.width, y / size.height);
  element.style.width = percentOf(width / size.width);
  element.style.height = percentOf(height / size.height);
  const marks = Object.values(face.landmarks).map((point) => {
    const mark = el("span", { class: "mark" });
    place(mark, (point.x - x) / width, (point.y - y) / height);
    return mark;
  });
  const words = el("span", { class: "words" }, ` ${verdict(face)}`);
  element.append(...marks, el("span", { class: "label" }, String(number), words));
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {number} left share of the parent's width
 * @param {number} top share of the parent's height
 */
function place(element, left, top) {
  element.style.left = percentOf(left);
  element.style.top = percentOf(top);
}

/** @param {number} share */
function percentOf(share) {
  return `${(100 * share).toFixed(3)}%`;
}

/** One face's card: portrait, verdict, and a bar for each of the seven. */
export class FaceCard {
  /**
   * @param {number} number how the overlay calls the face
   * @param {(number: number, lit: boolean) => void} light called when the face should stand out in the picture
   */
  constructor(number, light) {
    this.number = number;
    /** When the face was last seen. */
    this.seen = 0;
    this.canvas = el("canvas", { width: String(PORTRAIT_PIXELS), height: String(PORTRAIT_PIXELS) });
    this.portrait = el("button", { type: "button", class: "portrait", "aria-pressed": "false" }, this.canvas);
    this.portrait.setAttribute("aria-label", `Show face ${number} in the picture`);
    this.title = el("h3");
    this.tag = el("span", { class: "tag uncertain" }, "uncertain");
    this.note = el("small");
    this.bars = EMOTIONS.map((emotion) => new Bar(emotion));
    const list = el("ul", { class: "bars", "aria-label": "Probabilities" }, ...this.bars.map((bar) => bar.element));
    const header = el("header", {}, this.portrait, el("div", {}, this.title, this.tag, this.note));
    this.element = el("article", { class: "face-card card", "aria-label": `Face ${number}` }, header, list);
    this.portrait.addEventListener("click", () => light(number, !this.lit));
  }

  /** Whether the face stands out in the picture. */
  get lit() {
    return this.portrait.getAttribute("aria-pressed") === "true";
  }

  set lit(value) {
    this.portrait.setAttribute("aria-pressed", String(value));
  }

  /**
   * @param {Face} face
   * @param {CanvasImageSource} picture
   * @param {Size} scale of the picture's own pixels to those that the face speaks of
   */
  update(face, picture, scale) {
    const { width, height } = face.box;
    this.seen = performance.now();
    this.element.dataset.emotion = face.dominant_emotion;
    this.element.classList.toggle("uncertain", face.uncertain);
    this.title.replaceChildren(`${this.number}. ${face.dominant_emotion} `);
    this.title.append(el("b", {}, percent(face.probabilities[face.dominant_emotion])));
    this.tag.hidden = !face.uncertain;
    this.note.textContent = `${width} × ${height} px, detected with ${percent(face.detection_confidence, 1)}`;
    for (const bar of this.bars) bar.update(face);
    drawPortrait(this.canvas, face, picture, scale);
  }
}

class Bar {
  /** @param {import("./api.js").Emotion} emotion */
  constructor(emotion) {
    this.emotion = emotion;
    this.name = el("span", {}, emotion);
    this.fill = el("span", { class: "fill" });
    this.value = el("span", { class: "value" });
    const bar = el("span", { class: "bar", "aria-hidden": "true" }, this.fill);
    this.element = el("li", { "data-emotion": emotion }, this.name, bar, this.value);
  }

  /** @param {Face} face */
  update(face) {
    const share = face.probabilities[this.emotion];
    const dominant = face.dominant_emotion === this.emotion;
    this.fill.style.setProperty("--share", share.toFixed(4));
    this.value.textContent = percent(share, 1);
    this.name.classList.toggle("dominant", dominant);
    this.value.classList.toggle("dominant", dominant);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Face} face
 * @param {CanvasImageSource} picture
 * @param {Size} scale
 */
function drawPortrait(canvas, face, picture, scale) {
  const { x, y, width, height } = face.box;
  const side = Math.max(width, height) * (1 + 2 * PORTRAIT_MARGIN);
  const left = (x + width / 2 - side / 2) * scale.width;
  const top = (y + height / 2 - side / 2) * scale.height;
  const context = canvas.getContext("2d");
  context?.clearRect(0, 0, canvas.width, canvas.height);
  context?.drawImage(picture, left, top, side * scale.width, side * scale.height, 0, 0, canvas.width, canvas.height);
}

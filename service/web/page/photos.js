// @ts-check
import { annotate, currentKey, detect, problemOf } from "./api.js";
import { curlLine } from "./curl.js";
import { announce, byId, el } from "./dom.js";
import { verdict } from "./emotions.js";
import { FaceCard, drawOverlay } from "./faces.js";
import { problemCard } from "./problem.js";
import { currentQuery } from "./settings.js";
import { milliseconds, timingsCard } from "./timings.js";

/** How many photos are with the service at a time: enough to keep it busy, few enough to leave it to others. */
const AT_ONCE = 2;

const SAVING_MS = 60_000;

/** More faces than this go below the picture instead of beside it. */
const MANY = 4;

/** Formats that browsers turn as the file asks. Chromium leaves a WebP as it is stored. */
const TURNED_BY_BROWSERS = ["jpeg", "png", "avif", "heif"];

/** What is near the beginning of a file that may move, by its format. @type {Record<string, RegExp>} */
const MOVES = { gif: /^GIF/, webp: /ANIM/, png: /acTL/, avif: /avis/ };
const BEGINNING_BYTES = 65_536;

/**
 * @typedef {object} Photo
 * @property {File} file
 * @property {string} url what the browser shows: the file itself, or the service's picture of it
 * @property {boolean} drawn the shown picture has everything drawn on it already
 * @property {HTMLLIElement} item its place in the strip
 * @property {"waiting" | "working" | "done" | "failed"} state
 * @property {AbortController} stop
 * @property {URLSearchParams} query what it was last asked with
 * @property {import("./api.js").Detection} [answer]
 * @property {import("./api.js").Problem} [problem]
 * @property {number} roundTrip milliseconds
 */

/** The photos that were given, and the one that is shown. */
export class Photos {
  /** @param {(problem: import("./api.js").Problem) => void} failed told of every failure */
  constructor(failed) {
    this.failed = failed;
    /** @type {Photo[]} */
    this.all = [];
    /** @type {Photo | undefined} */
    this.shown = undefined;
    /** @type {FaceCard[]} */
    this.cards = [];
    /** The one whose faces are on the page. @type {import("./api.js").Detection | undefined} */
    this.answer = undefined;
    this.picture = /** @type {HTMLImageElement} */ (byId("photo"));
    byId("download").addEventListener("click", () => this.#download());
    byId("retry").addEventListener("click", () => this.#again(this.shown ? [this.shown] : []));
    byId("retry-failed").addEventListener("click", () => {
      // The focus would be lost with the button, which goes when nothing is left that failed.
      byId("retry").focus();
      this.retryFailed();
    });
    byId("clear").addEventListener("click", () => this.#clear());
  }

  /** @param {Iterable<File>} files */
  add(files) {
    const added = Array.from(files, newPhoto);
    if (!added.length) return;
    for (const photo of added) {
      photo.item.firstElementChild?.addEventListener("click", () => this.#choose(photo));
    }
    byId("strip").append(...added.map(({ item }) => item));
    this.all.push(...added);
    this.shown = added[0];
    this.#show();
    this.#comeIntoView();
    this.#pump();
  }

  /** Ask again for all, with the settings as they are now. */
  refresh() {
    this.#again(this.all);
  }

  /** Ask again for those that failed, which a new key or some patience may help. */
  retryFailed() {
    this.#again(this.all.filter((photo) => photo.state === "failed"));
  }

  /** @param {Photo[]} photos */
  #again(photos) {
    for (const photo of photos) {
      photo.stop.abort();
      photo.state = "waiting";
    }
    this.#showChanged(photos);
    this.#pump();
  }

  #clear() {
    for (const photo of this.all) {
      photo.stop.abort();
      photo.item.remove();
      URL.revokeObjectURL(photo.url);
    }
    this.all = [];
    this.shown = undefined;
    this.#show();
    byId("choose").focus();
    announce("All photos removed");
  }

  #pump() {
    const working = this.all.filter((photo) => photo.state === "working").length;
    const waiting = this.all.filter((photo) => photo.state === "waiting");
    waiting.sort((one, other) => Number(other === this.shown) - Number(one === this.shown));
    for (const photo of waiting.slice(0, Math.max(0, AT_ONCE - working))) this.#analyze(photo);
  }

  /** @param {Photo} photo */
  async #analyze(photo) {
    const stop = new AbortController();
    Object.assign(photo, { state: "working", stop, query: currentQuery() });
    this.#showChanged([photo]);
    try {
      await this.#ask(photo, stop.signal);
      photo.state = "done";
    } catch (error) {
      if (stop.signal.aborted) return;
      photo.state = "failed";
      photo.problem = problemOf(error);
      this.failed(photo.problem);
    }
    const over = this.all.length > 1 && this.all.every(({ state }) => state === "done" || state === "failed");
    const words = [...(photo === this.shown ? [spoken(photo)] : []), ...(over ? [tally(this.all)] : [])];
    if (words.length) announce(words.join(". "));
    this.#showChanged([photo]);
    this.#pump();
  }

  /**
   * @param {Photo} photo
   * @param {AbortSignal} signal
   */
  async #ask(photo, signal) {
    const started = performance.now();
    const answer = await detect(photo.file, photo.query, signal);
    photo.roundTrip = performance.now() - started;
    if (photo.drawn || !(await browserShows(photo, answer.image))) await useDrawnPicture(photo, signal);
    signal.throwIfAborted();
    photo.answer = answer;
  }

  async #download() {
    const photo = this.shown;
    if (!photo) return;
    try {
      const url = URL.createObjectURL(await annotate(photo.file, photo.query));
      el("a", { href: url, download: `${photo.file.name.replace(/\.[^.]*$/, "")}-annotated.jpg` }).click();
      // Safari begins to read some time after the click.
      setTimeout(() => URL.revokeObjectURL(url), SAVING_MS);
      announce("Annotated picture saved");
    } catch (error) {
      const problem = problemOf(error);
      this.failed(problem);
      if (photo === this.shown) byId("photo-problem").replaceChildren(problemCard(problem));
    }
  }

  #show() {
    const photo = this.shown;
    byId("result").hidden = !photo;
    byId("drop").classList.toggle("compact", Boolean(photo));
    this.#showStrip();
    if (photo) this.#showPhoto(photo);
  }

  /**
   * The photo that is shown is left alone if it has not changed: its cards may have the keyboard's focus.
   * @param {Photo[]} photos
   */
  #showChanged(photos) {
    this.#showStrip();
    if (this.shown && photos.includes(this.shown)) this.#showPhoto(this.shown);
  }

  #showStrip() {
    byId("strip").hidden = this.all.length < 2;
    byId("retry-failed").hidden = !this.all.some((photo) => photo.state === "failed" && photo !== this.shown);
    for (const photo of this.all) showItem(photo, photo === this.shown);
  }

  /** @param {Photo} photo */
  #choose(photo) {
    this.shown = photo;
    this.#show();
    this.#comeIntoView();
    announce(spoken(photo));
  }

  /** On a phone, or with the page enlarged, what was asked for would be below what is seen. */
  async #comeIntoView() {
    const photo = this.shown;
    // Only then is it as large as it will be.
    await this.picture.decode().catch(() => undefined);
    if (photo !== this.shown) return;
    byId(photo?.state === "failed" ? "photo-problem" : "photo-stage").scrollIntoView({ block: "nearest" });
  }

  /** @param {Photo} photo */
  #showPhoto(photo) {
    const { answer, problem } = photo;
    const done = photo.state === "done" && answer;
    const failed = photo.state === "failed" && problem;
    byId("photo-stage").classList.toggle("busy", !done && !failed);
    if (this.picture.src !== photo.url) this.picture.src = photo.url;
    this.picture.alt = done ? `The photo ${photo.file.name}` : "";
    byId("photo-caption").replaceChildren(el("strong", {}, photo.file.name), ` · ${summary(photo)}`);
    byId("photo-problem").replaceChildren(...(failed ? [problemCard(problem)] : []));
    byId("curl").textContent = curlLine(photo.file, photo.query, currentKey() !== "");
    byId("json-card").hidden = byId("download").hidden = !done;
    byId("photo-stage").hidden = Boolean(failed);
    byId("answer").classList.toggle("failed", Boolean(failed));
    byId("answer").classList.toggle("many", Boolean(done && answer.faces.length > MANY));
    byId("faces-heading").hidden = !done;
    if (done) this.#showAnswer(photo, answer);
    // A photo that is asked about again keeps its own faces until then, and never those of another.
    else if (failed || this.answer !== answer) this.#showNothing();
  }

  #showNothing() {
    this.answer = undefined;
    this.cards = [];
    for (const property of ["--ratio", "--natural-width"]) byId("photo-frame").style.removeProperty(property);
    byId("photo-overlay").replaceChildren();
    byId("photo-faces").replaceChildren();
    byId("photo-timings").replaceChildren();
  }

  /**
   * @param {Photo} photo
   * @param {import("./api.js").Detection} answer
   */
  async #showAnswer(photo, answer) {
    const { faces, image } = answer;
    this.answer = answer;
    const frame = byId("photo-frame");
    frame.style.setProperty("--ratio", String(image.width / image.height));
    frame.style.setProperty("--natural-width", String(image.width));
    byId("json").textContent = JSON.stringify(answer, null, 2);
    const note = `${milliseconds(photo.roundTrip)} there and back, model ${answer.model.name}`;
    byId("photo-timings").replaceChildren(timingsCard(answer.timings_ms, note));
    byId("faces-heading").textContent = counted(faces.length);
    this.cards = faces.map((_, index) => new FaceCard(index + 1, (number, lit) => this.#light(number, lit)));
    const cards = this.cards.map((card) => card.element);
    byId("photo-faces").replaceChildren(...(cards.length ? cards : [noFace()]));
    this.#light(0, false);
    await this.picture.decode().catch(() => undefined);
    if (this.answer !== answer) return;
    const scale = { width: this.picture.naturalWidth / image.width, height: this.picture.naturalHeight / image.height };
    faces.forEach((face, index) => this.cards[index].update(face, this.picture, scale));
  }

  /**
   * @param {number} number
   * @param {boolean} lit
   */
  #light(number, lit) {
    for (const card of this.cards) card.lit = lit && card.number === number;
    const photo = this.shown;
    if (!photo?.answer) return;
    const overlay = byId("photo-overlay");
    overlay.classList.toggle("drawn", photo.drawn);
    drawOverlay(overlay, photo.drawn && !lit ? [] : photo.answer.faces, photo.answer.image, lit ? number : undefined);
    if (lit) bringIntoView(byId("photo-stage"), /** @type {HTMLElement} */ (overlay.children[number - 1]));
  }
}

/**
 * @param {File} file
 * @returns {Photo}
 */
function newPhoto(file) {
  const query = new URLSearchParams();
  const url = URL.createObjectURL(file);
  const item = stripItem(file.name);
  return { file, url, drawn: false, item, state: "waiting", stop: new AbortController(), query, roundTrip: 0 };
}

/**
 * It stays as long as its photo: a press or the focus would be lost with it while others finish.
 * @param {string} name
 */
function stripItem(name) {
  const picture = el("img", { alt: "", loading: "lazy", decoding: "async" });
  return el("li", {}, el("button", { type: "button" }, picture, el("span", {}, name), el("span")));
}

/**
 * @param {Photo} photo
 * @param {boolean} current
 */
function showItem(photo, current) {
  const button = /** @type {HTMLButtonElement} */ (photo.item.firstElementChild);
  const [picture, , words] = /** @type {[HTMLImageElement, Element, Element]} */ ([...button.children]);
  button.className = photo.state;
  button.setAttribute("aria-current", String(current));
  if (picture.src !== photo.url) picture.src = photo.url;
  words.textContent = state(photo);
}

/**
 * @param {HTMLElement} stage scrolls sideways where the picture is very wide
 * @param {HTMLElement} box
 */
function bringIntoView(stage, box) {
  stage.scrollIntoView({ block: "nearest" });
  stage.scrollLeft = box.offsetLeft + (box.offsetWidth - stage.clientWidth) / 2;
}

/**
 * Whether the browser shows the file, as upright as the service saw it, and nothing that moves away from its boxes.
 * @param {Photo} photo
 * @param {{format: string, exif_orientation: number}} seen
 */
async function browserShows({ file, url }, seen) {
  // A file that is gone is told by who asks for its picture.
  const beginning = await file.slice(0, BEGINNING_BYTES).text().catch(() => "");
  if (MOVES[seen.format]?.test(beginning)) return false;
  if (seen.exif_orientation !== 1 && !TURNED_BY_BROWSERS.includes(seen.format)) return false;
  const image = new Image();
  image.src = url;
  return image.decode().then(() => true, () => false);
}

/**
 * For what the service reads and the browser does not (HEIC, TIFF), not upright (WebP) or not still.
 * @param {Photo} photo
 * @param {AbortSignal} signal
 */
async function useDrawnPicture(photo, signal) {
  const picture = await annotate(photo.file, photo.query, signal);
  URL.revokeObjectURL(photo.url);
  photo.url = URL.createObjectURL(picture);
  photo.drawn = true;
}

/** @param {Photo} photo */
function state(photo) {
  if (photo.state === "failed") return "failed";
  return photo.state === "done" && photo.answer ? counted(photo.answer.faces.length) : "working";
}

/** @param {Photo} photo */
function summary(photo) {
  const size = photo.state === "done" && photo.answer?.image;
  return size ? `${state(photo)}, ${size.width} × ${size.height}` : state(photo);
}

/** @param {Photo} photo */
function spoken(photo) {
  const { answer, file } = photo;
  // A failure has its own alert.
  if (photo.state !== "done" || !answer) return file.name;
  const faces = answer.faces.slice(0, 3).map((face, index) => `Face ${index + 1}: ${verdict(face)}`);
  return [`${file.name}: ${counted(answer.faces.length)}`, ...faces].join(". ");
}

/** @param {Photo[]} photos */
function tally(photos) {
  const failed = photos.filter(({ state }) => state === "failed").length;
  return `${photos.length} photos, ${failed || "none"} failed`;
}

/** @param {number} faces */
function counted(faces) {
  if (faces === 0) return "No face";
  return faces === 1 ? "1 face" : `${faces} faces`;
}

function noFace() {
  const hint = "A smaller value for the smallest face may find more.";
  return el("p", { class: "empty" }, `No face was found. ${hint}`);
}

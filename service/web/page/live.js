// @ts-check
import { Chart } from "./chart.js";
import { Camera } from "./camera.js";
import { announce, byId, el } from "./dom.js";
import { FaceCard, drawOverlay } from "./faces.js";
import { verdict } from "./emotions.js";
import { problemCard } from "./problem.js";
import { currentQuery } from "./settings.js";
import { Stream } from "./stream.js";
import { milliseconds, timingsCard } from "./timings.js";

/** @typedef {import("./api.js").Detection} Detection */
/** @typedef {import("./api.js").Problem} Problem */

/** The read-outs and the chart's words change no faster than people read. */
const READOUT_MS = 500;
const CALM_MS = 1000;
const SPOKEN_MS = 5000;
/** A face that is missed is still the same for so long. */
const MISSED_MS = 1000;
/** No answer for so long is no mere slowness: the network may be gone, and a socket learns that late. */
const SILENCE_MS = 8000;
/** Before each try to open a lost stream again: half a minute in all, as a service that restarts may need. */
const PAUSES_MS = [1000, 2000, 4000, 8000, 16_000];

const START = "Start the camera";
/** @type {Problem} */
const CAMERA_GONE = {
  title: "The live view has ended",
  detail: "The browser has lost the camera: it was unplugged, taken by another program, or is no longer allowed.",
  code: "camera_lost",
};
/** @type {Problem} */
const SILENT = {
  title: "No answer",
  detail: "The service has not answered for some seconds. The view goes on as soon as it does.",
  code: "no_answer",
};
/** @type {Problem} */
const STILL = {
  title: "No new picture",
  detail: "The camera has shown nothing new for a while, or nobody saw this page. The view goes on with the next picture.",
  code: "no_frame",
};

/** The camera, the stream of its frames, and what comes back. */
export class Live {
  /** @param {(problem: Problem) => void} failed told of every failure */
  constructor(failed) {
    this.failed = failed;
    this.video = /** @type {HTMLVideoElement} */ (byId("video"));
    this.camera = new Camera(this.video);
    this.chart = new Chart(/** @type {HTMLCanvasElement} */ (byId("chart")));
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    /** @type {Map<number, FaceCard>} */
    this.cards = new Map();
    /** @type {number | undefined} */
    this.lit = undefined;
    this.facesAway = false;
    /** The failure that is on the page. @type {Problem | undefined} */
    this.told = undefined;
    /** @type {Stream | undefined} */
    this.stream = undefined;
    /** Of those to open a lost stream again, since the last answer. */
    this.tries = 0;
    /** The timer of the next one. @type {number | undefined} */
    this.retry = undefined;
    /** Those of the last two seconds, and two at least, for the rate. @type {{at: number, latency: number}[]} */
    this.answers = [];
    // When the chart was last drawn, the read-outs written, the faces spoken of.
    this.drawn = this.read = this.spoken = 0;
    byId("camera-toggle").addEventListener("click", () => (this.camera.running ? this.stop() : this.#start()));
    this.video.addEventListener("resize", () => this.#fit());
    byId("mirror").addEventListener("change", () => this.#mirror());
    byId("camera").addEventListener("change", () => this.#changeCamera());
    byId("chart-face").addEventListener("change", () => this.#changeChart());
    this.#reset();
    this.#mirror();
  }

  /** Let go of the camera and of the connection; a start that still waits for the permission is taken back. */
  stop() {
    if (!this.camera.running) return;
    this.camera.stop();
    clearTimeout(this.retry);
    this.stream?.close();
    this.stream = undefined;
    this.#tell(undefined);
    byId("camera-toggle").textContent = START;
    // The focus would be lost with the view.
    if (byId("live").contains(document.activeElement)) byId("camera-toggle").focus();
    byId("live").hidden = true;
    this.#reset();
    announce("Camera stopped");
  }

  /** Go on with the settings as they are now. */
  restart() {
    if (this.stream) this.#connect();
  }

  /** What was told of the one before holds no longer. */
  keyTaken() {
    if (this.told?.code === "unauthorized") this.#tell(undefined);
  }

  async #start() {
    const toggle = byId("camera-toggle");
    this.#tell(undefined);
    toggle.textContent = "Cancel";
    try {
      const wanted = /** @type {HTMLSelectElement} */ (byId("camera")).value;
      if (!(await this.camera.start(wanted, () => this.#sendFrame(), () => this.#end(CAMERA_GONE)))) return;
    } catch (error) {
      toggle.textContent = START;
      this.#fail(cameraProblem(error));
      // The one that another program uses may not be the only one.
      this.#offerCameras();
      return;
    }
    toggle.textContent = "Stop the camera";
    byId("live").hidden = false;
    byId("live-stage").scrollIntoView({ block: "nearest" });
    this.#turnAround();
    announce("Camera started");
    // What has never answered since the start is told at once.
    this.tries = PAUSES_MS.length;
    this.#connect();
    this.#offerCameras();
  }

  async #offerCameras() {
    const cameras = await this.camera.cameras();
    const options = cameras.map(({ deviceId, label }) => el("option", { value: deviceId }, label));
    const select = /** @type {HTMLSelectElement} */ (byId("camera"));
    const chosen = this.camera.device || select.value;
    select.replaceChildren(...options);
    select.value = chosen;
    byId("camera-choice").hidden = cameras.length < 2;
  }

  /** Only who sees himself expects a mirror: a phone's back camera needs none. */
  #turnAround() {
    if (this.facesAway === this.camera.facesAway) return;
    this.facesAway = this.camera.facesAway;
    /** @type {HTMLInputElement} */ (byId("mirror")).checked = !this.facesAway;
    this.#mirror();
  }

  #changeCamera() {
    if (!this.camera.running) return;
    this.stop();
    this.#start();
  }

  #connect() {
    clearTimeout(this.retry);
    this.stream?.close();
    // The faces' numbers are those of one connection.
    this.#reset();
    this.stream = new Stream(currentQuery(), {
      answered: (answer, latency) => this.#show(answer, latency),
      troubled: (problem) => this.#tell(problem),
      rested: () => this.#rest(),
      lost: (problem) => this.#lose(problem),
      ended: (problem) => this.#end(problem),
    });
  }

  #reset() {
    this.chart.clear();
    this.answers = [];
    this.lit = undefined;
    /** @type {HTMLSelectElement} */ (byId("chart-face")).value = "";
    this.#changeChart();
    this.drawn = this.read = this.spoken = 0;
    this.#keepCards(new Set());
    this.#offerFaces();
    byId("live-empty").textContent = "No answer yet";
    byId("live-overlay").replaceChildren();
    for (const id of ["rate", "latency", "live-count"]) byId(id).textContent = "–";
  }

  #sendFrame() {
    if (!this.stream) this.#connect();
    const stream = this.stream;
    if (stream && stream.silence > SILENCE_MS) {
      this.#tell(SILENT);
      byId("live-overlay").replaceChildren();
    }
    if (!stream?.ready) return;
    this.camera.grab((frame) => {
      if (stream === this.stream && stream.ready) stream.send(frame);
    });
  }

  /**
   * @param {Detection} answer
   * @param {number} latency
   */
  #show(answer, latency) {
    const now = performance.now();
    const { faces, image } = answer;
    this.tries = 0;
    this.#tell(undefined);
    drawOverlay(byId("live-overlay"), faces, image, faces.some(({ id }) => id === this.lit) ? this.lit : undefined);
    this.#showCards(answer);
    this.chart.add({ at: now, faces: new Map(faces.map((face) => [face.id ?? 0, face.probabilities])) });
    if (!this.calm.matches || now - this.drawn > CALM_MS) this.#drawChart();
    const recent = this.answers.filter(({ at }) => now - at < 2000);
    this.answers = [...(recent.length ? recent : this.answers.slice(-1)), { at: now, latency }];
    if (now - this.read > READOUT_MS) this.#readOut(answer, now);
  }

  /** @param {Detection} answer */
  #showCards({ faces, image }) {
    const now = performance.now();
    const missed = [...this.cards.values()].filter(({ seen }) => now - seen < MISSED_MS);
    this.#keepCards(new Set([...missed.map(({ number }) => number), ...faces.map(({ id }) => id ?? 0)]));
    byId("live-empty").textContent = "No face in view";
    const scale = { width: this.camera.width / image.width, height: this.camera.height / image.height };
    for (const face of faces) this.cards.get(face.id ?? 0)?.update(face, this.camera.canvas, scale);
  }

  /**
   * A card stays as long as its face, so that neither the keyboard's focus nor the bars jump.
   * @param {Set<number>} ids
   */
  #keepCards(ids) {
    const known = [...this.cards.keys()];
    const added = [...ids].filter((id) => !this.cards.has(id));
    if (known.length === ids.size && !added.length) return;
    for (const id of known.filter((each) => !ids.has(each))) {
      this.cards.get(id)?.element.remove();
      this.cards.delete(id);
    }
    for (const id of added) {
      const card = new FaceCard(id, (number, lit) => this.#light(number, lit));
      this.cards.set(id, card);
      byId("live-faces").append(card.element);
    }
    byId("live-empty").hidden = ids.size > 0;
    this.#offerFaces();
  }

  #offerFaces() {
    const select = /** @type {HTMLSelectElement} */ (byId("chart-face"));
    const chosen = select.value;
    const ids = new Set([...this.cards.keys()].map(String));
    // The chosen face stays on offer while it is away, so that the chart does not change its subject.
    if (chosen) ids.add(chosen);
    const options = [...ids].map((id) => el("option", { value: id }, `face ${id}`));
    select.replaceChildren(el("option", { value: "" }, "all faces (mean)"), ...options);
    select.value = chosen;
  }

  /**
   * @param {number} number
   * @param {boolean} lit
   */
  #light(number, lit) {
    this.lit = lit ? number : undefined;
    for (const [id, card] of this.cards) card.lit = id === this.lit;
  }

  #changeChart() {
    this.#drawChart();
    this.#describeChart();
  }

  #describeChart() {
    byId("chart").setAttribute("aria-label", this.chart.words);
  }

  #drawChart() {
    this.drawn = performance.now();
    const chosen = /** @type {HTMLSelectElement} */ (byId("chart-face")).value;
    this.chart.draw(chosen ? Number(chosen) : undefined, this.drawn);
  }

  /**
   * @param {Detection} answer
   * @param {number} now
   */
  #readOut(answer, now) {
    this.read = now;
    const span = now - this.answers[0].at;
    const mean = this.answers.reduce((sum, { latency }) => sum + latency, 0) / this.answers.length;
    if (span) byId("rate").textContent = `${(((this.answers.length - 1) * 1000) / span).toFixed(1)} /s`;
    byId("latency").textContent = milliseconds(mean);
    byId("live-count").textContent = String(answer.faces.length);
    this.#describeChart();
    byId("live-timings").replaceChildren(timingsCard(answer.timings_ms, `model ${answer.model.name}`));
    if (now - this.spoken > SPOKEN_MS) this.#speak(answer, now);
  }

  /**
   * @param {Detection} answer
   * @param {number} now
   */
  #speak(answer, now) {
    this.spoken = now;
    const faces = answer.faces.slice(0, 3).map((face) => `Face ${face.id}: ${verdict(face)}`);
    announce(faces.join(". ") || "No face");
  }

  #fit() {
    const { videoWidth, videoHeight } = this.video;
    byId("live-frame").style.setProperty("--ratio", String(videoWidth / videoHeight));
  }

  #mirror() {
    const { checked } = /** @type {HTMLInputElement} */ (byId("mirror"));
    byId("live-stage").classList.toggle("mirrored", checked);
  }

  /** Browsers hand out no frames of a page that is hidden, however long: the next one opens a stream again. */
  #rest() {
    this.stream = undefined;
    this.#reset();
    this.#tell(STILL);
  }

  /**
   * The camera stays open: the stream may well be back soon.
   * @param {Problem} problem
   */
  #lose(problem) {
    if (this.tries === PAUSES_MS.length) return this.#end(problem);
    // Nothing of before may lie over a picture that moves on.
    this.#reset();
    const detail = `${problem.detail} The page tries to connect again, for half a minute.`;
    this.#tell({ ...problem, title: "The connection is lost", detail });
    this.retry = setTimeout(() => this.#connect(), PAUSES_MS[this.tries]);
    this.tries += 1;
  }

  /** @param {Problem} problem */
  #end(problem) {
    this.stop();
    this.#fail(problem);
  }

  /** @param {Problem} problem */
  #fail(problem) {
    this.#tell(problem);
    this.failed(problem);
  }

  /**
   * Frame after frame may fail alike: that is told once, not many times a second.
   * @param {Problem | undefined} problem
   */
  #tell(problem) {
    if (problem && problem.code === this.told?.code && problem.title === this.told.title) return;
    this.told = problem;
    byId("live-problem").replaceChildren(...(problem ? [problemCard(problem)] : []));
  }
}

/**
 * @param {unknown} error
 * @returns {Problem}
 */
function cameraProblem(error) {
  const name = error instanceof DOMException ? error.name : "";
  /** @type {Record<string, string>} */
  const details = {
    NotAllowedError: "The browser was not allowed to use it. Allow the camera for this address and try again.",
    NotFoundError: "No camera was found on this device.",
    NotReadableError: "Another program is using it. Close that program, or choose another camera.",
    InsecureError: "Browsers open the camera for https addresses and for localhost only.",
  };
  const detail = details[name] ?? "The browser did not say why.";
  return { title: "The camera cannot be opened", detail, code: name || "camera_error" };
}

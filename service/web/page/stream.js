// @ts-check
/** The service's WebSocket: JPEG frames out, one answer for each processed frame in. */
import { address, currentKey, sentence } from "./api.js";

/** @typedef {import("./api.js").Detection} Detection */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {{frame: number} & ({status: "ok"} & Detection | {status: "error", error: Problem})} Message */
/**
 * @typedef {object} Handlers
 * @property {(answer: Detection, latency: number) => void} answered latency in milliseconds
 * @property {(problem: Problem) => void} troubled one frame failed; the stream goes on
 * @property {() => void} rested the service has waited for a frame for long enough, and closed the socket
 * @property {(problem: Problem) => void} lost the socket was closed by what may pass
 * @property {(problem: Problem) => void} ended it was closed for good, and not by this page
 */

/** Frames that may be under way: one is worked on while the next travels. */
const MOST_PENDING = 2;
/** Close codes of what may pass: the service stops, the network broke off or was away, too many streams are open. */
const PASSING = [1001, 1006, 1011, 1012, 1013];
/** Where this page has not closed it: no frame came for long. */
const SILENCE = 1000;
const PROTOCOL = "fer.v1";
/** A page can give a WebSocket no header; the key goes in a subprotocol, which no log and no history keeps. */
const KEY_PROTOCOL = "fer.key.";

/** One connection, from the first frame to the last. */
export class Stream {
  /**
   * @param {URLSearchParams} query
   * @param {Handlers} handlers
   */
  constructor(query, handlers) {
    const url = address("stream", query);
    url.protocol = url.protocol.replace("http", "ws");
    this.handlers = handlers;
    /** When each frame that has no answer yet was sent, by the frame's number. @type {Map<number, number>} */
    this.pending = new Map();
    this.sent = 0;
    this.began = performance.now();
    const key = currentKey();
    this.socket = new WebSocket(url, key ? [PROTOCOL, KEY_PROTOCOL + base64url(key)] : [PROTOCOL]);
    this.listening = new AbortController();
    const { signal } = this.listening;
    this.socket.addEventListener("message", (event) => this.#receive(JSON.parse(event.data)), { signal });
    this.socket.addEventListener("close", (event) => this.#closed(event), { signal });
    // Of a connection that a policy forbids, such as an extension's, Chromium tells an error and no close.
    const blocked = () => signal.aborted || this.#closed(new CloseEvent("close", { code: 1006 }));
    this.socket.addEventListener("error", () => setTimeout(blocked), { signal });
  }

  /** Whether another frame may be sent now. */
  get ready() {
    return this.socket.readyState === WebSocket.OPEN && this.pending.size < MOST_PENDING;
  }

  /** For how many milliseconds the service has owed an answer. */
  get silence() {
    const [oldest] = this.pending.values();
    const { readyState } = this.socket;
    if (readyState === WebSocket.CLOSED) return 0;
    const since = readyState === WebSocket.CONNECTING ? this.began : oldest;
    return since === undefined ? 0 : performance.now() - since;
  }

  /** @param {Blob} frame */
  send(frame) {
    this.sent += 1;
    this.pending.set(this.sent, performance.now());
    this.socket.send(frame);
  }

  /** End it from this side, without a word. */
  close() {
    this.listening.abort();
    this.socket.close(1000);
  }

  /** @param {CloseEvent} event */
  #closed(event) {
    this.listening.abort();
    if (event.code === SILENCE) return this.handlers.rested();
    const problem = problemOfClose(event);
    const passes = PASSING.includes(event.code) && problem.code !== "internal_error";
    (passes ? this.handlers.lost : this.handlers.ended)(problem);
  }

  /** @param {Message} message */
  #receive(message) {
    const now = performance.now();
    const latency = now - (this.pending.get(message.frame) ?? now);
    // What came before and has no answer was replaced by a newer frame.
    for (const number of this.pending.keys()) if (number <= message.frame) this.pending.delete(number);
    if (message.status === "ok") this.handlers.answered(message, latency);
    else this.handlers.troubled(message.error);
  }
}

/**
 * The reason of a refusal begins with the code of the problem.
 * @param {CloseEvent} event
 * @returns {Problem}
 */
function problemOfClose(event) {
  const [, code, said] = /^([a-z_]+): (.*)$/.exec(event.reason) ?? [];
  const detail = sentence(said || event.reason || "The connection to the service broke off");
  return { title: "The live view has ended", detail, code: code ?? `closed_${event.code}` };
}

/** @param {string} text */
function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// @ts-check
/** The service's WebSocket: JPEG frames out, one answer for each processed frame in. */
import { address } from "./api.js";

/** @typedef {import("./api.js").Detection} Detection */
/**
 * @typedef {object} Handlers
 * @property {(answer: Detection, latency: number) => void} answered latency in milliseconds
 * @property {(problem: import("./api.js").Problem) => void} ended the socket was closed, and not by this page
 */

/** Frames that may be under way: one is worked on while the next travels. */
const MOST_PENDING = 2;

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
    /** When each frame that has no answer yet was sent. @type {number[]} */
    this.pending = [];
    this.socket = new WebSocket(url);
    this.socket.addEventListener("message", (event) => this.#receive(JSON.parse(event.data)));
    this.socket.addEventListener("close", (event) => this.handlers.ended(problemOfClose(event)));
  }

  /** Whether another frame may be sent now. */
  get ready() {
    return this.socket.readyState === WebSocket.OPEN && this.pending.length < MOST_PENDING;
  }

  /** @param {Blob} frame */
  send(frame) {
    this.pending.push(performance.now());
    this.socket.send(frame);
  }

  /** End it from this side, without a word. */
  close() {
    this.handlers = { answered: () => undefined, ended: () => undefined };
    this.socket.close(1000);
  }

  /** @param {Detection} message */
  #receive(message) {
    const sent = this.pending.shift() ?? performance.now();
    this.handlers.answered(message, performance.now() - sent);
  }
}

/**
 * @param {CloseEvent} event
 * @returns {import("./api.js").Problem}
 */
function problemOfClose(event) {
  const detail = event.reason || "The connection to the service broke off. Start the camera again to go on.";
  return { title: "The live view has ended", detail, code: `close_${event.code}` };
}

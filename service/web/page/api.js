// @ts-check
/** The service's HTTP interface, as this page uses it. */

/** @typedef {"angry" | "disgust" | "fear" | "happy" | "sad" | "surprise" | "neutral"} Emotion */
/** @typedef {{x: number, y: number}} Point */
/**
 * @typedef {object} Face
 * @property {number} [id] live only
 * @property {{x: number, y: number, width: number, height: number}} box
 * @property {number} detection_confidence
 * @property {Record<string, Point>} landmarks
 * @property {Emotion} dominant_emotion
 * @property {Record<Emotion, number>} probabilities
 * @property {boolean} uncertain
 */
/**
 * @typedef {object} Detection
 * @property {{width: number, height: number, format: string, exif_orientation: number}} image
 * @property {Face[]} faces
 * @property {{name: string, version: string}} model
 * @property {Record<string, number>} timings_ms
 */
/** @typedef {{name: string, default: boolean, label_set: string, measured: Record<string, number>}} Model */
/** @typedef {{title: string, detail: string, code: string, request_id?: string}} Problem */

/** A failure in words that people can act on. */
export class ApiError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** The key stays in this variable: no storage, no URL, no page text. */
let apiKey = "";

/**
 * Send this key from here on.
 * @param {string} key
 */
export function useKey(key) {
  // A header takes ASCII only: fetch would throw, or send other bytes than were meant.
  if (!/^[\x20-\x7e]*$/.test(key)) {
    throw new ApiError({
      title: "This key cannot be sent",
      detail: "It has characters that cannot be sent: a header takes ASCII letters, digits and signs only.",
      code: "key_not_ascii",
    });
  }
  apiKey = key;
}

/** @returns {string} */
export function currentKey() {
  return apiKey;
}

/** @returns {Promise<Model[]>} */
export async function getModels() {
  const { models } = await call("models", {}, (answer) => answer.json());
  return models;
}

/** Whether the API's documentation is there; what cannot be asked is taken to be. @returns {Promise<boolean>} */
export function hasDocs() {
  const there = (/** @type {Response} */ answer) => answer.status !== 404;
  return fetch("docs", { method: "HEAD" }).then(there, () => true);
}

/**
 * @param {Blob} image
 * @param {URLSearchParams} query
 * @param {AbortSignal} signal
 * @returns {Promise<Detection>}
 */
export function detect(image, query, signal) {
  return post(image, query, "application/json", (answer) => answer.json(), signal);
}

/**
 * The picture with everything drawn on it.
 * @param {Blob} image
 * @param {URLSearchParams} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<Blob>}
 */
export function annotate(image, query, signal) {
  return post(image, query, "image/jpeg", (answer) => answer.blob(), signal);
}

/**
 * @param {URLSearchParams} query
 * @returns {string} the absolute address of a detection
 */
export function detectUrl(query) {
  return address("detect-emotions", query).href;
}

/**
 * @param {string} path
 * @param {URLSearchParams} query
 * @returns {URL} below the page's own address, whatever prefix a proxy has put before it
 */
export function address(path, query) {
  const url = new URL(path, document.baseURI);
  url.search = query.toString();
  return url;
}

/**
 * What the page shows for any failure.
 * @param {unknown} error
 * @returns {Problem}
 */
export function problemOf(error) {
  if (error instanceof ApiError) return error.problem;
  return { title: "Something went wrong on this page", detail: String(error), code: "page_error" };
}

/**
 * @template T
 * @param {Blob} image
 * @param {URLSearchParams} query
 * @param {string} accept
 * @param {(answer: Response) => Promise<T>} read
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
async function post(image, query, accept, read, signal) {
  const type = image.type || "application/octet-stream";
  const headers = { Accept: accept, "Content-Type": type };
  try {
    return await call(detectUrl(query), { method: "POST", body: image, headers, signal }, read);
  } catch (error) {
    // To fetch, a file that is gone and a service that is gone are the same.
    if (problemOf(error).code !== "unreachable" || (await readable(image))) throw error;
    throw new ApiError({
      title: "This photo cannot be read",
      detail: "The file was moved, changed or deleted since it was chosen, or it is a folder. Choose it again.",
      code: "unreadable_file",
    });
  }
}

/** @param {Blob} image */
function readable(image) {
  return image.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

/**
 * @template T
 * @param {string} url
 * @param {RequestInit & {headers?: Record<string, string>}} options
 * @param {(answer: Response) => Promise<T>} read
 * @returns {Promise<T>}
 */
async function call(url, options, read) {
  const headers = { ...options.headers, ...(apiKey && { "X-API-Key": apiKey }) };
  let answer;
  try {
    answer = await fetch(url, { ...options, headers });
    // An answer may break off, too, and be cut short.
    if (answer.ok) return await read(answer);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError({
      title: "The service cannot be reached",
      detail: "It may be stopped or restarting, or it broke off because the photo is too large.",
      code: "unreachable",
    });
  }
  throw new ApiError(await readProblem(answer));
}

/**
 * @param {Response} answer
 * @returns {Promise<Problem>}
 */
async function readProblem(answer) {
  const type = answer.headers.get("Content-Type") ?? "";
  // A proxy may name a date instead.
  const wait = /^\d+$/.exec(answer.headers.get("Retry-After") ?? "");
  const hint = wait ? ` Try again in ${wait} s.` : "";
  const told = type.startsWith("application/problem+json");
  const problem = told ? await answer.json().catch(() => undefined) : undefined;
  // Others tell problems too, but without a code of ours; and one of ours may be cut short.
  if (!problem?.code) {
    const size = answer.status === 413 ? " The photo is too large for it." : "";
    const detail = `Something between this page and the service answered with status ${answer.status}.${size}${hint}`;
    return { title: "The service cannot be reached", detail, code: "bad_gateway" };
  }
  return { ...problem, detail: sentence(problem.detail) + hint };
}

/** @param {string} text */
export function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

// @ts-check

/** Longest side of a frame that is sent: enough for faces at arm's length, small enough for a phone's uplink. */
const LONGEST_SIDE = 640;
const JPEG_QUALITY = 0.8;

/** The camera, and its frames as JPEG. */
export class Camera {
  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
    this.grabbing = false;
    /** The start that holds; a stop takes it back, also while the browser still asks. @type {object | undefined} */
    this.turn = undefined;
    /** @type {MediaStream | undefined} */
    this.media = undefined;
  }

  /** Whether the camera is open or about to be. */
  get running() {
    return this.turn !== undefined;
  }

  /** The id of the camera that is open. */
  get device() {
    return this.#settings.deviceId ?? "";
  }

  /** Whether it is a phone's back camera. */
  get facesAway() {
    return this.#settings.facingMode === "environment";
  }

  get #settings() {
    return this.media?.getVideoTracks()[0].getSettings() ?? {};
  }

  /** Those that the browser tells of, which is none before one of them was allowed. */
  async cameras() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId);
  }

  get width() {
    return this.canvas.width;
  }

  get height() {
    return this.canvas.height;
  }

  /**
   * Open the camera.
   * @param {string} camera its id, where that is gone another; where it is empty, the one that faces the user
   * @param {() => void} each called once for every frame of the camera
   * @param {() => void} lost called where the camera ends by itself
   * @returns {Promise<boolean>} false where a stop came first
   */
  async start(camera, each, lost) {
    if (!navigator.mediaDevices) throw new DOMException("no camera here", "InsecureError");
    const turn = {};
    this.turn = turn;
    try {
      await this.#open(turn, camera);
    } catch (error) {
      if (this.turn !== turn) return false;
      this.stop();
      throw error;
    }
    if (this.turn !== turn) return false;
    // Not told of what `stop` ends.
    this.media?.getVideoTracks()[0].addEventListener("ended", lost);
    // Firefox before 132 does not tell of frames.
    const wait = () => this.video.requestVideoFrameCallback?.(next) ?? requestAnimationFrame(next);
    const next = () => {
      if (this.turn !== turn) return;
      each();
      wait();
    };
    wait();
    return true;
  }

  /**
   * @param {object} turn
   * @param {string} camera
   */
  async #open(turn, camera) {
    const which = camera ? { deviceId: camera } : { facingMode: "user" };
    const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, ...which };
    const media = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    // The permission may come long after the camera was stopped, and must not open it then.
    if (this.turn !== turn) return letGo(media);
    this.media = media;
    this.video.srcObject = media;
    await this.video.play();
  }

  stop() {
    if (this.media) letGo(this.media);
    this.turn = this.media = undefined;
    this.video.srcObject = null;
  }

  /**
   * Encode the frame that is shown now; does nothing while the one before is still being encoded.
   * @param {(frame: Blob) => void} done
   */
  grab(done) {
    const { videoWidth, videoHeight } = this.video;
    if (this.grabbing || !videoWidth) return;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
    const width = Math.round(videoWidth * scale);
    const height = Math.round(videoHeight * scale);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.canvas.getContext("2d")?.drawImage(this.video, 0, 0, width, height);
    this.grabbing = true;
    this.canvas.toBlob((frame) => {
      this.grabbing = false;
      if (frame) done(frame);
    }, "image/jpeg", JPEG_QUALITY);
  }
}

/** @param {MediaStream} media */
function letGo(media) {
  for (const track of media.getTracks()) track.stop();
}

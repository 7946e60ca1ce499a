// @ts-check
export class Live {
  constructor(failed) { this.failed = failed; }
  stop() {}
  restart() {}
}

/** When brokers are believed, who learn of things one after another: in milliseconds, and so often. */
export const longEnough = 1000
export const oftenEnough = 3

/** Milliseconds between two questions about a topic that is not there: after the third it is believed. */
export const absencePause = longEnough / 2

/**
 * A topic that brokers say is not there. Said once it is not believed: they learn of topics one after another, and one that has just started
 * may know of none.
 */
export class Absence {
  readonly #since = performance.now()
  #times = 0
  #believed = false

  /** It is said once more. */
  again(): void {
    this.#times++
    this.#believed = this.#times >= oftenEnough && performance.now() - this.#since >= longEnough
  }

  get believed(): boolean {
    return this.#believed
  }
}

/**
 * When the next thread may start to load the module. After a load that failed (a file that is gone, a server that does not answer, no
 * memory) the next is for later, and then for one thread at a time: a module that cannot be loaded is not tried in a loop, and jobs that
 * wait for it do not all fail at once.
 */

/** Calls `f` once after so many milliseconds, unless what it gives back is called before. */
export type Later = (millis: number, f: () => void) => () => void

const firstPauseMillis = 1000
const longestPauseMillis = 30_000

export class Loads {
  private readonly later: Later
  private readonly over: () => void
  /** since the last that succeeded; those that fail during one pause count as one */
  private failures = 0
  private endPause: (() => void) | undefined

  /** `over` is called at the end of each pause. */
  constructor(later: Later, over: () => void) {
    this.later = later
    this.over = over
  }

  mayStart(loading: number): boolean {
    return this.failures === 0 || (this.endPause === undefined && loading === 0)
  }

  succeeded(): void {
    this.failures = 0
    this.close()
  }

  failed(): void {
    if (this.endPause !== undefined) return
    const millis = Math.min(longestPauseMillis, firstPauseMillis * 2 ** Math.min(this.failures++, 16))
    this.endPause = this.later(millis, () => {
      this.endPause = undefined
      this.over()
    })
  }

  close(): void {
    this.endPause?.()
    this.endPause = undefined
  }
}

/**
 * What happened in a history, one line for each event.
 */
export class Timeline {
  readonly lines: Array<string> = []
  private readonly isKept: boolean
  private readonly now: () => number

  constructor(now: () => number, isKept: boolean) {
    this.now = now
    this.isKept = isKept
  }

  say(who: string, what: () => string): void {
    if (this.isKept) this.lines.push(`${(this.now() / 1000).toFixed(3).padStart(9)} s  ${who.padEnd(6)}  ${what()}`)
  }
}

/** More lines than this are left out in the middle. */
const maxLines = 120

export const abridge = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length <= maxLines
    ? lines
    : [
        ...lines.slice(0, maxLines / 2),
        `             (${lines.length - maxLines} lines left out)`,
        ...lines.slice(-maxLines / 2)
      ]

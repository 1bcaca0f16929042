/** How far the demo is: a bar on a terminal, some lines elsewhere. */
import { Effect } from "effect"
import type { Scope } from "effect"
import cliProgress from "cli-progress"

export interface Progress {
  /** So many are done, of all. */
  readonly at: (done: number) => void
}

export const say = (text = ""): void => void process.stdout.write(`${text}\n`)

/** Until the scope closes. */
export const showProgress = (
  title: string,
  total: number,
  start: number
): Effect.Effect<Progress, never, Scope.Scope> =>
  process.stdout.isTTY ? bar(title, total, start) : Effect.succeed(lines(title, total))

const bar = (title: string, total: number, start: number) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const shown = new cliProgress.SingleBar(
          {
            format: `${title}  [{bar}] {value} of {total}  {duration_formatted}`,
            barCompleteChar: "#",
            barIncompleteChar: ".",
            barsize: 30,
            fps: 20,
            stream: process.stdout,
            // the demo ends bars itself, also when it is interrupted
            gracefulExit: false
          },
          cliProgress.Presets.legacy
        )
        shown.start(total, start)
        return shown
      }),
      (shown) => Effect.sync(() => shown.stop())
    ),
    (shown): Progress => ({ at: (done) => shown.update(done) })
  )

/** A line for each quarter. */
const lines = (title: string, total: number): Progress => {
  let shown = 0
  return {
    at: (done) => {
      const quarter = Math.floor((done * 4) / total)
      if (quarter <= shown) return
      shown = quarter
      say(`${title}  ${done} of ${total}`)
    }
  }
}

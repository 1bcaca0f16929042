/** How far a redrive is, on stderr: a bar on a terminal, some lines elsewhere. What it has come to is for stdout. */
import cliProgress from "cli-progress"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { RedriveProgress } from "../Redrive.ts"

export interface Shown {
  readonly at: (progress: RedriveProgress) => Effect.Effect<void>
}

type Figures = (progress: RedriveProgress) => string

const figuresOf =
  (dryRun: boolean): Figures =>
  ({ failed, filtered, sent }) =>
    [
      dryRun ? `${sent} match` : `${sent} sent`,
      ...(filtered > 0 ? [`${filtered} do not match`] : []),
      ...(failed > 0 ? [`${failed} failed`] : [])
    ].join(", ")

/** Until the scope closes. */
export const show = (dryRun: boolean): Effect.Effect<Shown, never, Scope.Scope> =>
  Effect.suspend(() => {
    const figures = figuresOf(dryRun)
    return process.stderr.isTTY ? bar(figures) : Effect.succeed(lines(figures))
  })

const bar = (figures: Figures): Effect.Effect<Shown, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const shown = new cliProgress.SingleBar(
          {
            format: "[{bar}] {value} of {total}  {figures}  {trouble}",
            barCompleteChar: "#",
            barIncompleteChar: ".",
            barsize: 30,
            fps: 10,
            stream: process.stderr,
            // the command ends bars itself, also when it is interrupted
            gracefulExit: false
          },
          cliProgress.Presets.legacy
        )
        return { bar: shown, isStarted: false }
      }),
      (shown) => Effect.sync(() => shown.bar.stop())
    ),
    (shown) => ({
      at: (progress) =>
        Effect.sync(() => {
          const payload = {
            figures: figures(progress),
            trouble: progress.trouble.length === 0 ? "" : `waiting: ${progress.trouble.join("; ")}`
          }
          if (!shown.isStarted) shown.bar.start(progress.total, progress.passed, payload)
          // while nobody answers it is not known yet
          shown.bar.setTotal(progress.total)
          shown.bar.update(progress.passed, payload)
          shown.isStarted = true
        })
    })
  )

/** A line at the start, one for each quarter, and one when something is wrong or no longer so. */
const lines = (figures: Figures): Shown => {
  let quarters = -1
  let waiting = ""
  return {
    at: (progress) =>
      Effect.gen(function* () {
        const { passed, total, trouble } = progress
        const now = Math.floor((passed * 4) / total)
        if (now > quarters) yield* Console.error(`${passed} of ${total} passed, ${figures(progress)}`)
        quarters = Math.max(quarters, now)
        const why = trouble.join("; ")
        if (why !== waiting) yield* Console.error(why === "" ? "going on" : `waiting: ${why}`)
        waiting = why
      })
  }
}

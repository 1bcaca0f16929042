/** What the demo claims, held against what others have seen: committed and end offsets, and the ledger. */
import { Effect } from "effect"
import type { Cluster, Offsets } from "./cluster.ts"
import type { DemoError } from "./error.ts"
import type { Ledger } from "./ledger.ts"
import { say } from "./progress.ts"
import type { Run } from "./run.ts"

export interface Verdict {
  readonly kafka: Run["kafka"]
  readonly records: number
  readonly seconds: number
  readonly timesFaster: number
  readonly commits: number
  /** Lines of the ledger that say what an earlier line said. */
  readonly handledTwice: number
  /** Records below the committed offsets that are not in the ledger. */
  readonly lost: number
  readonly committedIsEnd: boolean
}

export interface Audit {
  readonly offsets: ReadonlyArray<Offsets>
  /** In the ledger. */
  readonly handled: number
  readonly verdict: Verdict
}

const round = (n: number, digits: number): number => Number(n.toFixed(digits))
const perSecond = ({ records, seconds }: { readonly records: number; readonly seconds: number }): number =>
  seconds === 0 ? 0 : records / seconds

export const audit = (cluster: Cluster, run: Run, ledger: Ledger): Effect.Effect<Audit, DemoError> =>
  Effect.map(cluster.offsets(run.topic, run.group), (offsets) => {
    const { below, handlings, records } = ledger.read()
    const slow = run.oneAtATime === undefined ? 0 : perSecond(run.oneAtATime)
    return {
      offsets,
      handled: records,
      verdict: {
        kafka: run.kafka,
        records: run.records,
        seconds: round(run.concurrent.seconds, 3),
        timesFaster: slow === 0 ? 0 : round(perSecond(run.concurrent) / slow, 1),
        commits: run.concurrent.commits,
        handledTwice: handlings - records,
        lost: offsets.reduce(
          (sum, { committed, partition, start }) =>
            committed === undefined ? sum : sum + Number(committed - start) - below(partition, committed),
          0
        ),
        committedIsEnd: offsets.every(({ committed, end }) => committed === end)
      }
    }
  })

/** What there is to say after a Ctrl-C. */
export const printStopped = ({ handled, offsets, verdict }: Audit): void => {
  const committed = offsets.reduce((sum, { committed, start }) => sum + Number((committed ?? start) - start), 0)
  say()
  say(`Stopped: ${handled} of ${verdict.records} records handled, ${committed} committed, ${verdict.lost} lost.`)
  if (verdict.kafka !== "memory") say("Go on with: npm run demo -- --resume")
}

export const isSound = ({ committedIsEnd, lost }: Verdict): boolean => committedIsEnd && lost === 0

const row = (name: string, ...cells: ReadonlyArray<string | number>) =>
  say(`  ${name.padEnd(32)}${cells.map((cell) => String(cell).padStart(11)).join("")}`)

export const printReport = ({ offsets, verdict }: Audit, run: Run, cluster: Cluster): void => {
  const speed = (name: string, timed: { readonly records: number; readonly seconds: number }) =>
    row(name, timed.records, timed.seconds.toFixed(2), Math.round(perSecond(timed)))
  say()
  row("", "records", "seconds", "records/s")
  if (run.oneAtATime !== undefined) speed(cluster.oneAtATimeWith, run.oneAtATime)
  speed("this library, concurrency 50", run.concurrent)
  row("times faster", verdict.timesFaster)
  say()
  row(`read by ${cluster.checkedBy}`)
  row("", "committed", "log end")
  for (const { committed, end, partition } of offsets)
    row(`partition ${partition}`, String(committed ?? "none"), String(end))
  say()
  row("commits", verdict.commits)
  row("handled twice (by the ledger)", verdict.handledTwice)
  row("lost (by the ledger)", verdict.lost)
  say()
}

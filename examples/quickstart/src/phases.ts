/** The two ways through the topic. */
import { Effect } from "effect"
import type { Cluster } from "./cluster.ts"
import { consume, type Worked } from "./concurrent.ts"
import type { Ledger } from "./ledger.ts"
import { showProgress } from "./progress.ts"
import type { Run } from "./run.ts"

export const concurrency = 50
/** One at a time is too slow to wait for all: 150 of 3,000. */
const sliceOf = (records: number): number => Math.ceil(records / 20)

/** Some of the records, one at a time, in a group of its own. */
export const oneAtATime = Effect.fnUntraced(function* (cluster: Cluster, run: Run) {
  const records = sliceOf(run.records)
  const { at } = yield* showProgress(`One at a time, ${cluster.oneAtATimeWith}:`, records, 0)
  const group = `${run.topic}-one-at-a-time-${Date.now().toString(36)}`
  run.oneAtATime = { records, seconds: yield* cluster.oneAtATime({ topic: run.topic, group, records, progress: at }) }
}, Effect.scoped)

/** All that is left of them, many at a time. */
export const manyAtATime = Effect.fnUntraced(function* (cluster: Cluster, run: Run, ledger: Ledger) {
  const ends = new Map((yield* cluster.offsets(run.topic, run.group)).map(({ end, partition }) => [partition, end]))
  const before = ledger.read().records
  const { at } = yield* showProgress(`${concurrency} at a time, this library:`, run.records, before)
  const earlier = run.concurrent
  const add = ({ commits, records, seconds }: Worked): void => {
    run.concurrent = {
      records: earlier.records + records,
      seconds: earlier.seconds + seconds,
      commits: earlier.commits + commits
    }
  }
  yield* consume(
    cluster,
    {
      topic: run.topic,
      group: run.group,
      concurrency,
      finished: ledger.write,
      isEnough: ({ outcomes, partitions }) => {
        at(Math.min(run.records, before + outcomes.handled))
        return partitions.length === ends.size && partitions.every((p) => p.committable >= ends.get(p.partition)!)
      }
    },
    add
  )
}, Effect.scoped)

/**
 * Memory where much more waits than is handled: 500,000 records of 1 kB, handlers of 20 ms, 100 at once. Heap after forced collections, from
 * the beginning of the time to its end; the peak of the resident memory, in processes of their own without forced collections; and the rate.
 */
import type { Work } from "./job.ts"
import { produce } from "./produce.ts"
import { child, say } from "./read.ts"
import { atLeast, atMost, type Bench, compare, either, moreAtMost, median } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"
import type { SystemName } from "./systems.ts"

const partitions = 12
const bytes = 1_000
const millis = 20
const concurrency = 100

export interface BacklogTask {
  readonly system: SystemName
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  readonly work: Work
  /** from the first record on */
  readonly seconds: number
  /** how often the heap is looked at, after a forced collection; 0: never */
  readonly everyMillis: number
}

export interface BacklogReading {
  /** records/s */
  readonly rate: number
  /** bytes */
  readonly rss: number
  /** bytes, buffers included */
  readonly heaps: ReadonlyArray<number>
}

const megabytes = (n: number): number => n / 1048576

const kinds = ["engine, heap", "engine", "pool", "eachMessage"] as const

export const backlog: Bench = async ({ brokers, rounds, smoke }) => {
  const records = smoke ? 48_000 : 500_000
  const seconds = smoke ? 1.5 : 12
  const topic = freshTopic("backlog")
  say(`producing ${records} records of ${bytes} bytes into ${partitions} partitions`)
  await produce(brokers, topic, partitions, records, { bytes })
  const readings = await interleaved(kinds, rounds, async (kind, round) => {
    const heap = kind === "engine, heap"
    const system = heap ? "engine" : kind
    const groupId = `${topic}-${kinds.indexOf(kind)}-${round}`
    const work: Work = { form: "sleeps", millis, concurrency }
    const everyMillis = heap ? (seconds * 1000) / 12 : 0
    const task: BacklogTask = { system, brokers, topic, groupId, work, seconds, everyMillis }
    const reading = await child<BacklogReading>("backlogReader.ts", task, ...(heap ? ["--expose-gc"] : []))
    say(
      `round ${round + 1} ${kind}: ${Math.round(reading.rate)} records/s, peak ${megabytes(reading.rss).toFixed(0)} MB` +
        (heap ? `, heap ${reading.heaps.map((h) => megabytes(h).toFixed(0)).join(" ")} MB` : "")
    )
    return reading
  })
  // how much of a response is still needed goes up and down, and the first look is before the buffers are full
  const half = (heaps: ReadonlyArray<number>): number => heaps.length >> 1
  const early = readings("engine, heap").map(({ heaps }) => megabytes(median(heaps.slice(1, half(heaps)))))
  const late = readings("engine, heap").map(({ heaps }) => megabytes(median(heaps.slice(half(heaps)))))
  const rss = (kind: (typeof kinds)[number]) => readings(kind).map((reading) => megabytes(reading.rss))
  const rates = readings("engine").map(({ rate }) => rate)
  const peak = { bench: "backlog: peak RSS", unit: "MB" }
  return [
    compare(
      { bench: "backlog: heap in the second half", unit: "MB", comparedWith: "in the first half" },
      late,
      early,
      moreAtMost(smoke ? 50 : 10)
    ),
    ...either(
      compare(
        { ...peak, comparedWith: "eachMessage" },
        rss("engine"),
        rss("eachMessage"),
        moreAtMost(smoke ? 400 : 40)
      ),
      compare({ ...peak, comparedWith: "a limit loop" }, rss("engine"), rss("pool"), atMost(smoke ? 5 : 0.5))
    ),
    compare(
      { bench: "backlog: rate", unit: "records/s", comparedWith: "the ideal" },
      rates,
      rates.map(() => (concurrency * 1000) / millis),
      atLeast(smoke ? 0.1 : 0.96)
    )
  ]
}

/** How long a request to the program waits while a consumer in it computes: handlers on threads, beside the same ones in the event loop. */
import { child, say } from "./read.ts"
import { atMost, type Bench, compare, valueAtMost } from "./report.ts"
import { interleaved } from "./rounds.ts"

export interface WorkersTask {
  readonly how: "inline" | "offloaded"
  /** of each record */
  readonly computeMillis: number
  readonly seconds: number
}

/** ms */
export interface WorkersReading {
  /** of a GET */
  readonly p50: number
  readonly p99: number
  readonly requests: number
  /** of a timer each millisecond, between two of its turns */
  readonly gapMillis: number
  /** while requests were made */
  readonly handled: number
  /** that took */
  readonly seconds: number
}

export interface EmptyTask {
  readonly records: number
}

/** us a record, from the call of `handle` to its answer, one after another and 100 at once; ms until the thread is there */
export interface EmptyReading {
  readonly alone: number
  readonly together: number
  readonly startMillis: number
}

const computeMillis = 50

export const workers: Bench = async ({ rounds, smoke }) => {
  const seconds = smoke ? 2 : 10
  const readings = await interleaved(["inline", "offloaded"], rounds, async (how, round) => {
    const task: WorkersTask = { how, computeMillis, seconds }
    const reading = await child<WorkersReading>("workersReader.ts", task)
    say(
      `round ${round + 1} ${how}: GET p50 ${reading.p50.toFixed(1)} ms, p99 ${reading.p99.toFixed(1)} ms of ${reading.requests}, ` +
        `event loop p99 ${reading.gapMillis.toFixed(1)} ms, ${(reading.handled / reading.seconds).toFixed(1)} records/s of ${computeMillis} ms`
    )
    if (reading.handled === 0) throw new Error(`${how}: nothing was handled meanwhile`)
    return reading
  })
  const empty = await interleaved(["a job"], rounds, async (_, round) => {
    const task: EmptyTask = { records: smoke ? 4_000 : 40_000 }
    const reading = await child<EmptyReading>("workersEmptyReader.ts", task)
    say(
      `round ${round + 1} of an empty job: ${reading.alone.toFixed(1)} us one by one, ${reading.together.toFixed(1)} us of 100 at once; ` +
        `its thread was there after ${reading.startMillis.toFixed(0)} ms`
    )
    return reading
  })
  return [
    compare(
      { bench: `workers: ${computeMillis} ms of CPU a record`, unit: "ms, GET p99", comparedWith: "in the event loop" },
      readings("offloaded").map(({ p99 }) => p99),
      readings("inline").map(({ p99 }) => p99),
      atMost(smoke ? 0.8 : 0.25)
    ),
    compare(
      { bench: "workers: an empty job", unit: "us, there and back", comparedWith: "a job of 100 at once" },
      empty("a job").map(({ alone }) => alone),
      empty("a job").map(({ together }) => together),
      valueAtMost(smoke ? 1_000 : 100)
    )
  ]
}

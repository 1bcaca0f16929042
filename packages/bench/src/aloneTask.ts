/** What is asked of a process that handles records from memory, and what it answers. */
import type { Work } from "./job.ts"
import { child, say } from "./read.ts"

export interface AloneTask {
  readonly system: "engine" | "bare"
  readonly partitions: number
  readonly records: number
  readonly work: Work
  /** handlers wait until all permits are taken */
  readonly gathers?: boolean | undefined
}

export interface AloneReading {
  readonly handled: number
  /** handlers at once, at most */
  readonly most: number
  readonly seconds: number
  readonly cpuMicros: number
}

/** Of a record, in us of CPU; records that were not handled, or not committed, are an error. */
export const alone = async (name: string, round: number, task: AloneTask): Promise<number> => {
  const reading = await child<AloneReading>("aloneReader.ts", task)
  if (reading.handled !== task.records) throw new Error(`${name}: ${reading.handled} records of ${task.records}`)
  const { concurrency } = task.work
  if (task.gathers === true && reading.most !== concurrency) {
    throw new Error(`${name}: ${reading.most} in flight at most, not ${concurrency}`)
  }
  const counted = task.records * 0.8
  const micros = reading.cpuMicros / counted
  say(
    `round ${round + 1} ${name}: ${micros.toFixed(2)} us of CPU a record, ${Math.round(counted / reading.seconds)} records/s, ` +
      `at most ${reading.most} at once`
  )
  return micros
}

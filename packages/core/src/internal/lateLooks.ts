/**
 * Which records were in handlers when the event loop stood still: nobody can look at a clock meanwhile, so two looks lie far apart, and what
 * ran between them is what ran then. That there was nothing to be done for so long looks the same from here: whoever measures the event
 * loop's delay knows which it was, and asks about a time.
 *
 * Invariant, with its test in `test/lateLooks.test.ts`: a record whose handler was running all the time is among them, also when it ended
 * in the same turn.
 */
import type { TopicPartition } from "../ConsumerRecord.ts"
import type { PartitionEpoch } from "./epoch.ts"
import type { Slot } from "./slot.ts"

/** Which records ran between two looks at the clocks: the time of day, in milliseconds. */
interface LateLook {
  readonly from: number
  readonly to: number
  readonly records: ReadonlyArray<Bystander>
}

/** Where a record is, and since when this attempt runs. */
export interface Bystander extends TopicPartition {
  readonly offset: bigint
  readonly startedAt: number
}

/** looks that are less far apart are none */
export const lateMillis = 1_000
/** whoever measures has another clock, and notices somewhat later that it has been */
const slackMillis = 50
const noticingMillis = 2_000
/** of those that were late, so many are remembered */
const mostLooks = 16
/** of each, so many records: the ones that began first */
const mostRecords = 100

const bystander = ({ offset, partition, startedAt, topic }: Slot): Bystander => ({
  topic,
  partition,
  offset,
  startedAt
})

/** Over the runs of a consumer. */
export class LateLooks {
  private readonly looks: Array<LateLook> = []

  /** `ended`: attempts that ended since the look before. */
  add(from: number, to: number, ended: ReadonlyArray<Slot>, epochs: Iterable<PartitionEpoch>): void {
    const those = new Set(ended)
    for (const epoch of epochs) {
      // what began after the standstill does not matter
      for (const slot of epoch.live) {
        if (!slot.waitsForTurn && slot.startedAt <= to - lateMillis) those.add(slot)
      }
    }
    if (those.size === 0) return
    const records = [...those].map(bystander).sort((a, b) => a.startedAt - b.startedAt)
    if (this.looks.push({ from, to, records: records.slice(0, mostRecords) }) > mostLooks) this.looks.shift()
  }

  /** Those that ran while it stood still for so long, and this was noticed at that time: the oldest first. */
  during(millis: number, noticed: number): ReadonlyArray<Bystander> {
    const found = new Map<string, Bystander>()
    for (const { from, records, to } of this.looks) {
      if (to - from < millis - slackMillis || from > noticed - millis + slackMillis || to < noticed - noticingMillis)
        continue
      for (const one of records) found.set(`${one.topic}/${one.partition}/${one.offset}`, one)
    }
    return [...found.values()].sort((a, b) => a.startedAt - b.startedAt)
  }
}

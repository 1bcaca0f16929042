/**
 * One key has a fifth of all records, handlers wait 5 ms, order by key, 100 at once: nothing can be faster than the hot key's records one
 * after the other, and the other keys are not to wait for them. All records fit under the held limit (`skew` measures what happens when they
 * do not).
 */
import { produce } from "./produce.ts"
import { child, say } from "./read.ts"
import { atMost, type Bench, compare, type Goal, valueAtMost } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"

const partitions = 12
const keys = 1_000

export interface HotKeyTask {
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  readonly records: number
}

/** in seconds after the first handler began */
export interface HotKeyReading {
  readonly all: number
  /** when the last record of another key was handled */
  readonly others: number
  /** what the handlers of the hot key took together: one after the other, with nothing between them */
  readonly alone: number
}

export const hotName = "hot"

export const hotKey: Bench = async ({ brokers, rounds, smoke }) => {
  const records = smoke ? 1_000 : 10_000
  const topic = freshTopic("hot-key")
  await produce(brokers, topic, partitions, records, {
    keyed: (i) =>
      i % 5 === 0
        ? { key: Buffer.from(hotName), partition: 0 }
        : { key: Buffer.from(`customer-${i % keys}`), partition: (i % keys) % partitions }
  })
  const readings = await interleaved(["engine"], rounds, async (_, round) => {
    const task: HotKeyTask = { brokers, topic, groupId: `${topic}-${round}`, records }
    const reading = await child<HotKeyReading>("hotKeyReader.ts", task)
    say(
      `round ${round + 1}: all in ${reading.all.toFixed(2)} s, the other keys in ${reading.others.toFixed(2)} s; ` +
        `the hot key's handlers ${reading.alone.toFixed(2)} s`
    )
    return reading
  })
  const of = (what: keyof HotKeyReading): ReadonlyArray<number> => readings("engine").map((reading) => reading[what])
  const line = (
    bench: string,
    comparedWith: string,
    values: keyof HotKeyReading,
    goal: Goal,
    compared: keyof HotKeyReading
  ) => compare({ bench, unit: "s", comparedWith }, of(values), of(compared), goal)
  return [
    line("hotKey: all records", "the hot key's own handlers", "all", atMost(smoke ? 5 : 1.1), "alone"),
    line("hotKey: the other keys", "all records", "others", valueAtMost(smoke ? 2 : 0.8), "all")
  ]
}

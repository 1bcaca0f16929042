/** What a look of the live page costs while few records go through, and while many do: it is made of counts, and not of records. */
import { child, say } from "./read.ts"
import { atMost, type Bench, compare } from "./report.ts"
import { interleaved } from "./rounds.ts"

export interface PageTask {
  readonly partitions: number
  readonly recordsPerSecond: number
  readonly looks: number
}

export interface PageReading {
  /** us of CPU for one look and its frame, the median of all */
  readonly micros: number
  /** of a frame, the median */
  readonly bytes: number
  readonly handled: number
  readonly seconds: number
}

/** beside what it calls, which is internal to its package */
const reader = "../../observability/test/pageReader.ts"

const few = 100
const many = 100_000

export const page: Bench = async ({ rounds, smoke }) => {
  const looks = smoke ? 8 : 40
  const kinds = [1, 1_000].flatMap((partitions) => [
    { partitions, recordsPerSecond: few },
    { partitions, recordsPerSecond: many }
  ])
  const nameOf = ({ partitions, recordsPerSecond }: (typeof kinds)[number]) => `${partitions} at ${recordsPerSecond}`
  const micros = await interleaved(kinds.map(nameOf), rounds, async (name, round) => {
    const kind = kinds.find((one) => nameOf(one) === name)!
    const task: PageTask = { ...kind, looks }
    const { bytes, handled, micros, seconds } = await child<PageReading>(reader, task)
    const rate = handled / seconds
    say(
      `round ${round + 1} of ${kind.partitions} partitions, ${Math.round(rate)} records/s: ${Math.round(micros)} us of CPU a look, ` +
        `frames of ${bytes} bytes`
    )
    if (rate < kind.recordsPerSecond / 2) throw new Error(`${name}: only ${Math.round(rate)} records/s`)
    return micros
  })
  return [1, 1_000].map((partitions) =>
    compare(
      {
        bench: `page: ${partitions} partition${partitions === 1 ? "" : "s"}, ${many} records/s`,
        unit: "us of CPU a look",
        comparedWith: `${few} records/s`
      },
      micros(nameOf({ partitions, recordsPerSecond: many })),
      micros(nameOf({ partitions, recordsPerSecond: few })),
      atMost(smoke ? 15 : 1.5)
    )
  )
}

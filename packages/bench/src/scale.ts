/** Whether a record costs the same with many partitions, and with many records in flight: the engine alone, beside itself. */
import { alone } from "./aloneTask.ts"
import { atMost, type Bench, compare, type Line } from "./report.ts"
import { interleaved } from "./rounds.ts"

export const scale: Bench = async ({ rounds, smoke }) => {
  const records = smoke ? 50_000 : 1_000_000
  const goal = atMost(smoke ? 15 : 1.5)
  const compared = async (
    what: string,
    sizes: ReadonlyArray<number>,
    measure: (size: number, name: string, round: number) => Promise<number>
  ): Promise<ReadonlyArray<Line>> => {
    const named = sizes.map((size) => `${size} ${what}`)
    const micros = await interleaved(named, rounds, (name, round) => measure(sizes[named.indexOf(name)]!, name, round))
    return named
      .slice(1)
      .map((name) =>
        compare(
          { bench: `scale: ${name}`, unit: "us of CPU a record", comparedWith: named[0]! },
          micros(name),
          micros(named[0]!),
          goal
        )
      )
  }
  return [
    ...(await compared("partitions", smoke ? [1, 1_000] : [1, 100, 1_000], (partitions, name, round) =>
      alone(name, round, { system: "engine", partitions, records, work: {} })
    )),
    ...(await compared("in flight", smoke ? [10, 10_000] : [10, 100, 1_000, 10_000], (concurrency, name, round) =>
      alone(name, round, {
        system: "engine",
        partitions: 12,
        records,
        work: { concurrency, maxHeldRecords: 100_000 },
        gathers: true
      })
    ))
  ]
}

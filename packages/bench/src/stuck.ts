/** What one record costs that never ends: the same records without it, and how often the engine commits meanwhile. */
import { committed, produce } from "./produce.ts"
import { read, readAll, say, saying } from "./read.ts"
import { atLeast, type Bench, compare, valueAtMost } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"

const partitions = 12

export const stuck: Bench = async ({ brokers, rounds, smoke }) => {
  // fewer in a partition than `maxUncommitted`: there everything behind the record waits for it
  const records = smoke ? 120_000 : 1_080_000
  const topic = freshTopic("stuck")
  say(`producing ${records} records into ${partitions} partitions`)
  await produce(brokers, topic, partitions, records)
  const readings = await interleaved(["without it", "with it"], rounds, async (kind, round) => {
    const groupId = `${topic}-${kind === "with it"}-${round}`
    const task = { system: "engine", brokers, topic, groupId } as const
    if (kind === "without it") {
      const reading = await read({ ...task, records, work: {} })
      saying(round, kind, records, reading)
      return reading
    }
    const reading = await readAll({ ...task, records: records - 1, work: { form: "hangs" } }, records)
    saying(round, kind, records - 1, reading)
    const offsets = await committed(brokers, topic, groupId)
    const behind = offsets.filter(({ end, offset, partition }) => offset !== (partition === 0 ? "0" : end))
    if (behind.length > 0) throw new Error(`not committed as it should be: ${JSON.stringify(behind)}`)
    // what is done behind the gap
    if (offsets[0]!.metadata === "") throw new Error("the offset map of the stuck record's partition is empty")
    return reading
  })
  const rates = (kind: "with it" | "without it"): ReadonlyArray<number> =>
    readings(kind).map(({ handled, seconds }) => handled / seconds)
  const commits = readings("with it").map((reading) => reading.commits! / reading.seconds)
  return [
    compare(
      { bench: "stuck: all others", unit: "records/s", comparedWith: "the same without it" },
      rates("with it"),
      rates("without it"),
      atLeast(smoke ? 0.15 : 0.95)
    ),
    compare(
      { bench: "stuck: commits", unit: "commits/s", comparedWith: "the same without it" },
      commits,
      readings("without it").map((reading) => reading.commits! / reading.seconds),
      valueAtMost(smoke ? 100 : 20)
    )
  ]
}

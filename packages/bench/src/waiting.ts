/**
 * Handlers that wait 5 ms: how much of the time that so many at once could take is taken, and beside a loop written by hand on the same
 * client.
 */
import { produce } from "./produce.ts"
import { read, say, saying } from "./read.ts"
import { atLeast, type Bench, compare, type Line } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"

const partitions = 12
const millis = 5

export const waiting: Bench = async ({ brokers, rounds, smoke }) => {
  const lines: Array<Line> = []
  for (const concurrency of [10, 100]) {
    // for ten seconds, or one
    const records = ((smoke ? 1_000 : 10_000) / millis) * concurrency
    const topic = freshTopic(`waiting-${concurrency}`)
    await produce(brokers, topic, partitions, records)
    const rates = await interleaved(["engine"], rounds, async (system, round) => {
      const groupId = `${topic}-${round}`
      const reading = await read({
        system,
        brokers,
        topic,
        groupId,
        records,
        work: { form: "sleeps", millis, concurrency }
      })
      saying(round, `${millis} ms, ${concurrency} at once`, records, reading)
      return records / reading.seconds
    })
    const ideal = (concurrency * 1000) / millis
    lines.push(
      compare(
        { bench: `waiting: ${concurrency} at once`, unit: "records/s", comparedWith: "the ideal" },
        rates("engine"),
        rates("engine").map(() => ideal),
        atLeast(smoke ? 0.1 : 0.92)
      )
    )
  }
  const records = smoke ? 40_000 : 200_000
  const topic = freshTopic("waiting-1000")
  say(`producing ${records} records into ${partitions} partitions`)
  await produce(brokers, topic, partitions, records)
  const rates = await interleaved(["engine", "pool"], rounds, async (system, round) => {
    const groupId = `${topic}-${system}-${round}`
    const work = { form: "sleeps", millis, concurrency: 1_000 } as const
    const reading = await read({ system, brokers, topic, groupId, records, work })
    saying(round, `${millis} ms, 1000 at once, ${system}`, records, reading)
    return records / reading.seconds
  })
  lines.push(
    compare(
      { bench: "waiting: 1000 at once", unit: "records/s", comparedWith: "a limit loop on kafkajs" },
      rates("engine"),
      rates("pool"),
      atLeast(smoke ? 0.1 : 1)
    )
  )
  return lines
}

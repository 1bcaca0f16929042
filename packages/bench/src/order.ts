/**
 * What order by key costs: the same records unordered and by key, with a handler that ends at once (a lane is made and gone) and with
 * one that suspends (lanes are held, and records wait in them).
 */
import { produce, recordBytes } from "./produce.ts"
import { read, say, saying } from "./read.ts"
import { type Bench, compare, moreAtMost } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"
import type { Work } from "./job.ts"

const partitions = 12
const keys = 10_000

const works = {
  unordered: {},
  "by key": { ordering: "key" },
  "unordered, handler suspends": { form: "yields" },
  "by key, handler suspends": { ordering: "key", form: "yields" }
} as const satisfies Record<string, Work>

export const order: Bench = async ({ brokers, rounds, smoke }) => {
  const records = smoke ? 120_000 : 2_000_000
  const topic = freshTopic("order")
  say(`producing ${records} records of ${recordBytes} bytes, ${keys} keys, into ${partitions} partitions`)
  const names = Array.from({ length: keys }, (_, i) => Buffer.from(`customer-${i}`))
  await produce(brokers, topic, partitions, records, { keyed: (i) => ({ key: names[i % keys]! }) })
  const kinds = ["unordered", "by key", "unordered, handler suspends", "by key, handler suspends"] as const
  const cpu = await interleaved(kinds, rounds, async (kind, round) => {
    const groupId = `${topic}-${kinds.indexOf(kind)}-${round}`
    const reading = await read({ system: "engine", brokers, topic, groupId, records, work: works[kind] })
    saying(round, kind, records, reading)
    return reading.cpuMicros / records
  })
  const goal = moreAtMost(smoke ? 15 : 1)
  return (["", ", handler suspends"] as const).map((suspends) =>
    compare(
      { bench: `order: by key${suspends}`, unit: "us of CPU a record", comparedWith: "unordered" },
      cpu(`by key${suspends}`),
      cpu(`unordered${suspends}`),
      goal
    )
  )
}

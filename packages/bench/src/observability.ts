/**
 * What it costs to be observed: a program by itself, and with the endpoints, the event loop's delay, and somebody who asks for metrics each
 * second and for health each ten. There are enough records that what is compiled once, and the thread that is started once, count little.
 */
import { produce, recordBytes } from "./produce.ts"
import { read, say, saying } from "./read.ts"
import { atMost, type Bench, compare } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"

const partitions = 12
const systems = ["engineUnobserved", "engineObserved"] as const

export const observability: Bench = async ({ brokers, rounds, smoke }) => {
  const records = smoke ? 240_000 : 3_000_000
  const topic = freshTopic("observability")
  say(`producing ${records} records of ${recordBytes} bytes into ${partitions} partitions`)
  await produce(brokers, topic, partitions, records)
  const cpu = await interleaved(systems, rounds, async (system, round) => {
    const reading = await read({ system, brokers, topic, groupId: `${topic}-${system}-${round}`, records, work: {} })
    saying(round, system, records, reading)
    return reading.cpuMicros / records
  })
  return [
    compare(
      { bench: "observability: scraped each second", unit: "us of CPU a record", comparedWith: "not observed" },
      cpu("engineObserved"),
      cpu("engineUnobserved"),
      atMost(smoke ? 5 : 1.05)
    )
  ]
}

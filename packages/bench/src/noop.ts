/**
 * How fast records go through when handling them costs nothing: the engine on kafkajs against plain kafkajs, which commits what it
 * has fetched and handles one record at a time.
 */
import { committedIsEnd, produce, recordBytes } from "./produce.ts"
import { read, type Reading } from "./read.ts"
import { compare, type Line } from "./report.ts"

const partitions = 12

export const noop = async (options: {
  readonly brokers: ReadonlyArray<string>
  readonly rounds: number
  readonly smoke: boolean
}): Promise<ReadonlyArray<Line>> => {
  const records = options.smoke ? 240_000 : 2_000_000
  const run = process.pid.toString(36) + Date.now().toString(36)
  const topic = `bench-noop-${run}`
  process.stderr.write(`producing ${records} records of ${recordBytes} bytes into ${partitions} partitions\n`)
  await produce(options.brokers, topic, partitions, records)
  const readings = { engine: [] as Array<Reading>, eachMessage: [] as Array<Reading>, eachBatch: [] as Array<Reading> }
  const systems = Object.keys(readings) as Array<keyof typeof readings>
  for (let round = 0; round < options.rounds; round++) {
    // in another order each round: whoever comes first meets a cold page cache
    for (let i = 0; i < systems.length; i++) {
      const system = systems[(i + round) % systems.length]!
      const groupId = `${topic}-${system}-${round}`
      const reading = await read(system, options.brokers, topic, groupId, records)
      if (system === "engine" && !(await committedIsEnd(options.brokers, topic, groupId))) {
        throw new Error("the engine has not committed the end of each partition")
      }
      readings[system].push(reading)
      process.stderr.write(
        `round ${round + 1} ${system}: ${Math.round(records / reading.seconds)} records/s, ` +
          `${(reading.cpuMicros / records).toFixed(2)} us of CPU a record, ${Math.round(reading.rss / 1048576)} MB` +
          `${reading.commits === undefined ? "" : `, ${reading.commits} commits`}\n`
      )
    }
  }
  const rates = (system: keyof typeof readings): ReadonlyArray<number> =>
    readings[system].map((r) => records / r.seconds)
  const against = (other: "eachMessage" | "eachBatch", goal: number): Line =>
    compare(
      {
        bench: "noop",
        unit: "records/s",
        comparedWith: `kafkajs ${other}`,
        by: "ratio",
        goal: options.smoke ? goal / 4 : goal
      },
      rates("engine"),
      rates(other)
    )
  return [against("eachMessage", 0.9), against("eachBatch", 0.8)]
}

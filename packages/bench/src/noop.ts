/**
 * How fast records go through when handling them costs nothing: the engine on kafkajs against plain kafkajs, which commits what it
 * has fetched and handles one record at a time.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { committedIsEnd, produce, recordBytes } from "./produce.ts"
import { type Line, median } from "./report.ts"

const partitions = 12

interface Reading {
  readonly records: number
  readonly bytes: number
  readonly seconds: number
  readonly cpuMicros: number
  readonly commits: number | undefined
  readonly rss: number
}

const read = async (
  system: string,
  brokers: ReadonlyArray<string>,
  topic: string,
  groupId: string,
  records: number
): Promise<Reading> => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [
      "--no-warnings",
      fileURLToPath(new URL("reader.ts", import.meta.url)),
      system,
      brokers.join(","),
      topic,
      groupId,
      String(records)
    ],
    { timeout: 300_000 }
  )
  const reading = JSON.parse(stdout) as Reading
  if (reading.records !== records || reading.bytes !== records * recordBytes) {
    throw new Error(`${system} handled ${reading.records} records of ${records}`)
  }
  return reading
}

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
  const compare = (other: "eachMessage" | "eachBatch", goal: number): Line => {
    const ratios = rates("engine").map((rate, i) => rate / rates(other)[i]!)
    const ratio = median(ratios)
    const floor = options.smoke ? goal / 4 : goal
    return {
      bench: "noop",
      value: median(rates("engine")),
      unit: "records/s",
      comparedWith: `kafkajs ${other}`,
      comparedValue: median(rates(other)),
      ratio,
      spread: [Math.min(...ratios), Math.max(...ratios)],
      goal: floor,
      met: ratio >= floor
    }
  }
  return [compare("eachMessage", 0.9), compare("eachBatch", 0.8)]
}

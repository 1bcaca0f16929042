/**
 * What order by key costs: the same records unordered and by key, with a handler that ends at once (a lane is made and gone) and with
 * one that suspends (lanes are held, and records wait in them).
 */
import { committedIsEnd, produce, recordBytes } from "./produce.ts"
import { read } from "./read.ts"
import { compare, type Line } from "./report.ts"

const partitions = 12
const keys = 10_000

export const order = async (options: {
  readonly brokers: ReadonlyArray<string>
  readonly rounds: number
  readonly smoke: boolean
}): Promise<ReadonlyArray<Line>> => {
  const records = options.smoke ? 240_000 : 2_000_000
  const topic = `bench-order-${process.pid.toString(36)}${Date.now().toString(36)}`
  process.stderr.write(
    `producing ${records} records of ${recordBytes} bytes, ${keys} keys, into ${partitions} partitions\n`
  )
  const names = Array.from({ length: keys }, (_, i) => Buffer.from(`customer-${i}`))
  await produce(options.brokers, topic, partitions, records, (i) => ({ key: names[i % keys]! }))
  const cpu = {
    engine: [] as Array<number>,
    engineKey: [] as Array<number>,
    engineSuspends: [] as Array<number>,
    engineKeySuspends: [] as Array<number>
  }
  const systems = Object.keys(cpu) as Array<keyof typeof cpu>
  for (let round = 0; round < options.rounds; round++) {
    for (let i = 0; i < systems.length; i++) {
      const system = systems[(i + round) % systems.length]!
      const groupId = `${topic}-${system}-${round}`
      const reading = await read(system, options.brokers, topic, groupId, records)
      if (!(await committedIsEnd(options.brokers, topic, groupId)))
        throw new Error("the engine has not committed the end of each partition")
      const micros = reading.cpuMicros / records
      cpu[system].push(micros)
      process.stderr.write(
        `round ${round + 1} ${system}: ${Math.round(records / reading.seconds)} records/s, ${micros.toFixed(2)} us of CPU a record\n`
      )
    }
  }
  const goal = options.smoke ? 4 : 1
  const line = { bench: "order", unit: "us of CPU a record by key", by: "difference", goal } as const
  return [
    compare({ ...line, comparedWith: "unordered, handler ends at once" }, cpu.engineKey, cpu.engine),
    compare({ ...line, comparedWith: "unordered, handler suspends" }, cpu.engineKeySuspends, cpu.engineSuspends)
  ]
}

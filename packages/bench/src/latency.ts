/** How late records are handled while 2,000 a second are written: from just before the send to the handler, beside the client alone. */
import { createTopic } from "./produce.ts"
import { child, say } from "./read.ts"
import { atMost, type Bench, compare, type Goal, valueAtMost } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"
import type { SystemName } from "./systems.ts"
import { startWriter } from "./writer.ts"

const partitions = 12
const rate = 2_000

export interface LatencyTask {
  readonly system: SystemName
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  readonly seconds: number
}

/** ms */
export interface LatencyReading {
  readonly p50: number
  readonly p99: number
  readonly records: number
}

const pairs = [
  ["kafkajs", "engine", "eachBatch"],
  ["platformatic", "enginePlatformatic", "stream"]
] as const satisfies ReadonlyArray<readonly [string, SystemName, SystemName]>

export const latency: Bench = async ({ brokers, rounds, smoke }) => {
  const chosen = smoke ? pairs.slice(0, 1) : pairs
  const seconds = smoke ? 1.5 : 15
  const systems = chosen.flatMap(([, engine, alone]) => [engine, alone])
  const readings = await interleaved(systems, rounds, async (system, round) => {
    const topic = freshTopic(`latency-${system}-${round}`)
    await createTopic(brokers, topic, partitions)
    const writer = await startWriter(brokers, topic, partitions, rate)
    try {
      const task: LatencyTask = { system, brokers, topic, groupId: `${topic}-group`, seconds }
      const reading = await child<LatencyReading>("latencyReader.ts", task)
      say(
        `round ${round + 1} ${system}: p50 ${reading.p50.toFixed(1)} ms, p99 ${reading.p99.toFixed(1)} ms of ${reading.records} records`
      )
      if (reading.records < (rate * seconds) / 4) throw new Error(`only ${reading.records} records in ${seconds} s`)
      return reading
    } finally {
      await writer.stop()
    }
  })
  // of a second and a half on a busy machine the 99th percentile says little
  const goals: readonly [Goal, ...Array<Goal>] = smoke ? [atMost(10), valueAtMost(400)] : [atMost(1.25)]
  return chosen.flatMap(([client, engine, alone]) =>
    (["p50", "p99"] as const).map((percentile) =>
      compare(
        { bench: `latency: ${client}`, unit: `ms, ${percentile}`, comparedWith: `${alone} alone` },
        readings(engine).map((reading) => reading[percentile]),
        readings(alone).map((reading) => reading[percentile]),
        ...goals
      )
    )
  )
}

/**
 * From the start of a process to its first record, and how long closing takes when nothing is going on: beside the client alone. The import
 * of effect itself is measured and taken off, what is imported beyond it is not.
 */
import { produce } from "./produce.ts"
import { child, say } from "./read.ts"
import { type Bench, compare, moreAtMost } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"

export interface StartTask {
  readonly system: "engine" | "eachBatch" | "enginePlatformatic" | "stream"
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  readonly records: number
}

/** ms */
export interface StartReading {
  readonly effect: number
  readonly first: number
  readonly close: number
}

const pairs = [
  ["kafkajs", "engine", "eachBatch"],
  ["platformatic", "enginePlatformatic", "stream"]
] as const

export const start: Bench = async ({ brokers, rounds, smoke }) => {
  const chosen = smoke ? pairs.slice(0, 1) : pairs
  const records = 12
  const topic = freshTopic("start")
  await produce(brokers, topic, 12, records)
  const measure = async (system: StartTask["system"], round: number): Promise<StartReading> => {
    const task: StartTask = { system, brokers, topic, groupId: `${topic}-${system}-${round}`, records }
    const reading = await child<StartReading>("startReader.ts", task)
    say(
      `round ${round + 1} ${system}: first record after ${Math.round(reading.first)} ms, of which effect ${Math.round(reading.effect)} ms; ` +
        `closed in ${Math.round(reading.close)} ms`
    )
    return reading
  }
  const systems = chosen.flatMap(([, engine, alone]) => [engine, alone])
  // for what Node keeps
  if (!smoke) for (const system of systems) await measure(system, -1)
  const readings = await interleaved(systems, rounds, measure)
  const goal = moreAtMost(smoke ? 3_000 : 150)
  return chosen.flatMap(([client, engine, alone]) => [
    compare(
      { bench: `start: ${client}, to the first record`, unit: "ms", comparedWith: `${alone} alone` },
      readings(engine).map(({ effect, first }) => first - effect),
      readings(alone).map(({ first }) => first),
      goal
    ),
    compare(
      { bench: `start: ${client}, closing when idle`, unit: "ms", comparedWith: `${alone} alone` },
      readings(engine).map(({ close }) => close),
      readings(alone).map(({ close }) => close),
      goal
    )
  ])
}

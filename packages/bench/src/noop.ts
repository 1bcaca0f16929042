/**
 * How fast records go through when handling them costs nothing: the engine on each client against that client alone, which commits what
 * it has fetched and handles one record at a time. With it what a record costs, and how long the event loop does not turn.
 */
import { produce, recordBytes } from "./produce.ts"
import { read, type Reading, say, saying } from "./read.ts"
import { atLeast, atMost, type Bench, compare, moreAtMost, valueAtMost } from "./report.ts"
import { freshTopic, interleaved } from "./rounds.ts"
import type { SystemName } from "./systems.ts"
import type { Work } from "./job.ts"

const partitions = 12

const measured = {
  engine: ["engine", {}],
  eachBatch: ["eachBatch", {}],
  eachMessage: ["eachMessage", {}],
  "engine on platformatic": ["enginePlatformatic", {}],
  "platformatic's stream": ["streamLoop", {}]
} as const satisfies Record<string, readonly [SystemName, Work]>

/** the same handler, written in other ways */
const forms = {
  "engine, Effect.void": ["engine", { form: "void" }],
  "engine, Effect.gen": ["engine", { form: "gen" }],
  "engine, a promise": ["engine", { form: "promise" }]
} as const satisfies Record<string, readonly [SystemName, Work]>

export const noop: Bench = async ({ brokers, rounds, smoke }) => {
  const records = smoke ? 120_000 : 2_000_000
  const topic = freshTopic("noop")
  say(`producing ${records} records of ${recordBytes} bytes into ${partitions} partitions`)
  await produce(brokers, topic, partitions, records)
  // a tenfold loss shows without the other forms
  const all: Record<string, readonly [SystemName, Work]> = smoke ? measured : { ...measured, ...forms }
  const readings = await interleaved(Object.keys(all), rounds, async (name, round) => {
    const [system, work] = all[name]!
    const groupId = `${topic}-${Object.keys(all).indexOf(name)}-${round}`
    const reading = await read({ system, brokers, topic, groupId, records, work })
    saying(round, name, records, reading)
    return reading
  })
  const rate = ({ seconds }: Reading): number => records / seconds
  const cpu = ({ cpuMicros }: Reading): number => cpuMicros / records
  const gap = ({ gapMillis }: Reading): number => gapMillis
  const pair = (name: string, other: string, unit: string, what: (reading: Reading) => number) =>
    [
      { bench: `noop: ${name}`, unit, comparedWith: other },
      readings(name).map(what),
      readings(other).map(what)
    ] as const
  const floor = (goal: number) => atLeast(smoke ? 0.1 : goal)
  const clients = [
    ["engine", "eachBatch"],
    ["engine on platformatic", "platformatic's stream"]
  ] as const
  return [
    compare(...pair("engine", "eachBatch", "records/s", rate), floor(0.95)),
    compare(...pair("engine", "eachMessage", "records/s", rate), floor(1.4)),
    // of few records the stream has most before the clock starts
    compare(...pair("engine on platformatic", "platformatic's stream", "records/s", rate), atLeast(smoke ? 0.02 : 2.5)),
    ...clients.map(([name, other]) =>
      compare(...pair(name, other, "us of CPU a record", cpu), moreAtMost(smoke ? 20 : 0.5))
    ),
    ...clients.map(([name, other]) =>
      compare(
        ...pair(name, other, "ms, event-loop gap p99", gap),
        atMost(smoke ? 10 : 1.5),
        valueAtMost(smoke ? 500 : 10)
      )
    ),
    ...(smoke
      ? []
      : Object.keys(forms).map((form) => compare(...pair(form, "engine", "us of CPU a record", cpu), moreAtMost(3))))
  ]
}

/**
 * The clients beside each other, under the engine and alone: how fast, how late, and what a handover costs.
 *
 * - *records/s*: a topic read once, as in `noop`.
 * - *latency*: 200 records a second are written one by one; from just before its send to the handler, at one member that has them all.
 * - *handover*: then a second member joins, and later leaves in order: how late the latest record of that time was, so how long some
 *   partition stood still; and how many records were handled twice.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { createTopic, produce, recordBytes } from "./produce.ts"
import { environment, read, say } from "./read.ts"
import { atLeast, type Bench, compare, median } from "./report.ts"
import { freshTopic } from "./rounds.ts"
import type { SystemName } from "./systems.ts"
import { startWriter } from "./writer.ts"

const partitions = 12
const rate = 200

/** under the engine, and the same client alone */
const pairs = [
  ["kafkajs", "engine", "eachBatch"],
  ["platformatic", "enginePlatformatic", "stream"],
  ["platformatic, KIP-848", "enginePlatformaticConsumer", "streamConsumer"]
] as const satisfies ReadonlyArray<readonly [string, SystemName, SystemName]>

interface Live {
  readonly p50: number
  readonly p99: number
  /** the latest record, in milliseconds */
  readonly join: number
  readonly leave: number
  readonly twice: number
}

export const clients: Bench = async ({ brokers, rounds, smoke }) => {
  const records = smoke ? 120_000 : 2_000_000
  const topic = freshTopic("clients")
  process.stderr.write(`producing ${records} records of ${recordBytes} bytes into ${partitions} partitions\n`)
  await produce(brokers, topic, partitions, records)
  const systems = pairs.flatMap(([, engine, alone]) => [engine, alone])
  const rates = new Map<SystemName, Array<number>>(systems.map((system) => [system, []]))
  const lives = new Map<SystemName, Array<Live>>(systems.map((system) => [system, []]))
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < systems.length; i++) {
      const system = systems[(i + round) % systems.length]!
      const reading = await read({
        system,
        brokers,
        topic,
        groupId: `${topic}-${system}-${round}`,
        records,
        work: {}
      })
      rates.get(system)!.push(records / reading.seconds)
      let told = `round ${round + 1} ${system}: ${Math.round(records / reading.seconds)} records/s, ${(reading.cpuMicros / records).toFixed(2)} us of CPU a record`
      // of the clients alone a smoke run needs only what the engine is compared with
      if (!smoke || system.startsWith("engine")) {
        const live = await liveOf(system, brokers, `${topic}-${system}-${round}-live`, smoke ? 1_000 : 12_000)
        lives.get(system)!.push(live)
        told +=
          `; latency ${live.p50.toFixed(1)} ms, p99 ${live.p99.toFixed(1)} ms; latest at a join ${Math.round(live.join)} ms, ` +
          `at a leave ${Math.round(live.leave)} ms; ${live.twice} twice`
      }
      say(told)
    }
  }
  table(systems, rates, lives)
  return pairs.map(([client, engine, alone]) =>
    compare(
      { bench: `clients: ${client}`, unit: "records/s", comparedWith: `${alone} alone` },
      rates.get(engine)!,
      rates.get(alone)!,
      // of few records the stream has most before the clock starts
      atLeast(smoke ? 0.05 : 0.8)
    )
  )
}

const table = (
  systems: ReadonlyArray<SystemName>,
  rates: ReadonlyMap<SystemName, ReadonlyArray<number>>,
  lives: ReadonlyMap<SystemName, ReadonlyArray<Live>>
): void => {
  process.stderr.write(
    "| system | records/s | latency p50, p99 | latest record at a join | at a leave | handled twice |\n"
  )
  process.stderr.write("| --- | --- | --- | --- | --- | --- |\n")
  for (const system of systems) {
    if (lives.get(system)!.length === 0) continue
    const of = (what: keyof Live): number => median(lives.get(system)!.map((live) => live[what]))
    process.stderr.write(
      `| ${system} | ${Math.round(median(rates.get(system)!) / 1000)}k | ${of("p50").toFixed(1)} ms, ${of("p99").toFixed(1)} ms ` +
        `| ${Math.round(of("join"))} ms | ${Math.round(of("leave"))} ms | ${lives
          .get(system)!
          .map((live) => live.twice)
          .join(", ")} |\n`
    )
  }
}

interface Handled {
  readonly at: number
  readonly late: number
  readonly number: number
}

interface Member {
  readonly handled: Array<Handled>
  readonly process: ChildProcess
  readonly exit: Promise<unknown>
}

const startMember = (system: SystemName, brokers: ReadonlyArray<string>, topic: string): Member => {
  const file = fileURLToPath(new URL("live.ts", import.meta.url))
  const child = spawn(process.execPath, ["--no-warnings", file, system, brokers.join(","), topic, `${topic}-group`], {
    stdio: ["ignore", "pipe", "inherit"],
    env: environment
  })
  const handled: Array<Handled> = []
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [at, late, number] = line.split(" ").map(Number) as [number, number, number]
    handled.push({ at, late, number })
  })
  return { handled, process: child, exit: once(child, "exit") }
}

const endMember = async (member: Member): Promise<void> => {
  member.process.kill("SIGTERM")
  const ended = await Promise.race([member.exit, setTimeout(30_000, "late", { ref: false })])
  if (ended === "late") member.process.kill("SIGKILL")
}

const waitFor = async (what: string, condition: () => boolean): Promise<void> => {
  const until = Date.now() + 60_000
  while (!condition()) {
    if (Date.now() > until) throw new Error(`not within 60 seconds: ${what}`)
    await setTimeout(20)
  }
}

const liveOf = async (
  system: SystemName,
  brokers: ReadonlyArray<string>,
  topic: string,
  phase: number
): Promise<Live> => {
  await createTopic(brokers, topic, partitions)
  const writer = await startWriter(brokers, topic, partitions, rate)
  const members: Array<Member> = []
  try {
    const first = startMember(system, brokers, topic)
    members.push(first)
    await waitFor(`${system} handles`, () => first.handled.length > rate)
    const steady = Date.now()
    await setTimeout(phase)
    const joined = Date.now()
    const second = startMember(system, brokers, topic)
    members.push(second)
    await waitFor(`a second ${system} handles`, () => second.handled.length > rate / 4)
    await setTimeout(phase)
    const left = Date.now()
    await endMember(second)
    await setTimeout(phase)
    await writer.stop()
    const all = () => members.flatMap((member) => member.handled)
    // all that was written, at least once
    await waitFor(`${system} handles all`, () => new Set(all().map(({ number }) => number)).size === writer.written())
    await endMember(first)
    // by when it was written: what stands still is written long before it is handled
    const late = (from: number, to: number): ReadonlyArray<number> =>
      all()
        .filter(({ at, late }) => at - late >= from && at - late < to)
        .map(({ late }) => late)
        .sort((a, b) => a - b)
    const calm = late(steady, joined)
    const latest = (from: number, to: number): number => late(from, to).at(-1) ?? Number.NaN
    return {
      p50: calm[calm.length >> 1]!,
      p99: calm[Math.floor(calm.length * 0.99)]!,
      join: latest(joined, left),
      leave: latest(left, Number.POSITIVE_INFINITY),
      twice: all().length - writer.written()
    }
  } finally {
    await writer.stop()
    for (const member of members) if (member.process.exitCode === null) member.process.kill("SIGKILL")
  }
}

/** Runs a reader in a process of its own, and looks at what it has committed. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type { Work } from "./job.ts"
import { committed, recordBytes } from "./produce.ts"
import type { SystemName } from "./systems.ts"

export interface Task {
  readonly system: SystemName
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  /** whose handlers end */
  readonly records: number
  readonly work: Work
}

export interface Reading {
  readonly handled: number
  readonly bytes: number
  readonly seconds: number
  readonly cpuMicros: number
  /** between two turns of the event loop, the 99th percentile */
  readonly gapMillis: number
  readonly commits: number | undefined
  readonly rss: number
}

const run = promisify(execFile)

/**
 * Of all processes that are measured: Node keeps what it has compiled from one to the next, so that none has to make JavaScript of our
 * TypeScript, which costs time and memory that no user pays.
 */
export const environment: NodeJS.ProcessEnv = {
  ...process.env,
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../node_modules/.cache/compiled", import.meta.url))
}

/** A file of this folder with Node, and the JSON that it prints. */
export const child = async <A>(file: string, task: unknown, ...nodeOptions: ReadonlyArray<string>): Promise<A> => {
  const path = fileURLToPath(new URL(file, import.meta.url))
  const { stdout } = await run(process.execPath, ["--no-warnings", ...nodeOptions, path, JSON.stringify(task)], {
    timeout: 120_000,
    env: environment
  })
  return JSON.parse(stdout) as A
}

/** So many handlers have begun, and those of the task have ended. */
export const readAll = async (task: Task, began: number): Promise<Reading> => {
  const reading = await child<Reading>("reader.ts", task)
  if (reading.handled !== task.records || reading.bytes !== began * recordBytes) {
    throw new Error(`${task.system} handled ${reading.handled} records of ${task.records}`)
  }
  return reading
}

/** All records of a topic, of which all are handled and, where the engine does it, committed. */
export const read = async (task: Task): Promise<Reading> => {
  const reading = await readAll(task, task.records)
  const { brokers, groupId, topic } = task
  if (!task.system.startsWith("engine")) return reading
  const behind = (await committed(brokers, topic, groupId)).filter(({ end, offset }) => offset !== end)
  if (behind.length > 0) throw new Error(`${task.system} has not committed the ends: ${JSON.stringify(behind)}`)
  return reading
}

/** For the eyes of whoever waits. */
export const say = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

export const saying = (round: number, name: string, records: number, reading: Reading): void =>
  say(
    `round ${round + 1} ${name}: ${Math.round(records / reading.seconds)} records/s, ` +
      `${(reading.cpuMicros / records).toFixed(2)} us of CPU a record, gap p99 ${reading.gapMillis.toFixed(1)} ms, ` +
      `${Math.round(reading.rss / 1048576)} MB${reading.commits === undefined ? "" : `, ${reading.commits} commits`}`
  )

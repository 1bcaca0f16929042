/** Runs a reader in a process of its own. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { recordBytes } from "./produce.ts"
import type { SystemName } from "./systems.ts"

export interface Reading {
  readonly records: number
  readonly bytes: number
  readonly seconds: number
  readonly cpuMicros: number
  readonly commits: number | undefined
  readonly rss: number
}

export const read = async (
  system: SystemName,
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

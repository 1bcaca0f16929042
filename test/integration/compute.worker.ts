/** Computes as long as its record says, without a pause. */
import type { WorkerRecord } from "@concurrent-kafka/workers"
import { Buffer } from "node:buffer"

export const handler = (record: WorkerRecord): number => {
  const end = performance.now() + Number(Buffer.from(record.value ?? []).toString())
  let turns = 0
  while (performance.now() < end) turns += JSON.stringify({ turns }).length
  return turns
}

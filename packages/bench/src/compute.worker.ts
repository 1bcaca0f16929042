/** A handler that needs a CPU for as many milliseconds as its record says. */
import type { WorkerRecord } from "@concurrent-kafka/workers"

export const handler = (record: Pick<WorkerRecord, "value">): void => {
  const end = performance.now() + (record.value?.[0] ?? 0)
  let turns = 0
  while (performance.now() < end) turns += JSON.stringify({ turns }).length
}

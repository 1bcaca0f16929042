/** What runs on the threads: a request's cover. */
import type { WorkerRecord } from "@concurrent-kafka/workers"
import { Schema } from "effect"
import { drawCover } from "./cover.ts"
import { CoverRequest } from "./events.ts"

const read = Schema.decodeUnknownSync(Schema.fromJsonString(CoverRequest))

export const handler = ({ value }: WorkerRecord): Uint8Array => {
  const { task_id, width } = read(new TextDecoder().decode(value ?? new Uint8Array()))
  return drawCover(task_id, width)
}

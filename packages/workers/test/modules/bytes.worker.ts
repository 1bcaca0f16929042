/** Answers with a part of what it keeps. */
import type { WorkerRecord } from "../../src/WorkerModule.ts"

const kept = new Uint8Array(1024 * 1024).fill(7)

export const handler = (record: WorkerRecord): Uint8Array => kept.subarray(0, Number(record.offset))

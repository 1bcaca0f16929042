/** Whatever its thread is sent ends it before a job can begin. */
import { parentPort } from "node:worker_threads"

parentPort?.on("message", () => process.exit(9))

export const handler = (): number => 1

/**
 * A thread that runs the histories it is told to.
 */
import { parentPort } from "node:worker_threads"
import { runHistory } from "./history.ts"
import type { Task } from "./pool.ts"

const port = parentPort!
port.on("message", (task: Task) => {
  void runHistory(task.seed, task).then((result) => port.postMessage(result))
})

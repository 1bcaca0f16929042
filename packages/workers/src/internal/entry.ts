/**
 * The program of a worker thread: loads the module that it is told of, says so, and runs one job after another.
 *
 * Nothing that a job throws ends the thread; what its module does beside its jobs may.
 */
import * as NodeWorkerRunner from "@effect/platform-node/NodeWorkerRunner"
import * as Effect from "effect/Effect"
import * as WorkerRunner from "effect/workers/WorkerRunner"
import { workerData } from "node:worker_threads"
import { Jobs } from "./jobs.ts"
import { load } from "./load.ts"
import type { Order, Reply, ThreadData } from "./wire.ts"

const { begun, href }: ThreadData = workerData

const main = Effect.gen(function* () {
  const platform = yield* WorkerRunner.WorkerRunnerPlatform
  const runner = yield* platform.start<Reply, Order>()
  const { module, reply } = yield* Effect.promise(() => load(href))
  // before it is listened here: orders wait in the port until then
  runner.sendUnsafe(0, reply)
  if (module === undefined) return
  const jobs = new Jobs(module, begun, (answer, transfer) => runner.sendUnsafe(0, answer, transfer))
  yield* runner.run<void, never, never>((_, order) => jobs.receive(order))
}).pipe(Effect.provide(NodeWorkerRunner.layer))

void Effect.runFork(main)

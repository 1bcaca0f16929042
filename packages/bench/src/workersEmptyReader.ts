/** One process that hands records of 100 bytes to a thread that does nothing with them: workersEmptyReader.ts <task as JSON> */
import { WorkerPool } from "@concurrent-kafka/workers"
import { Effect } from "effect"
import type * as Empty from "./empty.worker.ts"
import type { EmptyReading, EmptyTask } from "./workers.ts"

const { records } = JSON.parse(process.argv[2]!) as EmptyTask

const record = {
  topic: "memory",
  partition: 0,
  offset: 1n,
  timestamp: 0n,
  key: new TextEncoder().encode("customer-1"),
  value: new Uint8Array(100),
  headers: [],
  attempt: 1,
  groupId: "bench",
  epoch: 1,
  generation: 1
}

const micros = <E>(concurrency: number, handle: Effect.Effect<unknown, E>, times: number) =>
  Effect.suspend(() => {
    const began = performance.now()
    return Effect.as(
      Effect.forEach(Array.from({ length: times }), () => handle, { concurrency, discard: true }),
      // read when they are through
      () => ((performance.now() - began) / times) * 1000
    )
  }).pipe(Effect.map((took) => took()))

const program = Effect.gen(function* () {
  const began = performance.now()
  const { handle } = yield* WorkerPool.make<typeof Empty>({
    module: new URL("./empty.worker.ts", import.meta.url),
    size: 1
  })
  const startMillis = performance.now() - began
  const job = handle(record)
  yield* micros(100, job, records / 4)
  const reading: EmptyReading = {
    startMillis,
    alone: yield* micros(1, job, records),
    together: yield* micros(100, job, records)
  }
  process.stdout.write(JSON.stringify(reading))
})

await Effect.runPromise(Effect.scoped(program))

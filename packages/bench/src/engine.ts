/** This library: commits are on, and health and snapshot are read each second, as a probe and a scrape do. */
import { ConcurrentConsumer, Handler } from "@concurrent-kafka/core"
import type { Delivery, InvalidOptions, KafkaClient, KafkaClientError } from "@concurrent-kafka/core"
import { Deferred, Effect, Fiber, Layer } from "effect"
import type { Job, Work } from "./job.ts"

export type Make = (job: Job) => (record: Delivery) => Effect.Effect<void>

const fnUntraced: Make = ({ began, ended, work }) => {
  const suspends = work.form === "yields"
  return Effect.fnUntraced(function* (record) {
    began(record.value, record.partition)
    if (suspends) yield* Effect.yieldNow
    ended()
  })
}

/** The handlers of the benches. `void`, `gen` and `promise` do what `fnUntraced` does, and are there to be compared with it. */
export const handlers: Readonly<Record<NonNullable<Work["form"]>, Make>> = {
  fnUntraced,
  yields: fnUntraced,
  void:
    ({ began, ended }) =>
    (record) => {
      began(record.value, record.partition)
      ended()
      return Effect.void
    },
  gen:
    ({ began, ended, work }) =>
    (record) =>
      Effect.gen(function* () {
        began(record.value, record.partition)
        if (work.form === "yields") yield* Effect.yieldNow
        ended()
      }),
  promise:
    ({ began, ended }) =>
    (record) =>
      Effect.promise(async () => {
        began(record.value, record.partition)
        ended()
      }),
  sleeps: ({ began, ended, work }) =>
    Effect.fnUntraced(function* (record) {
      began(record.value, record.partition)
      yield* Effect.sleep(work.millis ?? 0)
      ended()
    }),
  /** the first record of partition 0 never ends */
  hangs: ({ began, ended }) =>
    Effect.fnUntraced(function* (record) {
      began(record.value, record.partition)
      if (record.partition === 0 && record.offset === 0n) return yield* Effect.never
      ended()
    })
}

/** On any client. */
export const engineOn = (
  job: Job,
  client: Layer.Layer<KafkaClient, KafkaClientError | InvalidOptions>,
  make = handlers[job.work.form ?? "fnUntraced"]
): Promise<{ readonly commits: number }> =>
  Effect.runPromise(
    Effect.gen(function* () {
      const consumer = yield* ConcurrentConsumer
      const ended = yield* Deferred.make<void>()
      void job.done.then(() => Effect.runSync(Deferred.succeed(ended, undefined)))
      const handler = Handler.make(job.topic, make(job))
      yield* Effect.sleep("1 second").pipe(
        Effect.andThen(consumer.health),
        Effect.andThen(consumer.snapshot),
        Effect.forever,
        Effect.forkScoped
      )
      const run = yield* Effect.forkScoped(consumer.run(handler))
      yield* Effect.raceFirst(Deferred.await(ended), Fiber.join(run))
      const { commits } = yield* consumer.snapshot
      yield* consumer.flush
      return { commits: commits.ok }
    }).pipe(
      Effect.scoped,
      Effect.provide(
        ConcurrentConsumer.layer({
          groupId: job.groupId,
          topics: [job.topic],
          concurrency: job.work.concurrency ?? 100,
          ordering: job.work.ordering ?? "unordered",
          ...(job.work.groupProtocol === undefined ? {} : { groupProtocol: job.work.groupProtocol }),
          ...(job.work.maxHeldRecords === undefined ? {} : { maxHeldRecords: job.work.maxHeldRecords })
        }).pipe(Layer.provide(client))
      )
    )
  )

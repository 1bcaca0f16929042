/**
 * One process that reads a topic once with one system and prints what it took: reader.ts <system> <brokers> <topic> <groupId> <records>
 *
 * The clock runs from the first record to the last one, as the handler sees them; then the system closes as it is meant to, so that
 * its last commit is made.
 */
import { ConcurrentConsumer, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Deferred, Effect, Layer } from "effect"
import kafkajs from "kafkajs"

const [system, brokerList, topic, groupId, wanted] = process.argv.slice(2) as [string, string, string, string, string]
const brokers = brokerList.split(",")
const records = Number(wanted)

let handled = 0
let bytes = 0
let began: { readonly at: bigint; readonly cpu: NodeJS.CpuUsage } | undefined
let took: { readonly seconds: number; readonly cpuMicros: number } | undefined
let whenDone: () => void
const allDone = new Promise<void>((resolve) => {
  whenDone = resolve
})

/** the handler's work: it counts */
const handle = (value: Uint8Array | null): void => {
  if (began === undefined) began = { at: process.hrtime.bigint(), cpu: process.cpuUsage() }
  bytes += value?.length ?? 0
  if (++handled !== records) return
  const cpu = process.cpuUsage(began.cpu)
  took = { seconds: Number(process.hrtime.bigint() - began.at) / 1e9, cpuMicros: cpu.user + cpu.system }
  whenDone()
}

/** this library: commits on, health and snapshot there */
const engine =
  (ordering: "unordered" | "key", suspends: boolean): (() => Promise<{ readonly commits: number }>) =>
  () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const consumer = yield* ConcurrentConsumer
        const done = yield* Deferred.make<void>()
        void allDone.then(() => Effect.runSync(Deferred.succeed(done, undefined)))
        const handler = Handler.make(
          topic,
          Effect.fnUntraced(function* (record) {
            if (suspends) yield* Effect.yieldNow
            handle(record.value)
          })
        )
        yield* Effect.forkScoped(consumer.run(handler))
        yield* Deferred.await(done)
        yield* consumer.flush
        const snapshot = yield* consumer.snapshot
        return { commits: snapshot.commits.ok }
      }).pipe(
        Effect.scoped,
        Effect.provide(
          ConcurrentConsumer.layer({ groupId, topics: [topic], concurrency: 100, ordering }).pipe(
            Layer.provide(KafkaJs.layer({ brokers }))
          )
        )
      )
    )

const systems: Record<string, () => Promise<{ readonly commits: number | undefined }>> = {
  engine: engine("unordered", false),
  engineKey: engine("key", false),
  engineSuspends: engine("unordered", true),
  engineKeySuspends: engine("key", true),
  eachMessage: () =>
    raw({
      eachMessage: async ({ message }) => {
        handle(message.value)
      }
    }),
  eachBatch: () =>
    raw({
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) handle(message.value)
      }
    })
}

const raw = async (config: kafkajs.ConsumerRunConfig): Promise<{ readonly commits: undefined }> => {
  const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 250 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommit: true, ...config })
  await allDone
  await consumer.disconnect()
  return { commits: undefined }
}

const result = await systems[system]!()
process.stdout.write(
  `${JSON.stringify({
    system,
    records: handled,
    bytes,
    ...took,
    commits: result.commits,
    rss: process.resourceUsage().maxRSS * 1024
  })}\n`
)
process.exit(0)

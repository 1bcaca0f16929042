/**
 * What is measured: this library on each of its clients, and each client alone, as its own documents would have it used. Bare clients
 * commit what they have fetched and handle one record at a time.
 */
import { ConcurrentConsumer, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Platformatic } from "@concurrent-kafka/platformatic"
import { Consumer } from "@platformatic/kafka"
import { Deferred, Effect, Layer } from "effect"
import kafkajs from "kafkajs"

export interface Job {
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  /** the handler's work */
  readonly handle: (value: Uint8Array | null, partition: number) => void
  /** then the system closes, as it is meant to, so that its last commit is made */
  readonly done: Promise<void>
}

export type System = (job: Job) => Promise<{ readonly commits: number | undefined }>

/** This library: commits on, health and snapshot there. */
const engine =
  (
    client: "kafkajs" | "platformatic",
    {
      groupProtocol = "classic",
      ordering = "unordered",
      suspends = false
    }: {
      readonly ordering?: "unordered" | "key"
      readonly suspends?: boolean
      readonly groupProtocol?: "classic" | "consumer"
    } = {}
  ): System =>
  ({ brokers, done, groupId, handle, topic }) =>
    Effect.runPromise(
      Effect.gen(function* () {
        const consumer = yield* ConcurrentConsumer
        const ended = yield* Deferred.make<void>()
        void done.then(() => Effect.runSync(Deferred.succeed(ended, undefined)))
        const handler = Handler.make(
          topic,
          Effect.fnUntraced(function* (record) {
            if (suspends) yield* Effect.yieldNow
            handle(record.value, record.partition)
          })
        )
        yield* Effect.forkScoped(consumer.run(handler))
        yield* Deferred.await(ended)
        yield* consumer.flush
        const snapshot = yield* consumer.snapshot
        return { commits: snapshot.commits.ok }
      }).pipe(
        Effect.scoped,
        Effect.provide(
          ConcurrentConsumer.layer({ groupId, topics: [topic], concurrency: 100, ordering, groupProtocol }).pipe(
            Layer.provide(client === "kafkajs" ? KafkaJs.layer({ brokers }) : Platformatic.layer({ brokers }))
          )
        )
      )
    )

const plain = async (
  { brokers, done, groupId, topic }: Job,
  config: kafkajs.ConsumerRunConfig
): Promise<{ readonly commits: undefined }> => {
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 250 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommit: true, ...config })
  await done
  await consumer.disconnect()
  return { commits: undefined }
}

const stream =
  (groupProtocol: "classic" | "consumer"): System =>
  async ({ brokers, done, groupId, handle, topic }) => {
    const consumer = new Consumer({
      clientId: "bench",
      bootstrapBrokers: [...brokers],
      groupId,
      groupProtocol,
      autocommit: true,
      maxWaitTime: 250
    })
    const messages = await consumer.consume({ topics: [topic], mode: "committed", fallbackMode: "earliest" })
    messages.on("data", (message) => {
      handle(message.value, message.partition)
    })
    await done
    await messages.close()
    await consumer.close()
    return { commits: undefined }
  }

export const systems = {
  engine: engine("kafkajs"),
  engineKey: engine("kafkajs", { ordering: "key" }),
  engineSuspends: engine("kafkajs", { suspends: true }),
  engineKeySuspends: engine("kafkajs", { ordering: "key", suspends: true }),
  enginePlatformatic: engine("platformatic"),
  enginePlatformaticConsumer: engine("platformatic", { groupProtocol: "consumer" }),
  eachMessage: (job) =>
    plain(job, {
      eachMessage: async ({ message, partition }) => {
        job.handle(message.value, partition)
      }
    }),
  eachBatch: (job) =>
    plain(job, {
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) job.handle(message.value, batch.partition)
      }
    }),
  stream: stream("classic"),
  streamConsumer: stream("consumer")
} satisfies Record<string, System>

export type SystemName = keyof typeof systems

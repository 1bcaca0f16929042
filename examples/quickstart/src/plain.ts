/** A real Kafka through plain kafkajs: topics, records, the loop to compare with, and the second opinion about offsets. */
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Effect, Schedule } from "effect"
import type { Scope } from "effect"
import kafkajs from "kafkajs"
import { setTimeout as sleep } from "node:timers/promises"
import { type Cluster, handlerMillis, type Job, newRecord, type Offsets, partitions, Stopwatch } from "./cluster.ts"
import { type DemoError, failedAt } from "./error.ts"

const recordsPerRequest = 1000

const promise = <A>(what: string, run: () => Promise<A>) => Effect.tryPromise({ try: run, catch: failedAt(what) })

export const plainCluster = (brokers: ReadonlyArray<string>): Cluster => {
  const kafka = new kafkajs.Kafka({ clientId: "quickstart", brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })

  const connected = <A extends { connect: () => Promise<void>; disconnect: () => Promise<void> }>(
    make: () => A
  ): Effect.Effect<A, DemoError, Scope.Scope> =>
    Effect.gen(function* () {
      const client = make()
      yield* Effect.addFinalizer(() => Effect.promise(() => client.disconnect().catch(() => undefined)))
      yield* promise(`no connection to ${brokers.join(", ")}`, () => client.connect())
      return client
    })
  const admin = connected(() => kafka.admin())

  return {
    client: KafkaJs.layer({ brokers }),
    createTopic: (topic) =>
      Effect.flatMap(admin, (client) =>
        Effect.andThen(
          promise("the topic could not be created", () =>
            client.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: false })
          ),
          // a broker hears of a topic a moment after it was created; kafkajs's own wait for that fails when it is asked too early
          promise("the topic was created and is not there", () => client.fetchTopicMetadata({ topics: [topic] })).pipe(
            Effect.retry(Schedule.upTo(Schedule.spaced("50 millis"), { times: 200 }))
          )
        )
      ).pipe(Effect.scoped, Effect.asVoid),
    produce: (topic, records) =>
      Effect.gen(function* () {
        const producer = yield* connected(() =>
          kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
        )
        for (let from = 0; from < records; from += recordsPerRequest) {
          const count = Math.min(recordsPerRequest, records - from)
          const messages = Array.from({ length: count }, (_, index) => newRecord(from + index))
          yield* promise("the records could not be written", () => producer.send({ topic, messages }))
        }
      }).pipe(Effect.scoped),
    oneAtATimeWith: "kafkajs eachMessage",
    oneAtATime: (job) =>
      Effect.gen(function* () {
        const consumer = yield* connected(() =>
          kafka.consumer({ groupId: job.group, maxWaitTimeInMs: 250, heartbeatInterval: 1000 })
        )
        return yield* promise("kafkajs eachMessage", () => eachMessage(consumer, job))
      }).pipe(Effect.scoped),
    checkedBy: "a client of its own (kafkajs admin)",
    offsets: (topic, group) =>
      Effect.flatMap(admin, (client) =>
        promise("the offsets could not be read", async (): Promise<ReadonlyArray<Offsets>> => {
          const log = await client.fetchTopicOffsets(topic)
          const [found] = await client.fetchOffsets({ groupId: group, topics: [topic] })
          return log
            .map(({ high, low, partition }) => {
              const offset = found?.partitions.find((p) => p.partition === partition)?.offset ?? "-1"
              return {
                partition,
                start: BigInt(low),
                end: BigInt(high),
                committed: BigInt(offset) < 0n ? undefined : BigInt(offset)
              }
            })
            .sort((a, b) => a.partition - b.partition)
        })
      ).pipe(
        Effect.scoped,
        // a broker that has just started is still reading what groups have committed
        Effect.retry(Schedule.upTo(Schedule.spaced("200 millis"), { times: 50 }))
      )
  }
}

const eachMessage = async (consumer: kafkajs.Consumer, { progress, records, topic }: Job): Promise<number> => {
  const watch = new Stopwatch()
  let done = 0
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await new Promise<void>((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) reject(payload.error)
    })
    const run = consumer.run({
      eachMessage: async () => {
        if (done === records) return
        watch.begin()
        await sleep(handlerMillis)
        watch.end()
        progress(++done)
        if (done === records) resolve()
      }
    })
    run.catch(reject)
  })
  return watch.seconds
}

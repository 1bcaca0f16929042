/**
 * Makes the topics of this service, with those of its dead letters, where they are not there. The library makes no topics: in production
 * they have an owner, who knows how many partitions and replicas they need.
 */
import { Effect, Schema } from "effect"
import kafkajs from "kafkajs"

class TopicsNotMade extends Schema.TaggedError<TopicsNotMade>()("TopicsNotMade", { cause: Schema.Defect() }) {
  override get message() {
    return `the topics could not be made: ${String(this.cause)}`
  }
}

/** kafkajs by itself sets timers in the past, and Node warns of it. They do no harm: the timer fires at once. */
const ignoreNegativeTimeouts = () => {
  const printers = process.listeners("warning")
  process.removeAllListeners("warning")
  process.on("warning", (warning) => {
    if (warning.name !== "TimeoutNegativeWarning") for (const print of printers) print(warning)
  })
}

export const createTopics = (
  brokers: ReadonlyArray<string>,
  names: ReadonlyArray<string>,
  options: { readonly partitions: number; readonly replicas: number }
) =>
  Effect.tryPromise({
    try: async () => {
      ignoreNegativeTimeouts()
      const admin = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }).admin()
      await admin.connect()
      try {
        await admin.createTopics({
          topics: names.map((topic) => ({
            topic,
            numPartitions: options.partitions,
            replicationFactor: options.replicas
          })),
          // not with kafkajs's own wait, which fails when a broker has not heard of a topic yet
          waitForLeaders: false
        })
      } finally {
        await admin.disconnect()
      }
    },
    catch: (cause) => new TopicsNotMade({ cause })
  })

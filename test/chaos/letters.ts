/** Reads a dead-letter topic to its end with a plain client. */
import { Effect } from "effect"
import { Kafka as KafkaJs, logLevel } from "kafkajs"
import * as Outside from "../integration/outside.ts"
import * as Records from "./records.ts"

export interface Letter {
  readonly log: string
  readonly record: number
  readonly kind: string
  /** of the record that failed */
  readonly partition: number
  readonly offset: number
  /** the broker's time of day */
  readonly at: number
}

const numberIn = (header: unknown): number =>
  Buffer.isBuffer(header) || typeof header === "string" ? Number(header.toString()) : Number.NaN

export const readLetters = Effect.fnUntraced(function* (brokers: ReadonlyArray<string>, topic: string) {
  const outside = yield* Outside.connect(brokers)
  const ends = yield* Effect.orDie(outside.ends(topic))
  const total = [...ends.values()].reduce((sum, end) => sum + Number(end), 0)
  const letters: Array<Letter> = []
  if (total === 0) return letters
  const client = new KafkaJs({ clientId: "letters", brokers: [...brokers], logLevel: logLevel.NOTHING })
  const consumer = yield* Effect.acquireRelease(
    Effect.sync(() => client.consumer({ groupId: Outside.fresh("letters"), maxWaitTimeInMs: 100 })),
    (open) => Effect.promise(() => open.disconnect().catch(() => undefined))
  )
  yield* Effect.promise(() => consumer.connect())
  yield* Effect.promise(() => consumer.subscribe({ topic, fromBeginning: true }))
  yield* Effect.callback<void>((resume) => {
    consumer
      .run({
        eachMessage: ({ message: { headers = {}, timestamp, value } }) => {
          const { kind, log, record } = Records.decode(value)
          const partition = numberIn(headers["x-dead-letter-partition"])
          const offset = numberIn(headers["x-dead-letter-offset"])
          letters.push({ log, record, kind, partition, offset, at: Number(timestamp) })
          if (letters.length === total) resume(Effect.void)
          return Promise.resolve()
        }
      })
      .catch((error: unknown) => resume(Effect.die(error)))
  })
  return letters
}, Effect.scoped)

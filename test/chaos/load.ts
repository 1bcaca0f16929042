/** Writes records at a rate, and into the ledger which of them the broker has acknowledged. */
import type { KafkaProducer } from "@concurrent-kafka/core"
import { Effect, Exit } from "effect"
import type { Prng } from "@concurrent-kafka/testing/Prng"
import type { DatabaseSync } from "node:sqlite"
import * as Ledger from "./ledger.ts"
import * as Records from "./records.ts"

export interface LoadOptions {
  readonly log: string
  readonly perSecond: number
  /** of so many keys */
  readonly keys: number
  /** how long a handler takes, in milliseconds, at least and at most */
  readonly millis: readonly [least: number, most: number]
  /** default: all of them work */
  readonly kindOf?: (record: number) => Records.Kind
  /** of the value, at least */
  readonly bytes?: number
}

export const makeLoad = (db: DatabaseSync, topic: string, producer: KafkaProducer["Service"], chance: Prng) => {
  const sql = Ledger.statements(db)
  let next = 0

  /** Not interrupted before the broker has said what became of them. */
  const send = (count: number, { bytes, keys, kindOf, log, millis: [least, most] }: Omit<LoadOptions, "perSecond">) =>
    Effect.uninterruptible(
      Effect.gen(function* () {
        const batch = Array.from({ length: count }, () => {
          const record = ++next
          const order = {
            log,
            record,
            kind: kindOf?.(record) ?? "work",
            millis: chance.int(least, most)
          } as const
          const key = `k${chance.int(0, keys - 1)}`
          sql("INSERT INTO produced VALUES (?,?,?,?,NULL)").run(record, log, key, order.kind)
          return { topic, key: Buffer.from(key), value: Records.encode(order, bytes), record }
        })
        const exit = yield* Effect.exit(producer.send(batch))
        if (Exit.isFailure(exit)) return false
        const at = Ledger.now()
        for (const { record } of batch) sql("UPDATE produced SET acknowledged = ? WHERE record = ?").run(at, record)
        return true
      })
    )

  /** Until it is interrupted. */
  const run = (options: LoadOptions): Effect.Effect<never> =>
    Effect.gen(function* () {
      const every = 100
      let due = Ledger.now()
      while (true) {
        yield* send(Math.max(1, Math.round((options.perSecond * every) / 1000)), options)
        // what could not be sent in time is not made up for
        due = Math.max(due + every, Ledger.now())
        yield* Effect.sleep(due - Ledger.now())
      }
    })

  return { send, run }
}

/**
 * One key holds a fifth of all records, and each handler takes a while: how long do the other keys take?
 *
 * What they have to wait for at most: the partition of the hot key holds so many records (`maxHeldRecords`, of which one partition of
 * several takes half), and when all of these are the hot key's, the next record comes in when one of them has gone. So the last record of
 * another key in that partition comes in when the hot key has all but that many of its records before it behind it. The rate of the hot
 * key is one handler after another, as measured in the same run.
 */
import { ConcurrentConsumer, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Deferred, Effect, Layer } from "effect"
import { produce } from "./produce.ts"
import { atLeast, type Bench, compare } from "./report.ts"
import { freshTopic } from "./rounds.ts"

const partitions = 12
const keys = 10_000
const concurrency = 50
const handlerMillis = 1
const maxHeldRecords = 20_000

export const skew: Bench = async (options) => {
  const records = options.smoke ? 20_000 : 200_000
  const held = options.smoke ? maxHeldRecords / 10 : maxHeldRecords
  const hotKey = Buffer.from("hot")
  const topic = freshTopic("skew")
  await produce(options.brokers, topic, partitions, records, {
    keyed: (i) =>
      i % 5 === 0
        ? { key: hotKey, partition: 0 }
        : { key: Buffer.from(`customer-${i % keys}`), partition: (i % keys) % partitions }
  })
  const hot = Math.ceil(records / 5)
  const bounds: Array<number> = []
  const seen: Array<number> = []
  for (let round = 0; round < Math.min(options.rounds, options.smoke ? 1 : 3); round++) {
    let hotDone = 0
    let othersDone = 0
    let began = 0
    let othersSeconds = 0
    let hotSeconds = 0
    await Effect.runPromise(
      Effect.gen(function* () {
        const consumer = yield* ConcurrentConsumer
        const done = yield* Deferred.make<void>()
        const handler = Handler.make(
          topic,
          Effect.fnUntraced(function* (record) {
            if (began === 0) began = performance.now()
            yield* Effect.sleep(handlerMillis)
            const seconds = (performance.now() - began) / 1000
            if (record.key?.byteLength === hotKey.byteLength) {
              hotDone++
              hotSeconds = seconds
            } else if (++othersDone === records - hot) othersSeconds = seconds
            if (hotDone + othersDone === records) yield* Deferred.succeed(done, undefined)
          })
        )
        yield* Effect.forkScoped(consumer.run(handler))
        yield* Deferred.await(done)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          ConcurrentConsumer.layer({
            groupId: `${topic}-${round}`,
            topics: [topic],
            concurrency,
            ordering: "key",
            maxHeldRecords: held
          }).pipe(Layer.provide(KafkaJs.layer({ brokers: options.brokers })))
        )
      )
    )
    // all others, were there no hot key: by their permits
    const byPermits = ((records - hot) * (hotSeconds / hot)) / (concurrency - 1)
    const byHeld = Math.max(0, hot - held / 2) * (hotSeconds / hot)
    const bound = Math.max(byPermits, byHeld)
    bounds.push((records - hot) / bound)
    seen.push((records - hot) / othersSeconds)
    process.stderr.write(
      `round ${round + 1}: hot key ${hot} records in ${hotSeconds.toFixed(1)} s; the others ${records - hot} in ${othersSeconds.toFixed(1)} s; ` +
        `bound ${bound.toFixed(1)} s (by held records ${byHeld.toFixed(1)} s, by permits ${byPermits.toFixed(1)} s)\n`
    )
  }
  return [
    compare(
      { bench: "skew", unit: "records/s of other keys", comparedWith: "what held records allow" },
      seen,
      bounds,
      atLeast(options.smoke ? 0.5 : 0.9)
    )
  ]
}

/** Suite: the engine on a real broker, where what it does at a start or an end depends on the client. */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Handler } from "@concurrent-kafka/core/Handler"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import { type Client, suiteOf } from "../client.ts"
import { numbers, unique, until } from "../members.ts"
import { world } from "../operator.ts"

export const engine = (client: Client): void => {
  const brokers = inject("brokers")

  suiteOf(client, "the engine on a real broker", () => {
    layer(client.layer({ brokers }), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect(
        "what one has read from the latest and not finished is handled by the next: the start was committed",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(1)
            yield* kafka.send(topic, 0, numbers(0, 100))
            const groupId = unique("group")
            /** Handles until `enough`; none of it is done unless `finish`. */
            const life = (
              finish: boolean,
              enough: (begun: ReadonlyArray<string>) => boolean,
              assigned: Effect.Effect<void>
            ) =>
              Effect.gen(function* () {
                const begun: Array<string> = []
                const consumer = yield* ConcurrentConsumer
                const handler = Handler.make(topic, ({ value }) => {
                  begun.push(Buffer.from(value!).toString())
                  return finish ? Effect.void : Effect.never
                })
                yield* Effect.forkScoped(consumer.run(handler))
                yield* assigned
                yield* until("the records", () => enough(begun))
                return begun
              }).pipe(
                Effect.provide(
                  ConcurrentConsumer.layer({ groupId, topics: [topic], startFrom: "latest", interruptGrace: 200 })
                ),
                Effect.scoped
              )
            const started = Effect.gen(function* () {
              while ((yield* kafka.committed(groupId, { topic, partition: 0 }))?.offset !== "100")
                yield* Effect.sleep(20)
              yield* kafka.send(topic, 0, numbers(100, 110))
            })
            const wanted = numbers(100, 110)
            const all = (begun: ReadonlyArray<string>) => begun.length === 10
            assert.deepStrictEqual(yield* life(false, all, started), wanted)
            assert.deepStrictEqual(yield* life(true, all, Effect.void), wanted)
            assert.strictEqual((yield* kafka.committed(groupId, { topic, partition: 0 }))?.offset, "110")
          })
      )
    })
  })
}

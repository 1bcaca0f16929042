/**
 * Contract: what the engine makes of a client where a start, or an end, is at stake.
 */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Handler } from "@concurrent-kafka/core/Handler"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { range, type Suite, valueOf } from "./kit.ts"

export const engine = <R>(suite: Suite<R>): void => {
  const { fill, fresh, it, membership, patience, topic: newTopic, until, untilCommitted } = suite

  it.effect(
    "what one has read from the latest and not finished is handled by the next: the start was committed",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 100)
        const groupId = yield* fresh("group")
        const options = { ...membership, groupId, topics: [topic], startFrom: "latest" } as const
        /** Handles ten records; none of it is done unless `finish`. */
        const life = (finish: boolean, meanwhile: Effect.Effect<void, unknown, R>) =>
          Effect.gen(function* () {
            const begun: Array<string> = []
            const consumer = yield* ConcurrentConsumer
            const handler = Handler.make(topic, (delivery) => {
              begun.push(valueOf(delivery))
              return finish ? Effect.void : Effect.never
            })
            yield* Effect.forkScoped(consumer.run(handler))
            yield* meanwhile
            yield* until("the records have come", () => begun.length === 10)
            return begun
          }).pipe(
            Effect.provide(ConcurrentConsumer.layer({ ...options, interruptGrace: 200, revokeDrain: 200 })),
            Effect.scoped
          )
        const sendWhenStarted = Effect.andThen(untilCommitted(groupId, topic, 0, 100n), fill(topic, 0, 100, 110))
        const wanted = range(100, 110).map((i) => `0:${i}`)
        assert.deepStrictEqual(yield* life(false, sendWhenStarted), wanted)
        assert.deepStrictEqual(yield* life(true, Effect.void), wanted)
        yield* untilCommitted(groupId, topic, 0, 110n)
      }),
    patience * 2
  )
}

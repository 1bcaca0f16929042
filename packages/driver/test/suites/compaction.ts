/** Suite: what compaction has left of a log. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import { type Client, type GroupProtocol, suiteIn } from "../client.ts"
import { join, settingsOf, unique, until } from "../members.ts"
import { world } from "../operator.ts"

export const compaction = (client: Client, groupProtocol: GroupProtocol = "classic"): void => {
  const brokers = inject("brokers")

  suiteIn(client, groupProtocol, "a compacted log on a real broker", () => {
    layer(client.layer({ brokers }), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("a compacted tail is passed in one step", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(1, {
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.0001",
            "min.compaction.lag.ms": "0",
            "max.compaction.lag.ms": "200",
            "delete.retention.ms": "0"
          })
          const producer = yield* kafka.producer()
          // one batch of 500 of which only the first stays, and a last record in a segment of its own
          const same = Array.from({ length: 499 }, (_, i) => ({ partition: 0, key: "again", value: String(i) }))
          yield* kafka.promise(() =>
            producer.send({ topic, messages: [{ partition: 0, key: "first", value: "1" }, ...same] })
          )
          yield* Effect.sleep(200)
          yield* kafka.promise(() =>
            producer.send({ topic, messages: [{ partition: 0, key: "again", value: "last" }] })
          )
          yield* Effect.sleep(200)
          yield* kafka.promise(() => producer.send({ topic, messages: [{ partition: 0, key: "end", value: "end" }] }))
          const read = Effect.gen(function* () {
            const member = yield* join(settingsOf(unique("group"), [topic], { groupProtocol }))
            yield* until("the end", () => member.values().includes("end"))
            return member
          })
          let member = yield* read
          for (let i = 0; i < 40 && member.records.length > 3; i++) {
            yield* Effect.sleep(500)
            member = yield* read
          }
          assert.deepStrictEqual(member.values(), ["1", "last", "end"])
          assert.isAtMost(member.of("Chunk").length, 3)
        }).pipe(Effect.timeout("50 seconds"))
      )
    })
  })
}

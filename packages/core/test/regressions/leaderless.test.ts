import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { LogOffsets, Session } from "../../src/ConsumerSession.ts"
import { KafkaClientError } from "../../src/KafkaClient.ts"
import { pass } from "../harness.ts"
import { scripted } from "../script.ts"

describe("a partition without a leader, or of a deleted topic, among those that are to be opened", () => {
  it.effect("keeps only itself from opening, and opens when it can be asked", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      let leaderless = true
      // a client answers for all of them, or fails
      const logOffsets: Session["logOffsets"] = (partitions) =>
        Effect.suspend((): Effect.Effect<ReadonlyArray<LogOffsets>, KafkaClientError> =>
          leaderless && partitions.some(({ partition }) => partition === 1)
            ? Effect.fail(new KafkaClientError({ reason: "Connection", detail: "no leader" }))
            : Effect.succeed(partitions.map(({ partition, topic }) => ({ topic, partition, start: 3n, end: 9n })))
        )
      Object.assign(s.session.session, { logOffsets })
      yield* s.session.assign([0, 1, 2].map((partition) => ({ partition, epoch: 1 })))
      yield* pass(100)
      assert.deepStrictEqual(s.session.begun, ["0#1@3", "2#1@3"])
      assert.deepStrictEqual(s.session.commits, ["0=3", "2=3"])
      const opening = (yield* s.consumer.health).reasons.find(({ code }) => code === "opening")
      assert.deepStrictEqual([opening?.count, opening?.at], [1, { topic: "t", partition: 1 }])
      leaderless = false
      yield* pass(1000)
      assert.deepStrictEqual(s.session.begun, ["0#1@3", "2#1@3", "1#1@3"])
    })
  )
})

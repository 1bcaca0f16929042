import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { KafkaClientError } from "../../src/KafkaClient.ts"
import { at, scripted } from "../script.ts"

const isMissing = (s: Effect.Success<ReturnType<typeof scripted>>) =>
  Effect.map(s.consumer.health, ({ reasons }) => reasons.some(({ code }) => code === "topicMissing"))

describe("health topicMissing, after a deleted topic was created again", () => {
  it.effect("ends when only some of its partitions come back to this member", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 2, committed: 0 }
      ])
      yield* s.session.gone(at(0, 1))
      yield* s.session.gone(at(1, 2))
      yield* s.session.assign([])
      assert.isTrue(yield* isMissing(s))
      // another member has joined meanwhile, and has the other one
      yield* s.session.assign([{ partition: 1, epoch: 3, committed: 0 }])
      assert.isFalse(yield* isMissing(s))
    })
  )

  it.effect("ends when none of them comes back to this member, by what its client says", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.gone(at(0, 1))
      yield* s.session.connection("down", new KafkaClientError({ reason: "TopicMissing", detail: "t is not there" }))
      yield* s.session.assign([])
      assert.isTrue(yield* isMissing(s))
      yield* s.session.connection("up")
      yield* s.session.assign([])
      assert.isFalse(yield* isMissing(s))
    })
  )
})

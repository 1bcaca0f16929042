import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { ConsumerGroup } from "../src/internal/consumerGroup.ts"
import { make } from "../src/internal/time.ts"

const beat = (group: ConsumerGroup, memberId: string, epoch: number) =>
  group.heartbeat({
    clientId: memberId,
    memberId,
    epoch,
    sessionTimeout: 30_000,
    rebalanceTimeout: 60_000,
    topics: ["t"],
    owned: []
  })

it.effect("of a member that asks again whether all have joined only the last question is kept, and answered", () =>
  Effect.gen(function* () {
    const group = new ConsumerGroup({ time: yield* make, partitions: () => [], log: () => undefined })
    beat(group, "a", 0)
    const { epoch } = beat(group, "b", 0)
    assert.isFalse(group.isJoined)
    const answered: Array<string> = []
    for (let question = 0; question < 100; question++) group.whenJoined("b", () => void answered.push(`b ${question}`))
    group.whenJoined("a", () => void answered.push("a"))
    assert.deepStrictEqual(answered, [])
    beat(group, "a", epoch - 1)
    assert.isTrue(group.isJoined)
    assert.deepStrictEqual(answered, ["b 99", "a"])
    group.stop()
  })
)

it.effect("who has gone is not answered any more", () =>
  Effect.gen(function* () {
    const group = new ConsumerGroup({ time: yield* make, partitions: () => [], log: () => undefined })
    beat(group, "a", 0)
    const { epoch } = beat(group, "b", 0)
    const answered: Array<string> = []
    group.whenJoined("b", () => void answered.push("b"))
    beat(group, "b", -1)
    beat(group, "a", epoch - 1)
    assert.isTrue(group.isJoined)
    assert.deepStrictEqual(answered, [])
    group.stop()
  })
)

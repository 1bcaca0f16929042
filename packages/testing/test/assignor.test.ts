import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { assign, type Claim } from "../src/internal/assignor.ts"

const partitions = (topic: string, count: number): Array<TopicPartition> =>
  Array.from({ length: count }, (_, partition) => ({ topic, partition }))

const claims = (
  result: ReadonlyMap<string, ReadonlyArray<TopicPartition>>,
  memberIds: ReadonlyArray<string>,
  generation = 1
): Array<Claim> =>
  memberIds.map((memberId) => ({ memberId, topics: ["t"], owned: result.get(memberId) ?? [], generation }))

const names = (n: number) => Array.from({ length: n }, (_, i) => `m${i}`)
const key = (p: TopicPartition) => `${p.topic}/${p.partition}`
const small = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12 }))

describe("assign", () => {
  it.prop(
    "gives every partition to exactly one member, balanced, and moves no more than it must when members come and go",
    [small, small, small],
    ([before, after, count]) => {
      const all = partitions("t", count * 3)
      const first = assign(claims(new Map(), names(before)), all)
      const second = assign(claims(first, names(after)), all)
      for (const result of [first, second]) {
        assert.deepStrictEqual([...result.values()].flat().map(key).sort(), all.map(key).sort())
        const sizes = [...result.values()].map((own) => own.length)
        assert.isTrue(Math.max(...sizes) - Math.min(...sizes) <= 1, sizes.join())
      }
      // Whoever stays keeps what it had, up to its share.
      for (const id of names(Math.min(before, after))) {
        const had = first.get(id)!
        const has = new Set(second.get(id)!.map(key))
        const kept = had.filter((p) => has.has(key(p))).length
        assert.strictEqual(kept, Math.min(had.length, has.size), id)
      }
      assert.deepStrictEqual(
        [...assign(claims(first, names(after)), all)],
        [...second],
        "the same input, the same result"
      )
    },
    { arbitrary: { runs: 200 } }
  )

  it("the claim of the higher generation wins", () => {
    const all = partitions("t", 2)
    const result = assign(
      [
        { memberId: "stale", topics: ["t"], owned: all, generation: 4 },
        { memberId: "now", topics: ["t"], owned: [all[0]!], generation: 5 }
      ],
      all
    )
    assert.deepStrictEqual(result.get("now"), [all[0]])
    assert.deepStrictEqual(result.get("stale"), [all[1]])
  })

  it("gives nobody a topic that it has not subscribed to, and leaves what nobody wants", () => {
    const all = [...partitions("a", 2), ...partitions("b", 4), ...partitions("c", 1)]
    const result = assign(
      [
        { memberId: "x", topics: ["a"], owned: [{ topic: "b", partition: 0 }], generation: 1 },
        { memberId: "y", topics: ["a", "b"], owned: [], generation: 1 }
      ],
      all
    )
    assert.deepStrictEqual(result.get("x")!.map(key), ["a/0", "a/1"])
    assert.deepStrictEqual(result.get("y")!.map(key), ["b/0", "b/1", "b/2", "b/3"])
  })

  it("forgets claims of partitions that are not there any more", () => {
    const result = assign(
      [{ memberId: "x", topics: ["t"], owned: partitions("t", 5), generation: 1 }],
      partitions("t", 2)
    )
    assert.strictEqual(result.get("x")!.length, 2)
  })
})

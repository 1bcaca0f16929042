import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Desk, pass, world, ended } from "./harness.ts"
import { given } from "./script.ts"

describe("headerFilter", () => {
  const records = (n: number) =>
    Array.from({ length: n }, (_, i) => ({
      value: `v${i}`,
      headers:
        i % 4 === 0
          ? [["topic_group", "g"] as const]
          : i % 4 === 1
            ? [["topic_group", "other"] as const, ["x", "g"] as const]
            : i % 4 === 2
              ? [["topic_group", null] as const]
              : []
    }))

  it.effect("records without this header value are done at once, counted as filtered, without permit or handler", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.kafka.produce("t", records(40))
      const a = yield* w.member("a", {
        headerFilter: { header: "topic_group", equals: "g" },
        concurrency: 100,
        desk: new Desk()
      })
      assert.deepStrictEqual(
        a.desk.running,
        Array.from({ length: 10 }, (_, i) => `0:${i * 4}`)
      )
      const snapshot = yield* a.consumer.snapshot
      assert.deepInclude(snapshot.outcomes, { handled: 0, filtered: 30 })
      assert.strictEqual(snapshot.held.records, 10)
      assert.strictEqual(snapshot.attempts, 10)
      yield* a.desk.finishAll()
      yield* pass(10_000)
      assert.strictEqual(w.committed(), 40)
      assert.deepStrictEqual((yield* a.consumer.snapshot).outcomes, ended({ handled: 10, filtered: 30 }))
    })
  )

  it.effect("I6: what is filtered behind a record that never ends counts to maxUncommitted: fetching stops there", () =>
    Effect.gen(function* () {
      const desk = new Desk()
      const s = yield* given([100], { desk, maxUncommitted: 100, headerFilter: ({ offset }) => offset === 0n })
      assert.deepStrictEqual([...s.session.paused], [0])
      yield* desk.finishAll()
      assert.deepStrictEqual([...s.session.paused], [])
      yield* s.session.chunk(0, 1, 100, 250)
      const { outcomes, partitions } = yield* s.consumer.snapshot
      assert.deepStrictEqual([outcomes.filtered, partitions[0]?.committable, partitions[0]?.paused], [249, 250n, []])
    })
  )

  it.effect("a header that occurs more than once: one that fits is enough", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.kafka.produce("t", [
        {
          headers: [
            ["h", "x"],
            ["h", "g"]
          ]
        },
        { headers: [["h", "gg"]] }
      ])
      const a = yield* w.member("a", { headerFilter: { header: "h", equals: "g" } })
      assert.deepStrictEqual(a.desk.running, ["0:0"])
    })
  )

  it.effect("a topic of which nothing is for us moves on by the triggers of the committer", () =>
    Effect.gen(function* () {
      const s = yield* given([25], { headerFilter: () => false, batchSize: 10, batchInterval: 5_000 })
      assert.deepStrictEqual(s.session.commits, ["0=25"])
      yield* s.session.chunk(0, 1, 25, 28, 30)
      yield* pass(4_999)
      assert.deepStrictEqual(s.session.commits, ["0=25"])
      yield* pass(1)
      assert.deepStrictEqual(s.session.commits, ["0=25", "0=30"])
      assert.deepStrictEqual(s.desk.started, [])
      assert.strictEqual((yield* s.consumer.snapshot).held.bytes, 0)
    })
  )

  it.effect("by partition in order: what is filtered does not take the lane, and does not pass what runs", () =>
    Effect.gen(function* () {
      const s = yield* given([6], {
        headerFilter: (record) => record.offset % 2n === 0n,
        ordering: "partition",
        offsetMap: "off",
        batchSize: 1,
        minCommitInterval: 0
      })
      assert.deepStrictEqual(s.desk.running, ["0:0"])
      assert.deepStrictEqual(s.session.commits, [])
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.session.commits, ["0=2"])
      yield* s.desk.finish(0, 2)
      yield* s.desk.finish(0, 4)
      yield* pass(10)
      assert.strictEqual(s.session.commits.at(-1), "0=6")
    })
  )
})

import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Handler } from "../src/Handler.ts"
import { InvalidOptions } from "../src/InvalidOptions.ts"
import { Topic } from "../src/Topic.ts"
import { delivery } from "./delivery.ts"

const naming = (name: string, topics: string | readonly [string, ...Array<string>]) =>
  Handler.make(topics, (record) => Effect.succeed(`${name} handles ${record.topic}`))

const handled = <E>(handler: Handler<E, never>, topic: string) =>
  Effect.scoped(handler.handle(delivery({ topic, value: "v" })))

describe("merged handlers", () => {
  it.effect("are each given the records of their topics", () =>
    Effect.gen(function* () {
      const typed = Topic.handler(Topic.make("typed", { key: Schema.Null, value: Schema.String }), (value, message) =>
        Effect.succeed(`${message.topic} ${value}`)
      )
      const merged = Handler.merge(naming("a", ["orders", "returns"]), naming("b", "audit"), typed)
      assert.deepStrictEqual(merged.topics, ["orders", "returns", "audit", "typed"])
      assert.strictEqual(yield* handled(merged, "orders"), "a handles orders")
      assert.strictEqual(yield* handled(merged, "returns"), "a handles returns")
      assert.strictEqual(yield* handled(merged, "audit"), "b handles audit")
      assert.strictEqual(yield* handled(merged, "typed"), "typed v")
    })
  )

  it.effect("may be merged ones themselves, and a single one", () =>
    Effect.gen(function* () {
      const merged = Handler.merge(Handler.merge(naming("a", "t"), naming("b", "u")), Handler.merge(naming("c", "v")))
      assert.deepStrictEqual(merged.topics, ["t", "u", "v"])
      assert.strictEqual(yield* handled(merged, "u"), "b handles u")
      assert.strictEqual(yield* handled(merged, "v"), "c handles v")
    })
  )

  it("keep each its timeout; one around all bounds them all", () => {
    const merged = Handler.merge(
      naming("a", "t").pipe(Handler.timeout("2 seconds")),
      naming("b", "u"),
      naming("c", "v").pipe(Handler.timeout("1 minute"))
    )
    const limits = (handler: Handler.Any) => ["t", "u", "v"].map((topic) => handler.timeoutMillis(topic))
    assert.deepStrictEqual(limits(merged), [2_000, undefined, 60_000])
    assert.deepStrictEqual(limits(merged.pipe(Handler.timeout("30 seconds"))), [2_000, 30_000, 30_000])
    assert.isUndefined(merged.timeoutMillis("of nobody"))
  })

  it("refuse one topic in two of them", () => {
    for (const twice of [
      () => Handler.merge(naming("a", "t"), naming("b", ["u", "t"])),
      () => Handler.merge(naming("a", "t"), Handler.merge(naming("b", "u"), naming("c", "t")))
    ]) {
      try {
        twice()
        assert.fail("was accepted")
      } catch (error) {
        assert.instanceOf(error, InvalidOptions)
        assert.strictEqual(error.option, "topics")
        assert.strictEqual(error.value, "t")
      }
    }
    // twice in one is one
    assert.deepStrictEqual(naming("a", ["t", "t"]).topics, ["t"])
  })
})

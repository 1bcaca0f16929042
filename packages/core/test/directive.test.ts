import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Directive } from "../src/Directive.ts"
import { Handler } from "../src/Handler.ts"
import { InvalidOptions } from "../src/InvalidOptions.ts"
import { delivery } from "./delivery.ts"

const carried = <A, E>(effect: Effect.Effect<A, E>): E => Effect.runSync(Effect.flip(effect))

describe("a directive", () => {
  it("carries what has to be known to carry it out", () => {
    const retry = carried(Directive.retryAfter("90 seconds"))
    assert.strictEqual(retry.kind, "Retry")
    assert.strictEqual(retry.after, 90_000)
    const skip = carried(Directive.skip("tombstone"))
    assert.deepStrictEqual([skip.kind, skip.reason], ["Skip", "tombstone"])
    const dead = carried(Directive.deadLetter("audit.dead", "four attempts"))
    assert.deepStrictEqual([dead.kind, dead.topic, dead.reason], ["DeadLetter", "audit.dead", "four attempts"])
  })

  it("is told from everything else that a handler may fail with", () => {
    for (const directive of [
      carried(Directive.retryAfter(0)),
      carried(Directive.skip("")),
      carried(Directive.deadLetter("d", ""))
    ]) {
      assert.isTrue(Directive.isDirective(directive))
    }
    for (const other of [
      undefined,
      null,
      "Directive",
      { _tag: "Directive", kind: "Skip", reason: "" },
      new Error("Directive"),
      Cause.fail(carried(Directive.skip("")))
    ]) {
      assert.isFalse(Directive.isDirective(other))
    }
  })

  it("can be caught by its tag, as any failure", () => {
    const caught = Effect.catchTag(Directive.skip("no"), "Directive", ({ kind }) => Effect.succeed(kind))
    assert.strictEqual(Effect.runSync(caught), "Skip")
  })

  it.effect("with a bad argument is a defect of its handler, which names the argument", () =>
    Effect.gen(function* () {
      for (const [option, make] of [
        ["retryAfter", () => Directive.retryAfter(-1)],
        ["retryAfter", () => Directive.retryAfter(Number.POSITIVE_INFINITY)],
        ["deadLetter.topic", () => Directive.deadLetter("a b", "")]
      ] as const) {
        const exit = yield* Effect.exit(Effect.suspend((): Effect.Effect<never, unknown> => make()))
        const defect = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isDieReason)?.defect : undefined
        assert.isTrue(defect instanceof InvalidOptions && defect.option === option, option)
      }
    })
  )

  it.effect("is what its handler ends with", () =>
    Effect.gen(function* () {
      const handler = Handler.make("t", (record) =>
        record.value === null ? Directive.skip("tombstone") : Directive.retryAfter("1 second")
      )
      const end = (value: string | null) => Effect.exit(Effect.scoped(handler.handle(delivery({ value }))))
      const kinds = [yield* end(null), yield* end("v")].map((exit) => {
        const error: unknown = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
        return Directive.isDirective(error) ? error.kind : error
      })
      assert.deepStrictEqual(kinds, ["Skip", "Retry"])
    })
  )
})

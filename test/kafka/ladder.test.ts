import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { broken, missing } from "./java.ts"
import { choose } from "./ladder.ts"

const notLookedFor = Effect.die(new Error("it was looked for"))
const java = Effect.succeed("java 17")
const container = Effect.succeed("docker")
const noJava = Effect.fail(missing("no Java"))
const noContainer = Effect.fail(missing("no containers"))
const [asked, strict] = [false, false]

describe("the ladder", () => {
  it.effect("takes Java where nobody asks for a container, and looks for none then", () =>
    Effect.gen(function* () {
      const taken = yield* choose({ java, container: notLookedFor, asked, strict })
      assert.deepStrictEqual(taken, { source: "java", how: "java 17", insteadOf: undefined })
    })
  )

  it.effect("takes a container where there is no Java, or one that does not work", () =>
    Effect.gen(function* () {
      for (const without of [noJava, Effect.fail(broken("java ends with exit code 1"))]) {
        const taken = yield* choose({ java: without, container, asked, strict: true })
        assert.deepStrictEqual(taken, { source: "container", how: "docker" })
      }
    })
  )

  it.effect("takes a container that is asked for before Java, which it does not look for then", () =>
    Effect.gen(function* () {
      const taken = yield* choose({ java: notLookedFor, container, asked: true, strict })
      assert.deepStrictEqual(taken, { source: "container", how: "docker" })
    })
  )

  it.effect("takes Java where the container that is asked for cannot be had, and says why; but not on CI", () =>
    Effect.gen(function* () {
      const taken = yield* choose({ java, container: noContainer, asked: true, strict })
      assert.deepStrictEqual(taken, { source: "java", how: "java 17", insteadOf: missing("no containers") })
      const refused = yield* Effect.flip(choose({ java, container: noContainer, asked: true, strict: true }))
      assert.strictEqual(refused.reason, "no containers")
    })
  )

  it.effect("names what both lack, and lets tests be skipped only where nothing is broken", () =>
    Effect.gen(function* () {
      const neither = yield* Effect.flip(choose({ java: noJava, container: noContainer, asked, strict }))
      assert.strictEqual(neither.reason, "no Java; no containers")
      assert.isTrue(neither.missing)
      const isBroken = Effect.fail(broken("java ends with exit code 1"))
      const one = yield* Effect.flip(choose({ java: isBroken, container: noContainer, asked, strict }))
      assert.isFalse(one.missing)
    })
  )
})

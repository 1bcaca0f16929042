import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { CommitEntry } from "../src/ConsumerSession.ts"
import { cut, encodedBytes } from "../src/internal/commitLoop.ts"
import { LatencyWindow } from "../src/internal/latencyWindow.ts"
import { Permits } from "../src/internal/permits.ts"
import { bounded } from "../src/internal/shutdown.ts"
import { distributionOf, Tally, timeBounds } from "../src/internal/tally.ts"
import { whileTimePasses } from "./harness.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

describe("LatencyWindow", () => {
  it.prop(
    "percentiles are exact to 5 %",
    [Schema.Array(between(1, 10_000_000)).check(Schema.isMinLength(1), Schema.isMaxLength(200))],
    ([values]) => {
      const window = new LatencyWindow()
      for (const value of values) window.add(value, 1_000)
      const sorted = [...values].sort((a, b) => a - b)
      const { p50, p99 } = window.percentiles(1_000)
      for (const [share, found] of [
        [0.5, p50],
        [0.99, p99]
      ] as const) {
        const exact = sorted[Math.ceil(sorted.length * share) - 1]!
        assert.isAtMost(Math.abs(found - exact), exact * 0.05)
      }
    },
    { arbitrary: { runs: 200, size: 100 } }
  )

  it("nothing yet is 0; what takes no time is 0; what takes for ever is in the last bucket", () => {
    const window = new LatencyWindow()
    assert.deepStrictEqual(window.percentiles(5), { p50: 0, p99: 0 })
    window.add(0, 5)
    assert.deepStrictEqual(window.percentiles(5), { p50: 0, p99: 0 })
    window.add(1e12, 5)
    window.add(1e12, 5)
    assert.isAbove(window.percentiles(5).p99, 20 * 3_600_000)
  })

  it("forgets what is older than a minute, ten seconds at a time", () => {
    const window = new LatencyWindow()
    const at = 1_000_000
    window.add(100, at)
    window.add(100, at + 15_000)
    assert.isAbove(window.percentiles(at + 15_000).p50, 90)
    assert.isAbove(window.percentiles(at + 59_000).p50, 90)
    assert.isAbove(window.percentiles(at + 65_000).p50, 90)
    assert.strictEqual(window.percentiles(at + 80_000).p50, 0)
    window.add(7, at + 500_000)
    assert.isBelow(window.percentiles(at + 500_000).p99, 8)
  })
})

describe("Tally", () => {
  it.prop(
    "each value is in the first bucket whose bound it does not pass; several tallies together are one of all values",
    [Schema.Array(between(-5, 400_000)).check(Schema.isMaxLength(200)), between(1, 4)],
    ([values, parts]) => {
      const tallies = Array.from({ length: parts }, () => new Tally(timeBounds))
      values.forEach((value, i) => tallies[i % parts]!.add(value))
      const { bounds, counts, sum } = distributionOf(tallies.map(({ distribution }) => distribution))
      const upTo = (bound: number) => values.filter((value) => value <= bound).length
      assert.deepStrictEqual(
        counts,
        [...bounds, Infinity].map((bound, i) => upTo(bound) - upTo(i === 0 ? -Infinity : bounds[i - 1]!))
      )
      // over a time of day that was set back the sum does not fall
      assert.strictEqual(
        sum,
        values.reduce((n, value) => n + Math.max(0, value), 0)
      )
    },
    { arbitrary: { runs: 200, size: 100 } }
  )
})

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("acquire") }),
  Schema.Struct({ do: Schema.Literal("release") }),
  Schema.Struct({ do: Schema.Literal("rest") }),
  Schema.Struct({ do: Schema.Literal("resize"), to: Schema.Union([between(1, 40), Schema.Literal("unbounded")]) })
])

describe("Permits", () => {
  it.prop(
    "I5: none is given while as many are used as there are; none is lost, over resizes too",
    [Schema.Array(Step).check(Schema.isMaxLength(100)), between(1, 40)],
    ([steps, limit]) => {
      const permits = new Permits(limit)
      let used = 0
      let now: number | "unbounded" = limit
      for (const step of steps) {
        switch (step.do) {
          case "acquire": {
            const room = now === "unbounded" || used < now
            const got = permits.acquire()
            assert.strictEqual(got, room)
            if (got) used++
            break
          }
          case "release":
            if (used === 0) continue
            permits.release()
            used--
            break
          case "rest":
            permits.rest()
            break
          case "resize":
            permits.resize(step.to)
            now = step.to
            break
        }
        assert.strictEqual(permits.used, used)
        assert.isAtLeast(permits.held, permits.used)
      }
      // everything comes back
      while (used > 0) {
        permits.release()
        used--
      }
      permits.rest()
      assert.strictEqual(permits.held, 0)
      for (let i = 0; i < (now === "unbounded" ? 100 : now); i++) assert.isTrue(permits.acquire())
      if (now !== "unbounded") assert.isFalse(permits.acquire())
    },
    { arbitrary: { runs: 300, size: 100 } }
  )

  it("a block is at most an eighth of the limit, so that another user of the semaphore is not starved", () => {
    const permits = new Permits(80)
    assert.isTrue(permits.acquire())
    assert.strictEqual(permits.held, 10)
    assert.isTrue(Effect.runSync(permits.semaphore.takeIfAvailable(70)))
    for (let i = 0; i < 9; i++) assert.isTrue(permits.acquire())
    assert.isFalse(permits.acquire())
    Effect.runSync(permits.semaphore.release(3))
    assert.isTrue(permits.acquire())
    assert.isAtMost(permits.held, 13)
  })
})

const entry = (topic: string, partition: number, bytes: number): CommitEntry => ({
  topic,
  partition,
  epoch: 1,
  offset: 5n,
  metadata: "m".repeat(bytes)
})
const Entries = Schema.Array(
  Schema.Struct({ topic: Schema.Literals(["a", "b", "a-topic-with-a-longer-name"]), bytes: between(0, 40_000) })
).check(Schema.isMaxLength(60))

describe("cutting commits into requests", () => {
  it.prop(
    "keeps entries and their order, each request is at most 256 KiB, or is a single entry",
    [Entries],
    ([all]) => {
      const entries = all.map(({ bytes, topic }, i) => entry(topic, i, bytes))
      const requests = cut(entries)
      assert.deepStrictEqual(requests.flat(), entries)
      for (const request of requests) {
        assert.isAbove(request.length, 0)
        if (request.length > 1) assert.isAtMost(encodedBytes(request), 256 * 1024)
      }
      if (encodedBytes(entries) <= 256 * 1024) assert.isAtMost(requests.length, 1)
    },
    { arbitrary: { runs: 100, size: 100 } }
  )

  it("a topic's name counts once", () => {
    const one = encodedBytes([entry("topic", 0, 10)])
    const two = encodedBytes([entry("topic", 0, 10), entry("topic", 1, 10)])
    const other = encodedBytes([entry("topic", 0, 10), entry("other", 1, 10)])
    assert.isAbove(other, two)
    assert.isAbove(two, one)
    assert.strictEqual(encodedBytes([]), 0)
    assert.isAbove(encodedBytes([entry("topic", 0, 4_000)]), 4_000)
  })

  it("a single entry is never cut, however large", () => {
    const huge = entry("t", 0, 1024 * 1024)
    assert.deepStrictEqual(cut([huge]), [[huge]])
    assert.deepStrictEqual(cut([]), [])
  })
})

describe("bounded", () => {
  it.effect("ends at its time inside a finalizer of an interrupted fiber, and lets what is in time finish", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const fiber = yield* Effect.forkDetach(
        Effect.ensuring(
          Effect.never,
          Effect.gen(function* () {
            seen.push((yield* bounded(Effect.as(Effect.sleep(100), "in time"), 1_000))._tag)
            seen.push((yield* bounded(Effect.never, 500))._tag)
            seen.push((yield* bounded(Effect.sleep(5), -3))._tag)
          })
        ),
        { startImmediately: true }
      )
      const { millis } = yield* whileTimePasses(
        Effect.suspend(() => {
          fiber.interruptUnsafe()
          return Effect.callback<void>((resume) => {
            fiber.addObserver(() => resume(Effect.void))
          })
        })
      )
      assert.deepStrictEqual(seen, ["Some", "None", "None"])
      assert.strictEqual(millis, 600)
    })
  )
})

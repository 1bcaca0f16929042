/**
 * One key with a fifth of all records: how fast the others get through beside it, measured against the fastest that the limits allow.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { Handler } from "../src/Handler.ts"
import { turns, world } from "./harness.ts"

const records = 20_000
const workMillis = 10
const hot = (offset: number): boolean => offset % 5 === 0
const keyOf = (offset: number): string => (hot(offset) ? "hot" : `k${offset % 997}`)

interface Limits {
  readonly concurrency: number
  readonly maxHeldRecords: number
  readonly maxUncommitted: number
}

/**
 * When the last record of the other keys, and the last of all, could end at the earliest, in units of work: whoever may start does, the
 * hot key first, because everything is over when it is; fetching stops when as many are held as may be, and goes on at half of it.
 */
const ideal = ({
  concurrency,
  maxHeldRecords,
  maxUncommitted
}: Limits): { readonly others: number; readonly all: number } => {
  const done = new Uint8Array(records)
  let fetched = 0
  let held = 0
  let full = false
  let base = 0
  const hots: Array<number> = []
  const others: Array<number> = []
  let othersLeft = records - Math.ceil(records / 5)
  let othersAt = 0
  let now = 0
  let nextHot = 0
  let nextOther = 0
  for (; base < records; now++) {
    if (held < maxHeldRecords / 2) full = false
    while (fetched < records && !full) {
      if (hot(fetched)) hots.push(fetched)
      else others.push(fetched)
      fetched++
      full = ++held >= maxHeldRecords
    }
    let permits = concurrency
    const below = base + maxUncommitted
    const start = (offset: number): void => {
      permits--
      held--
      done[offset] = 1
    }
    if (nextHot < hots.length && hots[nextHot]! < below) start(hots[nextHot++]!)
    while (permits > 0 && nextOther < others.length && others[nextOther]! < below) {
      start(others[nextOther++]!)
      if (--othersLeft === 0) othersAt = now + 1
    }
    while (done[base] === 1) base++
  }
  return { others: othersAt, all: now }
}

describe("a hot key", () => {
  for (const [name, limits] of [
    ["the permits", { concurrency: 10, maxHeldRecords: 20_000, maxUncommitted: 100_000 }],
    ["maxUncommitted", { concurrency: 10, maxHeldRecords: 20_000, maxUncommitted: 10_000 }],
    ["maxHeldRecords", { concurrency: 10, maxHeldRecords: 2_000, maxUncommitted: 100_000 }]
  ] as const satisfies ReadonlyArray<readonly [string, Limits]>) {
    it.effect(
      `I4: with a fifth of ${records} records does not slow the other keys down: they are as fast as ${name} allow, to 10 %`,
      () =>
        Effect.gen(function* () {
          const w = yield* world()
          w.expect("passedOver")
          const encoder = new TextEncoder()
          yield* w.kafka.produceMany({ topic: "t", partition: 0 }, records, (i) => ({
            key: encoder.encode(keyOf(i)),
            value: null
          }))
          const clock = yield* Effect.clockWith(Effect.succeed)
          let others = 0
          let othersAt = 0
          let all = 0
          let allAt = 0
          let began: number | undefined
          const handler = Handler.make("t", (record) => {
            began ??= clock.currentTimeMillisUnsafe()
            return Effect.andThen(
              Effect.sleep(workMillis),
              Effect.sync(() => {
                const now = clock.currentTimeMillisUnsafe()
                if (!hot(Number(record.offset)) && ++others === records * 0.8) othersAt = now
                if (++all === records) allAt = now
              })
            )
          })
          const a = yield* w.member("a", { ...limits, ordering: "key", policy: "none", handler, batchSize: 1_000 })
          yield* turns
          for (let steps = 0; all < records && steps < 3 * records; steps++) yield* TestClock.adjust(workMillis)
          assert.strictEqual(all, records)
          const best = ideal(limits)
          const rate = (bound: number, at: number): number => (bound * workMillis) / (at - began!)
          const told = `bound by ${name}: the other keys ${best.others * workMillis} ms at best, ${othersAt - began!} ms here; all ${best.all * workMillis} ms at best, ${allAt - began!} ms here`
          console.log(told)
          assert.isAtLeast(rate(best.others, othersAt), 0.9, told)
          assert.isAtLeast(rate(best.all, allAt), 0.9, told)
          yield* TestClock.adjust(20_000)
          yield* turns
          assert.strictEqual(w.committed(), records)
          assert.strictEqual((yield* a.consumer.snapshot).held.records, 0)
        }),
      60_000
    )
  }
})

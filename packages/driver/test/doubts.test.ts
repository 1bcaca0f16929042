import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { longEnough, oftenEnough } from "../src/internal/absence.ts"
import { type Claim, Doubts } from "../src/internal/doubts.ts"

const another: Claim = { kind: "another", id: "2" }
const unknown: Claim = { kind: "unknown" }

const Millis = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 500 }))
const Step = Schema.Struct({
  what: Schema.Literals(["unknown", "absent", "2", "3", "denied", "denied", "denied", "denied"]),
  after: Millis,
  askedBefore: Millis
})

/** Denied so often, at these times, each asked for at its own time. */
const deniedAt = (doubts: Doubts, times: ReadonlyArray<number>) => {
  for (const time of times) doubts.deny("t", time, time)
}

describe("what may be another topic", () => {
  it("is doubted until it was denied three times, over a second", () => {
    const doubts = new Doubts()
    assert.isTrue(doubts.claim("t", another, 0))
    deniedAt(doubts, [1, 500, 999])
    assert.isTrue(doubts.has("t", "1"))
    assert.strictEqual(doubts.state, "open")
    deniedAt(doubts, [1000])
    assert.isFalse(doubts.has("t", "1"))
    assert.strictEqual(doubts.state, "denied")
    const often = new Doubts()
    often.claim("t", another, 0)
    deniedAt(often, [1000, 2000])
    assert.isTrue(often.has("t"))
  })

  it("is not settled by an answer to a question that was asked before it", () => {
    const doubts = new Doubts()
    doubts.claim("t", another, 10)
    for (let i = 0; i < 5; i++) doubts.deny("t", 9, 5000)
    assert.isTrue(doubts.has("t"))
  })

  it("was denied, and is no doubt when the same is said again; another id is, and a fetch that does not know it", () => {
    const doubts = new Doubts()
    doubts.claim("t", another, 0)
    doubts.claim("t", unknown, 0)
    deniedAt(doubts, [500, 1000, 1500])
    assert.isFalse(doubts.claim("t", another, 2000))
    assert.isFalse(doubts.has("t"))
    assert.isTrue(doubts.claim("t", { kind: "another", id: "3" }, 2000))
    assert.isTrue(doubts.has("t"))
    doubts.forget("t")
    doubts.claim("t", unknown, 0)
    deniedAt(doubts, [500, 1000, 1500])
    assert.isTrue(doubts.claim("t", unknown, 2000))
    assert.isTrue(doubts.has("t"))
  })

  it("is none for who has the topic of that id", () => {
    const doubts = new Doubts()
    doubts.claim("t", another, 0)
    assert.isFalse(doubts.has("t", "2"))
    assert.isTrue(doubts.has("t", "1"))
    doubts.claim("t", { kind: "absent" }, 0)
    assert.isTrue(doubts.has("t", "2"))
  })

  it("is forgotten when nobody has repeated for a minute what was denied, and when nobody asks for its topic", () => {
    const doubts = new Doubts()
    doubts.claim("t", another, 0)
    doubts.keep(new Set(["t"]), 1_000_000)
    assert.strictEqual(doubts.state, "open")
    deniedAt(doubts, [1_000_000, 1_000_001, 1_000_002])
    doubts.claim("t", another, 1_000_010)
    doubts.keep(new Set(["t"]), 1_060_010)
    assert.strictEqual(doubts.state, "denied")
    doubts.keep(new Set(["t"]), 1_060_011)
    assert.strictEqual(doubts.state, "none")
    doubts.claim("t", another, 0)
    doubts.keep(new Set(["u"]), 0)
    assert.strictEqual(doubts.state, "none")
  })

  it.prop(
    "is what a list of all that was said would give",
    [Schema.Array(Step)],
    ([steps]) => {
      const doubts = new Doubts()
      let now = 0
      // by claim: when it was said first, or by a fetch last, and when it was denied since
      const model = new Map<string, { readonly since: number; readonly denials: Array<number> }>()
      const isDenied = ({ denials, since }: { readonly since: number; readonly denials: ReadonlyArray<number> }) =>
        denials.some((at, i) => i + 1 >= oftenEnough && at - since >= longEnough)
      for (const { after, askedBefore, what } of steps) {
        now += after
        if (what === "denied") {
          const askedAt = now - askedBefore
          doubts.deny("t", askedAt, now)
          for (const said of model.values()) if (said.since <= askedAt) said.denials.push(now)
        } else {
          const claim: Claim = what === "unknown" || what === "absent" ? { kind: what } : { kind: "another", id: what }
          doubts.claim("t", claim, now)
          if (what === "unknown" || !model.has(what)) model.set(what, { since: now, denials: [] })
        }
        for (const id of ["1", "2", "3"]) {
          const expected = [...model].some(([what, said]) => what !== id && !isDenied(said))
          assert.strictEqual(doubts.has("t", id), expected)
        }
      }
    },
    { arbitrary: { runs: 500, size: 40 } }
  )
})

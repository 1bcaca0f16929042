import { healthCodes } from "@concurrent-kafka/core/Health"
import type { PartitionSnapshot } from "@concurrent-kafka/core/Snapshot"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { beforeAll } from "vitest"
import { rowsShown } from "../src/internal/page/frame.ts"
import { frameOf, pointOf } from "../src/internal/page/frames.ts"
import { levelOf, stripsOf } from "../src/internal/page/strips.ts"
import { now, partition, snapshot } from "./topSnapshots.ts"

let partsOf: (row: object) => ReadonlyArray<readonly [kind: string, from: number, to: number]>
beforeAll(async () => {
  // plain JavaScript, as browsers get it
  const page: { readonly partsOf: typeof partsOf } = await import(new URL("../page/strip.js", import.meta.url).href)
  partsOf = page.partsOf
})

/** what the documents promise of the largest frame that can be, in bytes */
const largest = 160_000

const place = (n: number, of: Partial<PartitionSnapshot> = {}) => partition(n, of)
const rowOf = (of: Partial<PartitionSnapshot>) => stripsOf([place(0, of)], now, "").rows[0]!

/** What the strip says of the offsets between its prefix and its end: done, or not all. */
const read = ({ behind, from, holes, known = behind, parts, prefix = 0 }: ReturnType<typeof rowOf>) => {
  const span = known! - prefix
  return Array.from({ length: span }, (_, i) => {
    const part = Math.floor((i * parts!) / span)
    const hole = (Number.parseInt(holes![part >> 2]!, 16) >> (3 - (part & 3))) & 1
    return { offset: Number(from) + prefix + i, hole: hole === 1 }
  })
}

describe("frames of the live page", () => {
  it("have a summary of the consumer that is looked at, also where it is none of those that fit", () => {
    const all = Array.from({ length: 50 }, (_, i) => snapshot({ name: `consumer ${i}` }))
    const { consumers, detail, more } = frameOf(all, undefined, "consumer 40", "")
    assert.strictEqual(detail?.name, "consumer 40")
    assert.include(
      consumers.map(({ name }) => name),
      "consumer 40"
    )
    assert.strictEqual(consumers.length + more, 50)
    assert.strictEqual(frameOf(all, undefined, "consumer 3", "").consumers.at(-1)?.name, "consumer 31")
  })

  it("have a bound, whatever there is to say", () => {
    const long = "\u{1f4a9}".repeat(500)
    const runs = Array.from({ length: 256 }, (_, i): readonly [bigint, bigint] => [
      BigInt(2 ** 40 + 10_000 * i + 1),
      BigInt(2 ** 40 + 10_000 * i + 9_000)
    ])
    const one = (n: number): PartitionSnapshot =>
      partition(n, {
        topic: `${"t".repeat(244)}${n % 100}`,
        state: "suspended",
        paused: ["user", "full", "uncommitted", "map", "holding"],
        committed: BigInt(2 ** 40 - 1_000_000),
        committable: BigInt(2 ** 40),
        delivered: BigInt(2 ** 41),
        end: BigInt(2 ** 50),
        done: 999_999,
        behindGap: 999_999,
        doneUpTo: BigInt(2 ** 41),
        doneBehindGap: runs,
        gaps: 999_999,
        buffered: 999_999,
        running: 999_999,
        waiting: 999_999,
        sending: 999_999,
        parked: 999_999,
        zombies: 999_999,
        heldRecords: 999_999,
        heldBytes: 999_999_999,
        oldest: {
          offset: BigInt(2 ** 40),
          state: "buffered",
          attempt: 999,
          since: now,
          receivedAt: now,
          firstFailedAt: now,
          timestamp: 0n
        }
      })
    const at = { topic: "t".repeat(249), partition: 9_999, offset: BigInt(2 ** 60) }
    const partitions = Array.from({ length: 10_000 }, (_, i) => one(i))
    const all = Array.from({ length: 50 }, (_, i) =>
      snapshot({
        name: `${"n".repeat(250)}${i}`,
        groupId: "g".repeat(255),
        partitions: i === 0 ? partitions : [],
        hotLanes: Array.from({ length: 5 }, () => ({ ...at, lane: long, waiting: 999_999 })),
        rebalances: Array.from({ length: 100 }, () => ({
          at: now,
          kind: "assigned" as const,
          partitions: 10_000,
          millis: 99_999,
          inFlight: 99_999
        })),
        members: Array.from({ length: 100 }, () => snapshot({ name: long })),
        health: {
          status: "down",
          live: false,
          ready: false,
          reasons: healthCodes.map((code) => ({
            code,
            message: long,
            since: now,
            count: 99,
            at,
            members: Array.from({ length: 100 }, () => "m".repeat(250))
          }))
        }
      })
    )
    const bytes = Buffer.byteLength(JSON.stringify(frameOf(all, undefined, all[0]!.name, "")))
    assert.isBelow(bytes, largest)
    const usual = Buffer.byteLength(
      JSON.stringify(
        frameOf(
          [
            snapshot({ partitions: Array.from({ length: 1_000 }, (_, i) => partition(i, { heldRecords: 5, end: 9n })) })
          ],
          undefined,
          "",
          ""
        )
      )
    )
    assert.isBelow(usual, 12 * 1024)
  })

  it("name the consumer that is looked at, or else the first, or none", () => {
    const two = [snapshot({ name: "a" }), snapshot({ name: "b" })]
    assert.strictEqual(frameOf(two, undefined, "b", "").detail?.name, "b")
    assert.strictEqual(frameOf(two, undefined, "gone", "").detail?.name, "a")
    assert.isUndefined(frameOf([], undefined, "", "").detail)
  })

  it("count what is not fetched apart from what waits behind a gap", () => {
    const { totals } = frameOf(
      [snapshot({ partitions: [place(0, { committed: 5n, committable: 7n, delivered: 20n, end: 100n }), place(1)] })],
      undefined,
      "",
      ""
    ).consumers[0]!
    assert.deepStrictEqual([totals.lag, totals.ahead, totals.partitions], [95, 80, 2])
  })

  it("count a partition once that is on its way from one member to another, as the metrics do", () => {
    const leaving = place(0, { epoch: 1, end: 1_000n, gaps: 3, running: 2, state: "suspended" })
    const here = place(0, { epoch: 2, end: 1_000n, gaps: 1 })
    const moving = snapshot({ partitions: [leaving, place(1, { epoch: 3, end: 10n }), here] })
    const { consumers, detail } = frameOf([moving], undefined, "", "")
    assert.deepInclude(consumers[0]!.totals, { partitions: 2, lag: 1_010, gaps: 1, running: 0 })
    assert.strictEqual(pointOf(moving, 1).lag, 1_010)
    assert.deepStrictEqual(
      detail!.cells.map(({ partitions }) => partitions),
      [[0, 1]]
    )
    assert.deepStrictEqual(
      detail!.rows.map(({ lag, partition }) => [partition, lag]),
      [
        [0, 1_000],
        [1, 10]
      ]
    )
  })

  it("say of how many partitions the lag is not known, and draw none where it is of none", () => {
    const known = place(0, { committed: 5n, end: 100n })
    const unknown = [place(1, { end: undefined }), place(2, { end: undefined })]
    const of = (...partitions: ReadonlyArray<PartitionSnapshot>) => {
      const all = snapshot({ partitions })
      const { lag, unknown } = frameOf([all], undefined, "", "").consumers[0]!.totals
      return [lag, unknown, pointOf(all, 1).lag]
    }
    assert.deepStrictEqual(of(known), [95, 0, 95])
    assert.deepStrictEqual(of(known, ...unknown), [95, 2, 95])
    assert.deepStrictEqual(of(...unknown), [0, 2, null])
    assert.deepStrictEqual(of(), [0, 0, 0])
  })

  it("say that a consumer is paused as a whole only when all of it is", () => {
    const reasons = [{ code: "paused" as const, message: "some partitions are paused", since: now, count: 1 }]
    const health = { status: "ok" as const, live: true, ready: true, reasons }
    const shown = (...paused: ReadonlyArray<PartitionSnapshot["paused"]>) =>
      frameOf(
        [snapshot({ health, partitions: paused.map((reasons, n) => place(n, { paused: reasons })) })],
        undefined,
        "",
        ""
      ).detail!.paused
    assert.isTrue(shown(["user"], ["user", "full"]))
    assert.isFalse(shown(["user"], ["full"]))
    assert.isTrue(shown())
  })
})

describe("strips of the live page", () => {
  it.effect.prop(
    "show every gap, however narrow, and no gap where all is done",
    [
      Schema.Array(
        Schema.Tuple([
          Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 400 })),
          Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 400 }))
        ])
      ).check(Schema.isMinLength(1), Schema.isMaxLength(40)),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 50 }))
    ],
    ([stretches, before]) =>
      Effect.sync(() => {
        const committed = 2n ** 53n + 1_000n
        const committable = committed + BigInt(before)
        let at = committable
        const doneBehindGap = stretches.map(([gap, run]): readonly [bigint, bigint] => {
          const from = at + BigInt(gap)
          at = from + BigInt(run)
          return [from, at]
        })
        const row = rowOf({ committed, committable, delivered: at + 10n, doneBehindGap, doneUpTo: at })
        assert.isUndefined(row.known)
        assert.strictEqual(row.from, String(committed))
        const span = Number(at - committable)
        assert.strictEqual((row.behind ?? 0) - (row.prefix ?? 0), span)
        const wide = Math.ceil(span / row.parts!)
        const isDone = (i: number) =>
          doneBehindGap.some(([a, b]) => a <= committable + BigInt(i) && committable + BigInt(i) < b)
        for (const [i, { hole }] of read(row).entries()) {
          if (!isDone(i)) assert.isTrue(hole, `${i} of ${span} is not done`)
          else if (hole) {
            const near = Array.from({ length: 2 * wide + 1 }, (_, k) => i - wide + k).filter((k) => k >= 0 && k < span)
            assert.isTrue(
              near.some((k) => !isDone(k)),
              `${i} of ${span} has nothing open near it`
            )
          }
        }
      }),
    { arbitrary: { runs: 100 } }
  )

  it("behind the last run that is told say how far something is done and how much, and not which", () => {
    // every tenth one waits for its retry
    const doneBehindGap = Array.from({ length: 256 }, (_, i): readonly [bigint, bigint] => [
      BigInt(100 + 10 * i + 1),
      BigInt(100 + 10 * i + 10)
    ])
    const row = rowOf({
      committed: 95n,
      committable: 100n,
      delivered: 3_200n,
      doneBehindGap,
      behindGap: 2_700,
      doneUpTo: 3_100n,
      gaps: 300,
      waiting: 300
    })
    assert.deepInclude(row, { prefix: 5, known: 2_565, behind: 3_005, delivered: 3_105, done: 2_705, gaps: 300 })
    assert.lengthOf(read(row), 2_560)
    const parts = partsOf(row)
    assert.deepStrictEqual(
      parts.filter(([kind]) => kind !== "gap"),
      [
        ["done", 0, 2_565],
        ["unknown", 2_565, 3_005],
        ["held", 3_005, 3_105]
      ]
    )
    for (const [kind, from, to] of parts) {
      if (kind !== "gap") continue
      assert.isAtLeast(from, 5)
      assert.isAtMost(to, 2_565)
    }
  })

  it("draw what is in flight behind the newest done record without the gaps in front of it, record by record", () => {
    // 500 wait for their retry, one is done, of the next 20 five are in flight
    const row = rowOf({
      delivered: 521n,
      doneBehindGap: [[500n, 501n]],
      behindGap: 1,
      doneUpTo: 501n,
      gaps: 500,
      waiting: 500,
      running: 5,
      buffered: 15
    })
    assert.deepStrictEqual(
      partsOf(row).filter(([kind]) => kind === "flight" || kind === "held"),
      [
        ["flight", 501, 506],
        ["held", 506, 521]
      ]
    )
  })

  it("put the record that came first before fresh ones, however new its attempt is", () => {
    const came = (n: number, receivedAt: number, since: number) =>
      place(n, {
        oldest: {
          offset: 0n,
          state: "running",
          attempt: 1,
          since,
          receivedAt,
          firstFailedAt: n === 2 ? receivedAt + 5 : undefined,
          timestamp: 0n
        }
      })
    const { oldest } = stripsOf([came(0, now - 3_000, now - 3_000), came(2, now - 6 * 3_600_000, now - 2)], now, "")
    assert.deepStrictEqual(oldest, [
      {
        topic: "orders",
        partition: 2,
        offset: "0",
        state: "running",
        attempt: 1,
        since: now - 2,
        receivedAt: now - 6 * 3_600_000,
        firstFailedAt: now - 6 * 3_600_000 + 5
      },
      {
        topic: "orders",
        partition: 0,
        offset: "0",
        state: "running",
        attempt: 1,
        since: now - 3_000,
        receivedAt: now - 3_000
      }
    ])
  })

  it("are of the worst partitions, in an order that stays", () => {
    const many = Array.from({ length: 200 }, (_, n) => place(n, { end: BigInt(n === 150 ? 1_000_000 : 10) }))
    many[77] = place(77, { parked: 1 })
    many[120] = place(120, { waiting: 1 })
    const rows = stripsOf(many, now, "").rows
    assert.lengthOf(rows, rowsShown)
    assert.deepStrictEqual(
      rows.slice(0, 4).map((row) => row.partition),
      [77, 120, 150, 0]
    )
    const few = [place(2, { end: 1_000n }), place(0, { end: 5n }), place(1, { end: 70n })]
    assert.deepStrictEqual(
      stripsOf(few, now, "").rows.map((row) => row.partition),
      [0, 1, 2]
    )
  })

  it("have a cell for each partition, of its level and its lag", () => {
    const { cells, withoutCell } = stripsOf(
      [
        place(10, { end: 9_000_000n }),
        place(3),
        place(4, { parked: 1 }),
        place(0, { topic: "aardvark", state: "opening" })
      ],
      now,
      ""
    )
    assert.deepStrictEqual(cells, [
      { topic: "aardvark", partitions: [0], levels: "g" },
      { topic: "orders", partitions: [3, 1, 6], levels: "Awf" }
    ])
    assert.strictEqual(withoutCell, 0)
    assert.strictEqual(
      stripsOf(
        Array.from({ length: 5_000 }, (_, n) => place(n)),
        now,
        ""
      ).withoutCell,
      1_000
    )
  })

  it("tell quiet from working, slow and in trouble", () => {
    const old = (millis: number, state: "running" | "buffered" = "running") => ({
      heldRecords: 1,
      oldest: {
        offset: 0n,
        state,
        attempt: 1,
        since: now - millis,
        receivedAt: now - 600_000,
        firstFailedAt: undefined,
        timestamp: 0n
      }
    })
    // it runs again since now, and has failed before
    const failing = (millis: number) => {
      const { heldRecords, oldest } = old(0)
      return { heldRecords, oldest: { ...oldest, attempt: 7, firstFailedAt: now - millis } }
    }
    const cases: ReadonlyArray<readonly [Partial<PartitionSnapshot>, number]> = [
      [{}, 0],
      [{ end: 5n }, 1],
      [{ paused: ["full"], ...old(0) }, 1],
      [old(9_999), 1],
      [old(10_000), 2],
      [{ paused: ["user"] }, 2],
      [{ state: "holding" }, 2],
      [{ waiting: 1 }, 2],
      [old(60_000, "buffered"), 2],
      [old(60_000), 3],
      [failing(0), 2],
      [failing(59_999), 2],
      [failing(60_000), 3],
      [{ parked: 1 }, 3],
      [{ zombies: 1 }, 3]
    ]
    for (const [of, level] of cases) assert.strictEqual(levelOf(place(0, of), now), level, JSON.stringify(level))
  })

  it("are found by name and by what is to be seen of them", () => {
    const all = [
      place(1),
      place(11, { gaps: 1 }),
      place(2, { topic: "payments", paused: ["user"] }),
      place(3, { topic: "payments", waiting: 2, gaps: 1 }),
      place(4, { topic: "payments", zombies: 1 })
    ]
    const found = (text: string) => stripsOf(all, now, text).rows.map((row) => `${row.topic}/${row.partition}`)
    assert.sameMembers(found("orders/1"), ["orders/1", "orders/11"])
    assert.deepStrictEqual(found("PAUSED"), ["payments/2"])
    assert.deepStrictEqual(found("payments gap"), ["payments/3"])
    assert.deepStrictEqual(found("zombie"), ["payments/4"])
    assert.sameMembers(found("  "), ["orders/1", "orders/11", "payments/2", "payments/3", "payments/4"])
    assert.deepStrictEqual(found("nothing"), [])
  })
})

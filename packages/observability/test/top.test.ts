import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { stripVTControlCharacters } from "node:util"
import { widthOf } from "../src/internal/topText.ts"
import * as Top from "../src/Top.ts"
import { now, partition, snapshot } from "./topSnapshots.ts"

const draw = (consumers: ReadonlyArray<Snapshot>, size: Partial<Top.Size> = {}, theme?: Top.Theme) =>
  Top.render(
    consumers.map((one) => ({ now: one, before: undefined })),
    { columns: 120, rows: undefined, ...size },
    theme
  )

const many = (count: number) =>
  Array.from({ length: count }, (_, i) =>
    partition(i, { committed: 10n, committable: 10n, end: 10n + BigInt((i * 7_919) % count), heldRecords: i % 13 })
  )

describe("a picture", () => {
  it("has of a partition what is committed, done beyond it, its gaps, in flight, held, lag and rate, and its oldest record", () => {
    const at = (committable: bigint, done: number, behindGap: number) =>
      partition(2, {
        committed: 1_000n,
        committable,
        end: 12_345n,
        done,
        behindGap,
        gaps: 2,
        zombies: 1,
        running: 3,
        sending: 1,
        waiting: 5,
        parked: 6,
        heldRecords: 77,
        paused: ["full"],
        oldest: {
          offset: 1_200n,
          state: "waiting",
          attempt: 2,
          since: now - 2_000,
          receivedAt: now - 192_000,
          firstFailedAt: now - 180_000,
          timestamp: 0n
        }
      })
    const after = snapshot({
      partitions: [at(1_200n, 300, 100)],
      outcomes: { handled: 1_300, skipped: 4, deadLettered: 3, filtered: 0, alreadyDone: 0 },
      retries: 9,
      permits: { limit: 50, used: 4, byZombies: 1, waitingForTurn: 0 },
      held: { records: 77, bytes: 3 * 1024 * 1024, maxRecords: 20_000, maxBytes: 32 * 1024 * 1024 },
      handlerTime: { p50: 20, p99: 3_100, all: snapshot().handlerTime.all }
    })
    const before = snapshot({
      at: now - 2_000,
      partitions: [at(1_100n, 100, 0)],
      outcomes: { handled: 1_000, skipped: 4, deadLettered: 3, filtered: 0, alreadyDone: 0 }
    })
    assert.deepStrictEqual(Top.render([{ now: after, before }], { columns: 120, rows: undefined }), [
      "1 consumer, 1 partition  2026-01-02T03:04:05Z",
      "",
      "shipping  ok  group shipping, generation 3, for 1 m 2 s",
      "  done 1,307, 150/s  lag 11,345  permits 4 of 50, 1 by zombies  in flight 4  held 77 of 20,000, 3 of 32 MiB",
      "  retries 9, 5 waiting  dead letters 3, 1 being sent  skipped 4  parked 6  commits 0  handlers p50 20 ms, p99 3.1 s",
      "  oldest orders/2 @ 1200: came 3 m 12 s ago, waiting for 2.0 s, attempt 2",
      "  partition  committed  beyond  gaps  in flight  held     lag  rate/s  state",
      "  orders/2       1,000     100     2          4    77  11,345     100  1 zombie, paused: full"
    ])
  })

  it("has the rate and what is done beyond what is committed in full, however many runs it lies in", () => {
    const runs = Array.from({ length: 256 }, (_, i): readonly [bigint, bigint] => [
      BigInt(10 * i + 1),
      BigInt(10 * i + 10)
    ])
    const at = (done: number) => partition(0, { doneBehindGap: runs, done, behindGap: done, gaps: done / 9 })
    const [before, after] = [4_500, 5_400].map((done, i) => snapshot({ at: now + i * 1_000, partitions: [at(done)] }))
    assert.match(
      Top.render([{ now: after!, before: before! }], { columns: 120, rows: undefined }).at(-1)!,
      / 5,400 +600 +0 +0 +0 +900$/
    )
  })

  it("counts a partition once that is on its way from one member to another", () => {
    const moving = [
      partition(0, { epoch: 1, end: 70n, running: 2, waiting: 1, parked: 1, state: "suspended" }),
      partition(0, { epoch: 2, end: 70n, running: 1 })
    ]
    const text = draw([snapshot({ partitions: moving })]).join("\n")
    assert.match(text, /^1 consumer, 1 partition /)
    assert.include(text, "lag 70 ")
    assert.include(text, "in flight 1 ")
    assert.include(text, "parked 0")
    assert.notInclude(text, "1 waiting")
  })

  it("has the record first that came first, however new its attempt is", () => {
    const came = (n: number, receivedAt: number, since: number) =>
      partition(n, {
        oldest: { offset: 5n, state: "running", attempt: 9, since, receivedAt, firstFailedAt: undefined, timestamp: 0n }
      })
    const lines = draw([
      snapshot({ partitions: [came(0, now - 60_000, now - 60_000), came(1, now - 7_200_000, now - 1_000)] })
    ])
    assert.deepStrictEqual(
      lines.filter((line) => line.startsWith("  oldest")).map((line) => line.slice(9, 17)),
      ["orders/1", "orders/0"]
    )
  })

  it("says the health of each consumer with its reasons, whose place is named, and since when", () => {
    const reason = { message: "an attempt has been running", since: now - 61_000, count: 2 }
    const lines = draw([
      snapshot({
        name: "a",
        health: {
          status: "degraded",
          live: true,
          ready: true,
          reasons: [{ code: "stuck", ...reason, at: { topic: "t", partition: 1, offset: 99n } }]
        }
      }),
      snapshot({
        name: "b",
        health: { status: "down", live: false, ready: false, reasons: [{ code: "failed", ...reason }] }
      })
    ])
    assert.include(lines[2], "a  degraded  group")
    assert.include(lines, "  stuck (2, for 1 m 1 s, t/1 @ 99): an attempt has been running")
    assert.isTrue(lines.some((line) => line.startsWith("b  down, not live, not ready  group")))
    assert.include(lines, "  failed (2, for 1 m 1 s): an attempt has been running")
  })

  it("says of the lag of all partitions that it is at least so much, or not known", () => {
    const unknown = partition(1, { end: undefined })
    const lagOf = (partitions: Snapshot["partitions"]) => / lag (\S+)  /.exec(draw([snapshot({ partitions })])[3]!)![1]
    assert.strictEqual(lagOf([partition(0, { end: 7n })]), "7")
    assert.strictEqual(lagOf([partition(0, { end: 7n }), unknown]), "7+")
    assert.strictEqual(lagOf([unknown]), "?")
    assert.strictEqual(lagOf([]), "0")
    assert.match(draw([snapshot({ partitions: [unknown] })]).at(-1)!, / 0 +\? +-$/)
  })

  it("without any consumer says so", () => {
    assert.deepStrictEqual(draw([]), ["no consumer, no partition"])
  })

  it("of 1,000 partitions shows the worst first, and how many more there are", () => {
    const lines = draw([snapshot({ partitions: many(1_000) })], { columns: 80, rows: 24 })
    assert.lengthOf(lines, 24)
    const table = lines.slice(lines.findIndex((line) => line.includes("committed")) + 1)
    const lags = table.slice(0, -1).map((line) => Number(/ ([\d,]+) +-$/.exec(line)![1]!.replaceAll(",", "")))
    assert.deepStrictEqual(
      lags,
      Array.from(lags, (_, i) => 999 - i)
    )
    assert.isAbove(lags.length, 10)
    assert.strictEqual(table.at(-1), `  \u2026 ${1_000 - lags.length} more partitions`)
    // where there is no end of lines, it ends all the same
    assert.include(draw([snapshot({ partitions: many(1_000) })]), "  \u2026 980 more partitions")
    // and all in their order where they have room
    const few = draw([snapshot({ partitions: many(5) })]).slice(-5)
    assert.deepStrictEqual(
      few.map((line) => line.split(" ").find((part) => part !== "")),
      ["orders/0", "orders/1", "orders/2", "orders/3", "orders/4"]
    )
  })

  it("gives tables what room there is, and what one does not need to the others", () => {
    const lines = draw(
      [snapshot({ name: "few", partitions: many(2) }), snapshot({ name: "many", partitions: many(400) })],
      { columns: 100, rows: 40 }
    )
    assert.lengthOf(lines, 40)
    assert.strictEqual(lines.filter((line) => line.includes("more partitions")).length, 1)
    assert.strictEqual(lines.at(-1)?.includes("more partitions"), true)
  })

  it("has room for every figure from 60 columns on; on less leaves out figures before names, and lag never", () => {
    const some = snapshot({ partitions: [partition(12, { topic: "payments.eu-west-1", committed: 123_456_789n })] })
    const titles = (columns: number) =>
      draw([some], { columns })
        .find((line) => line.startsWith("  part"))!
        .trim()
        .replaceAll(/ +/g, " ")
    const all = "committed beyond gaps in flight held lag rate/s"
    for (const columns of [200, 120, 80, 60])
      assert.match(titles(columns), new RegExp(`^part(ition)? ${all}$`), `${columns}`)
    assert.strictEqual(titles(40), "partition committed in flight lag")
    assert.strictEqual(titles(20), "partition lag")
  })

  it("cuts long names in their middle, so that the number of the partition is seen", () => {
    const name = `${"x".repeat(200)}-orders`
    const row = draw([snapshot({ name, partitions: [partition(7, { topic: name })] })], { columns: 60 }).at(-1)!
    assert.match(row, /^ {2}x+\u2026.*s\/7 /)
  })

  it("neutralises what is not to reach a terminal: escape sequences, line breaks, changes of direction", () => {
    const evil = "a\u001b[2J\u001b]0;owned\u0007\r\nb\u202ec\u009bd\u2028e"
    const lines = draw([
      snapshot({
        name: evil,
        groupId: evil,
        partitions: [
          partition(0, {
            topic: evil,
            oldest: {
              offset: 1n,
              state: "running",
              attempt: 1,
              since: now,
              receivedAt: now,
              firstFailedAt: undefined,
              timestamp: 0n
            }
          })
        ],
        health: {
          status: "down",
          live: true,
          ready: true,
          reasons: [{ code: "disconnected", message: evil, since: now, count: 1, at: { topic: evil, partition: 0 } }]
        }
      })
    ])
    for (const line of lines) assert.notMatch(line, /[\p{C}\p{Zl}\p{Zp}]/u)
    assert.strictEqual(lines.join("\n").split("a?[2J?]0;owned???b?c?d?e").length, 7)
  })

  it("counts wide characters twice and combining ones not at all", () => {
    assert.strictEqual(widthOf("\u6ce8\u6587"), 4)
    assert.strictEqual(widthOf("e\u0301"), 1)
    assert.strictEqual(widthOf("\u{1f4e6}"), 2)
    const rows = draw([
      snapshot({ partitions: [partition(0, { topic: "\u6ce8\u6587" }), partition(1, { topic: "ab" })] })
    ]).slice(-2)
    assert.strictEqual(widthOf(rows[0]!), widthOf(rows[1]!))
  })

  it("has rates only of the same epoch, and none below 0", () => {
    const rate = (before: Snapshot["partitions"][number], after: Snapshot["partitions"][number]) =>
      Top.render(
        [{ now: snapshot({ partitions: [after] }), before: snapshot({ at: now - 10_000, partitions: [before] }) }],
        { columns: 120, rows: undefined }
      )
        .at(-1)!
        .split(" ")
        .at(-1)
    assert.strictEqual(rate(partition(0, { done: 5 }), partition(0, { done: 10 })), "0.5")
    assert.strictEqual(rate(partition(0, { epoch: 1 }), partition(0, { epoch: 2, done: 10 })), "-")
    assert.strictEqual(rate(partition(0, { done: 10 }), partition(0, { done: 5 })), "0")
  })

  it("is the same text with colours as without them", () => {
    const some = [
      snapshot({ partitions: many(50) }),
      snapshot({ name: "b", health: { status: "down", live: false, ready: true, reasons: [] } })
    ]
    const size = { columns: 70, rows: 30 }
    const colored = draw(some, size, Top.colorTheme)
    assert.isTrue(colored.some((line) => line.includes("\u001b[")))
    assert.deepStrictEqual(
      colored.map((line) => stripVTControlCharacters(line)),
      draw(some, size)
    )
    for (const line of draw(some, size)) assert.notInclude(line, "\u001b")
  })

  const int = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
  const text = Schema.String.check(Schema.isMaxLength(40))
  it.effect.prop(
    "keeps to its size, whatever there is to show",
    [
      int(1, 220),
      int(1, 60),
      Schema.Array(Schema.Tuple([text, int(0, 60), int(0, 6)])).check(Schema.isMaxLength(5)),
      int(0, 2_000_000_000)
    ],
    ([columns, rows, consumers, n]) =>
      Effect.sync(() => {
        const snapshots = consumers.map(([name, partitions, reasons]) =>
          snapshot({
            name,
            outcomes: { handled: n, skipped: n, deadLettered: n, filtered: 0, alreadyDone: 0 },
            partitions: Array.from({ length: partitions }, (_, i) =>
              partition(i, {
                topic: `${name}-\u6ce8`,
                committed: BigInt(n) ** 2n,
                end: BigInt(n) ** 2n + BigInt(i),
                oldest: {
                  offset: BigInt(n),
                  state: "running",
                  attempt: 1,
                  since: now - n,
                  receivedAt: now - n,
                  firstFailedAt: undefined,
                  timestamp: 0n
                }
              })
            ),
            health: {
              status: "degraded",
              live: true,
              ready: true,
              reasons: Array.from({ length: reasons }, () => ({
                code: "stuck",
                message: name,
                since: now - n,
                count: n
              }))
            }
          })
        )
        const lines = draw(snapshots, { columns, rows })
        assert.isAtMost(lines.length, rows)
        for (const line of lines) assert.isAtMost(widthOf(line), columns)
      }),
    { arbitrary: { runs: 300 } }
  )
})

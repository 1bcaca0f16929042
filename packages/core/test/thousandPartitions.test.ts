/**
 * A thousand partitions, each with an offset map that is almost full: what its commits may cost, seen by the broker.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { CommitEntry } from "../src/ConsumerSession.ts"
import { Handler } from "../src/Handler.ts"
import { encodedBytes } from "../src/internal/commitLoop.ts"
import { OffsetMap } from "../src/OffsetMap.ts"
import { pass, passUntil, turns, whileTimePasses, world } from "./harness.ts"
import { at, outcomes, recordAt, scripted } from "./script.ts"

const partitions = 1_000
const kibibyte = 1_024
const mebibyte = kibibyte * kibibyte

const numbers = (length: number): ReadonlyArray<number> => Array.from({ length }, (_, i) => i)

/** far from each other, so that each costs its eight bytes: of a former owner */
const before = numbers(350).map((i) => {
  const from = 100 + 90 * i
  return [from, from + 40 + (from % 7)] as const
})

const mapOf = (partition: number, runs: ReadonlyArray<readonly [from: number, to: number]>): string =>
  OffsetMap.encode({ topic: "t", partition, base: 0n, runs: runs.flat(), limit: 4_096 }).metadata

const said = (partition: number, metadata: string): string => {
  const decoded = OffsetMap.decode(metadata, { topic: "t", partition, base: 0n, trust: "own" })
  return decoded._tag === "Map" ? String(decoded.map.runs) : decoded._tag
}

describe("a thousand partitions with maps", () => {
  it.effect(
    "D52, C3: at most 256 KiB a request, 1 MiB of maps a second, a flush at once, and what is refused holds up nobody else",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions, maxChunk: 10, maxFetchRecords: 10_000 })
        // what a former owner has done: looked at here, with each commit
        w.expect("passedOver")
        for (const partition of numbers(partitions)) {
          yield* w.kafka.produceMany({ topic: "t", partition }, 32_000, () => ({ key: null, value: null }))
          yield* w.kafka.setCommitted("g", "t", partition, { offset: 0n, metadata: mapOf(partition, before) })
        }
        const sent: Array<{ readonly at: number; readonly bytes: number; readonly maps: number }> = []
        const done = numbers(partitions).map(() => new Set<number>())
        const problems: Array<string> = []
        w.kafka.onCommitUnsafe(({ at, entries }) => {
          const bytes = encodedBytes(entries.map((entry) => ({ ...entry, epoch: 0 })))
          sent.push({ at, bytes, maps: entries.reduce((sum, entry) => sum + entry.metadata.length, 0) })
          for (const { code, metadata, offset, partition } of entries) {
            if (code !== undefined) continue
            if (offset !== 0n) problems.push(`${partition} passes its first record with ${offset}`)
            const decoded = OffsetMap.decode(metadata, { topic: "t", partition, base: 0n, trust: "own" })
            const runs = decoded._tag === "Map" ? decoded.map.runs : []
            for (let i = 0; i < runs.length && runs[i]! < 100; i += 2) {
              for (let o = runs[i]!; o < runs[i + 1]!; o++) {
                if (!done[partition]!.has(o)) problems.push(`the map of ${partition} speaks of ${o}`)
              }
            }
          }
        })
        const running = new Map<string, () => void>()
        const a = yield* w.member("a", {
          concurrency: "unbounded",
          batchSize: 1_000_000,
          batchInterval: 100,
          policy: "none",
          handler: Handler.make("t", ({ offset, partition }) =>
            Effect.callback<void>((resume) => {
              running.set(`${partition}:${offset}`, () => {
                done[partition]!.add(Number(offset))
                resume(Effect.void)
              })
            })
          )
        })
        const finish = (offset: number): Effect.Effect<void> =>
          Effect.andThen(
            Effect.sync(() => {
              for (const partition of numbers(partitions)) running.get(`${partition}:${offset}`)!()
            }),
            turns
          )
        yield* passUntil("all partitions have records", () => running.size >= 8 * partitions, 60_000, 50)
        const maps = (from: number): number => sent.slice(from).reduce((sum, one) => sum + one.maps, 0)

        // by themselves: one cycle after the other, each with the map of every partition
        const first = sent.length
        const began = w.kafka.commitsUnsafe().length
        assert.strictEqual(first, began)
        yield* finish(1)
        yield* passUntil("the first cycle", () => maps(first) >= 1_000 * 3_000, 60_000, 50)
        yield* finish(3)
        const second = sent.length
        const size = maps(first)
        yield* passUntil("the second cycle", () => maps(second) >= 1_000 * 3_000, 60_000, 50)
        const millis = sent[second]!.at - sent[first]!.at
        assert.isAtLeast(
          (millis * mebibyte) / 1_000,
          size - mebibyte / 10,
          `${size} bytes, and more ${millis} ms later`
        )
        // and no longer than that
        assert.isAtMost((millis * mebibyte) / 1_000, 1.2 * size)

        // a flush does not wait for it
        yield* finish(5)
        const third = sent.length
        const flushed = yield* whileTimePasses(a.consumer.flush, 1_000, 0)
        assert.strictEqual(flushed.value._tag === "Success" && flushed.value.value.length, partitions)
        assert.isAtLeast(maps(third), 1_000 * 3_000)
        assert.isAtMost(sent.at(-1)!.at - sent[third]!.at, 0)
        for (const one of sent) assert.isAtMost(one.bytes, 256 * kibibyte)
        assert.isAtLeast(sent.length - third, 12)
        const expected = [[1, 2], [3, 4], [5, 6], ...before] as const
        const stored = (partition: number) => said(partition, w.kafka.committedUnsafe("g", "t", partition)!.metadata)
        for (const partition of numbers(partitions)) assert.strictEqual(stored(partition), String(expected.flat()))

        // one of them is refused in every request
        w.kafka.faults.next(
          "commit",
          { kind: "code", code: "NOT_COORDINATOR", partitions: [{ topic: "t", partition: 7 }] },
          { times: 1_000_000 }
        )
        yield* finish(7)
        const answers = yield* whileTimePasses(a.consumer.flush, 1_000, 0)
        const failed =
          answers.value._tag === "Success" ? answers.value.value.filter((o) => o.outcome !== "committed") : []
        assert.deepStrictEqual(
          failed.map(({ outcome, partition }) => [partition, outcome]),
          [[7, "retriable"]]
        )
        const further = String([[1, 2], [3, 4], [5, 6], [7, 8], ...before].flat())
        for (const partition of numbers(partitions)) {
          assert.strictEqual(stored(partition) === further, partition !== 7, `${partition}`)
        }
        w.kafka.faults.clear()
        yield* passUntil("the last one is in too", () => stored(7) === further, 60_000, 100)
        assert.deepStrictEqual(problems, [])
      }),
    60_000
  )

  it.effect("D52, C3: a map that makes the broker refuse its whole request is left out, and no other one is", () =>
    Effect.gen(function* () {
      const bad = 423
      const s = yield* scripted({ batchSize: 1_000_000, concurrency: 10_000 })
      s.session.always = (entries: ReadonlyArray<CommitEntry>) =>
        entries.some(({ metadata, partition }) => partition === bad && metadata !== "")
          ? outcomes("rejected", "REQUEST_TOO_LARGE")(entries)
          : outcomes("committed")(entries)
      yield* s.session.assign(
        numbers(partitions).map((partition) => ({
          partition,
          epoch: partition + 1,
          committed: 0,
          metadata: mapOf(partition, before)
        }))
      )
      for (const partition of numbers(partitions)) {
        yield* s.session.signal({
          _tag: "Chunk",
          ...at(partition, partition + 1),
          records: [0, 1].map((offset) => recordAt(partition, offset)),
          nextOffset: 2n,
          end: 100_000n
        })
      }
      const began = s.session.now()
      for (const partition of numbers(partitions)) yield* s.desk.finish(partition, 1)
      const answers = yield* s.consumer.flush
      assert.strictEqual(answers.filter(({ outcome }) => outcome === "committed").length, partitions)
      const stored = new Map<number, CommitEntry>()
      for (const { entries } of s.session.sent) {
        const refused = entries.some(({ metadata, partition }) => partition === bad && metadata !== "")
        if (!refused) for (const entry of entries) stored.set(entry.partition, entry)
      }
      const expected = String([[1, 2], ...before].flat())
      for (const partition of numbers(partitions)) {
        const entry = stored.get(partition)!
        assert.strictEqual(entry.offset, 0n)
        assert.strictEqual(said(partition, entry.metadata), partition === bad ? "Empty" : expected)
      }
      // by half and by half: not one by one
      assert.isAtMost(s.session.sent.length, 60)
      assert.strictEqual(s.session.now(), began)
      yield* pass(0)
    })
  )
})

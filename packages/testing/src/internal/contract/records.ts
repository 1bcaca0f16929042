/**
 * Contract: what comes out of the inbox is what is in the log.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { assertInOrder, range, record, type Suite } from "./kit.ts"

const bytes = (...all: ReadonlyArray<number>): Uint8Array => Uint8Array.from(all)

export const records = <R>(suite: Suite<R>): void => {
  const { consume, fill, fresh, harness, it, needs, patience, quiet, topic: newTopic, until } = suite
  const timeout = patience * 2

  it.effect(
    "brings every record of every partition once, in offset order, and each chunk goes on where the last one ended",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(3, 2_000)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("all have come", () => reader.records().length >= 6_000)
        yield* quiet
        assertInOrder(reader)
        for (const partition of range(0, 3)) {
          assert.deepStrictEqual(
            reader.chunks(topic, partition).flatMap((chunk) => chunk.records.map((one) => one.offset)),
            range(0, 2_000).map(BigInt)
          )
          assert.strictEqual(reader.chunks(topic, partition).at(-1)!.nextOffset, 2_000n)
          assert.strictEqual(reader.chunks(topic, partition).at(-1)!.end, 2_000n)
        }
        assert.deepStrictEqual(
          [...reader.values()].sort(),
          range(0, 3)
            .flatMap((partition) => range(0, 2_000).map((i) => `${partition}:${i}`))
            .sort()
        )
      }),
    timeout
  )

  it.effect(
    "brings records that are written while it waits",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 0)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("assigned", () => reader.held.size === 1)
        for (const i of range(0, 5)) {
          yield* fill(topic, 0, i, i + 1)
          yield* until(`record ${i} has come`, () => reader.records().length === i + 1)
        }
        assertInOrder(reader)
      }),
    timeout
  )

  it.effect(
    "keeps null and empty keys and values apart, and headers with their order and repetitions",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 0)
        const none = { partition: 0, key: null, value: null, headers: [] }
        const name = (s: string) => (harness.keepsHeaderOrder === false ? "same" : s)
        const headers = [
          [name("b"), bytes(1)],
          [name("a"), bytes(2, 255)],
          [name("b"), bytes(3)],
          [name("c"), bytes()]
        ] as const
        yield* harness.produce(topic, [
          none,
          { ...none, key: bytes(), value: bytes() },
          { ...none, key: bytes(0, 128, 255), value: bytes(255, 0) },
          { ...none, value: bytes(1), headers },
          { ...none, headers: [["only", null]] }
        ])
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("all have come", () => reader.records().length === 5)
        const plain = reader.records().map((one) => ({
          partition: one.partition,
          key: one.key === null ? null : [...one.key],
          value: one.value === null ? null : [...one.value],
          headers: one.headers.map(([header, value]) => [header, value === null ? null : [...value]])
        }))
        assert.deepStrictEqual(plain, [
          { partition: 0, key: null, value: null, headers: [] },
          { partition: 0, key: [], value: [], headers: [] },
          { partition: 0, key: [0, 128, 255], value: [255, 0], headers: [] },
          { partition: 0, key: null, value: [1], headers: headers.map(([header, value]) => [header, [...value]]) },
          { partition: 0, key: null, value: null, headers: [["only", null]] }
        ])
        for (const one of reader.records()) assert.strictEqual(typeof one.timestamp, "bigint")
      }),
    timeout
  )

  it.effect(
    "read_committed: passes aborted records and markers, and sees nothing of an open transaction",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 0)
        const write = (value: string, end: "commit" | "abort" | "open") =>
          harness.transaction!(topic, [record(0, value), record(0, value)], end)
        yield* write("a", "commit") // 0 1, marker 2
        yield* write("b", "abort") // 3 4, marker 5
        yield* write("c", "commit") // 6 7, marker 8
        yield* write("d", "abort") // 9 10, marker 11
        const finish = yield* write("e", "open") // 12 13
        yield* harness.produce(topic, [record(0, "plain")]) // 14
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        const position = () => reader.chunks(topic, 0).at(-1)?.nextOffset
        yield* until("it has come to the open transaction", () => position() === 12n)
        yield* quiet
        assert.deepStrictEqual(reader.values(), ["a", "a", "c", "c"])
        assert.strictEqual(reader.chunks(topic, 0).at(-1)!.end, 12n)
        yield* finish("commit") // marker 15
        yield* until("it has come to the end", () => position() === 16n)
        assert.deepStrictEqual(reader.values(), ["a", "a", "c", "c", "e", "e", "plain"])
        assertInOrder(reader)
      }),
    needs("transaction")
  )

  it.effect(
    "read_committed: a range of aborted records alone moves the position by a chunk without records",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 1)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("the first has come", () => reader.records().length === 1)
        yield* harness.transaction!(topic, [record(0, "never")], "abort")
        yield* until("it has passed them", () => reader.chunks(topic, 0).at(-1)?.nextOffset === 3n)
        assert.strictEqual(reader.records().length, 1)
        const [start] = yield* reader.session.logOffsets([{ topic, partition: 0 }])
        assert.strictEqual(start!.end, 3n)
      }),
    needs("transaction")
  )

  it.effect(
    "read_uncommitted: sees aborted and open transactions",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 0)
        yield* harness.transaction!(topic, [record(0, "aborted")], "abort")
        const finish = yield* harness.transaction!(topic, [record(0, "open")], "open")
        const reader = yield* consume({
          groupId: yield* fresh("group"),
          topics: [topic],
          isolation: "read_uncommitted"
        })
        yield* until("both have come", () => reader.records().length === 2)
        assert.deepStrictEqual(reader.values(), ["aborted", "open"])
        assert.strictEqual(reader.chunks(topic, 0).at(-1)!.end, 3n)
        yield* finish("abort")
      }),
    needs("transaction")
  )

  it.effect(
    "passes holes in the log, also at its end",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 50)
        yield* harness.removeOffsets!(topic, 0, [0n, 1n, 10n, 11n, 12n, 20n, 48n, 49n])
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("it has come to the end", () => reader.chunks(topic, 0).at(-1)?.nextOffset === 50n)
        const removed = [0, 1, 10, 11, 12, 20, 48, 49]
        assert.deepStrictEqual(
          reader.values(),
          range(0, 50)
            .filter((i) => !removed.includes(i))
            .map((i) => `0:${i}`)
        )
        assertInOrder(reader)
      }),
    needs("removeOffsets")
  )
}

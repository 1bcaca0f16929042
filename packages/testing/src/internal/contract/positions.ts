/**
 * Contract: where reading starts, stops and goes on, is the engine's to say.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { assertInOrder, type Suite, valueOf } from "./kit.ts"

export const positions = <R>(suite: Suite<R>): void => {
  const { consume, fill, fresh, harness, it, needs, patience, quiet, topic: newTopic, until } = suite
  const timeout = patience * 2

  it.effect(
    "fetches nothing of a new epoch before begin, and then from just there",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 20)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] }, { start: () => undefined })
        yield* until("assigned", () => reader.held.size === 1)
        yield* quiet
        assert.strictEqual(reader.of("Chunk").length, 0)
        reader.session.beginUnsafe([{ ...reader.partition(topic, 0), offset: 7n }])
        yield* until("the rest has come", () => reader.records().length >= 13)
        assert.strictEqual(reader.records()[0]!.offset, 7n)
        assert.strictEqual(reader.records().length, 13)
      }),
    timeout
  )

  it.effect(
    "a paused partition brings at most one more chunk, the others go on, and resume brings the rest",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 0)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("assigned", () => reader.held.size === 2)
        const [paused, other] = [reader.partition(topic, 0), reader.partition(topic, 1)]
        reader.session.pauseUnsafe([paused])
        yield* fill(topic, 0, 0, 10)
        yield* fill(topic, 1, 0, 10)
        yield* until("the other one has come", () => reader.chunks(topic, 1).at(-1)?.nextOffset === 10n)
        yield* fill(topic, 0, 10, 20)
        yield* quiet
        assert.isTrue(reader.chunks(topic, 0).length <= 1, "one chunk may have been under way")
        // An epoch that is not current is ignored.
        reader.session.resumeUnsafe([{ ...paused, epoch: paused.epoch - 1_000_000 }])
        yield* quiet
        assert.isTrue(reader.chunks(topic, 0).length <= 1)
        reader.session.resumeUnsafe([paused, other])
        yield* until("the rest has come", () => reader.chunks(topic, 0).at(-1)?.nextOffset === 20n)
        assert.strictEqual(reader.records().length, 30)
        assertInOrder(reader)
      }),
    timeout
  )

  it.effect(
    "reopen gives a new epoch that waits for begin, and the old one brings nothing any more",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 10)
        const group = yield* fresh("group")
        const reader = yield* consume({ groupId: group, topics: [topic] })
        yield* until("all have come", () => reader.records().length === 10)
        const before = reader.partition(topic, 0)
        const now = reader.session.reopenUnsafe(before)
        assert.isDefined(now)
        assert.notStrictEqual(now!.epoch, before.epoch)
        assert.isUndefined(reader.session.reopenUnsafe(before), "its epoch is over")
        yield* fill(topic, 0, 10, 15)
        yield* quiet
        assert.strictEqual(reader.records().length, 10, "nothing before begin")
        reader.session.beginUnsafe([{ ...before, offset: 0n }])
        yield* quiet
        assert.strictEqual(reader.records().length, 10, "an epoch that is over cannot begin")
        reader.session.beginUnsafe([{ ...now!, offset: 4n }])
        yield* until("it has come to the end", () => reader.records().length >= 21)
        const again = reader.of("Chunk").filter((chunk) => chunk.epoch === now!.epoch)
        assert.deepStrictEqual(
          again.flatMap((chunk) => chunk.records.map((one) => Number(one.offset))),
          [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
        )
        assert.strictEqual(reader.records().length, 21)
        const outcomes = yield* reader.session.commit([
          { ...before, offset: 9n, metadata: "" },
          { ...now!, offset: 5n, metadata: "back" }
        ])
        assert.deepStrictEqual(
          outcomes.map((one) => one.outcome),
          ["stale", "committed"]
        )
        assert.deepStrictEqual(yield* harness.committed(group, topic, 0), { offset: 5n, metadata: "back" })
      }),
    timeout
  )

  it.effect(
    "an epoch that is begun beyond the end says so and stops until it is reopened, and commits nothing",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 10)
        const group = yield* fresh("group")
        const reader = yield* consume({ groupId: group, topics: [topic] }, { start: () => 1_000n })
        yield* until("it is out of range", () => reader.of("OutOfRange").length === 1)
        const [out] = reader.of("OutOfRange")
        assert.deepStrictEqual(
          { position: out!.position, start: out!.start, end: out!.end, epoch: out!.epoch },
          { position: 1_000n, start: 0n, end: 10n, epoch: reader.partition(topic, 0).epoch }
        )
        yield* fill(topic, 0, 10, 12)
        yield* quiet
        assert.strictEqual(reader.of("OutOfRange").length, 1)
        assert.strictEqual(reader.records().length, 0)
        const now = reader.session.reopenUnsafe(out!)
        reader.session.beginUnsafe([{ ...now!, offset: 0n }])
        yield* until("all have come", () => reader.records().length === 12)
        assert.isUndefined(yield* harness.committed(group, topic, 0), "no commit but ours")
      }),
    timeout
  )

  it.effect(
    "a committed offset below the start: goes on at the start in the same epoch, and leaves the committed offset alone",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 50)
        const group = yield* fresh("group")
        yield* Effect.scoped(
          Effect.gen(function* () {
            const first = yield* consume({ groupId: group, topics: [topic] })
            yield* until("assigned", () => first.held.size === 1)
            yield* first.session.commit([{ ...first.partition(topic, 0), offset: 10n, metadata: "mine" }])
          })
        )
        yield* harness.deleteRecordsBefore!(topic, 0, 30n)
        const reader = yield* consume({ groupId: group, topics: [topic] })
        yield* until("the rest has come", () => reader.records().length === 20)
        const [out] = reader.of("OutOfRange")
        assert.deepStrictEqual([out!.position, out!.start, out!.end], [10n, 30n, 50n])
        const { epoch } = reader.partition(topic, 0)
        assert.isTrue(reader.of("Chunk").every((chunk) => chunk.epoch === epoch))
        assert.strictEqual(valueOf(reader.records()[0]!), "0:30")
        assert.deepStrictEqual(yield* harness.committed(group, topic, 0), { offset: 10n, metadata: "mine" })
      }),
    needs("deleteRecordsBefore")
  )

  it.effect(
    "a log that is cut under a paused position: goes on at the start, and leaves the committed offset alone",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 5)
        const group = yield* fresh("group")
        const reader = yield* consume({ groupId: group, topics: [topic] })
        yield* until("all have come", () => reader.records().length === 5)
        const partition = reader.partition(topic, 0)
        yield* reader.session.commit([{ ...partition, offset: 3n, metadata: "kept" }])
        reader.session.pauseUnsafe([partition])
        yield* quiet
        yield* fill(topic, 0, 5, 40)
        yield* harness.deleteRecordsBefore!(topic, 0, 35n)
        reader.session.resumeUnsafe([partition])
        yield* until("the rest has come", () => reader.chunks(topic, 0).at(-1)?.nextOffset === 40n)
        // The one chunk that was under way when it was paused may have brought them before they were cut.
        if (!reader.records().some(({ offset }) => offset >= 5n && offset < 35n)) {
          const [out] = reader.of("OutOfRange")
          assert.deepStrictEqual([out!.position, out!.start], [5n, 35n])
          assert.strictEqual(reader.records().length, 10)
        }
        assert.deepStrictEqual(yield* harness.committed(group, topic, 0), { offset: 3n, metadata: "kept" })
      }),
    needs("deleteRecordsBefore")
  )
}

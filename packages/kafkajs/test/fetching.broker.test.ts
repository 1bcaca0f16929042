import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import kafkajs from "kafkajs"
import { inject } from "vitest"
import { KafkaJs } from "../src/index.ts"
import { encodeBatch } from "../../driver/test/batches.ts"
import { writer } from "./batches.ts"
import { controlOf, instrumented } from "./instrumented.ts"
import { join, settingsOf, unique, until, world } from "./support.ts"

const brokers = inject("brokers")
/** Snappy that compresses nothing, in the framing that Java's writes: one literal of at most 60 bytes. */
const snappy = (plain: Buffer): Buffer => {
  const block = Buffer.concat([Buffer.from([plain.length, (plain.length - 1) << 2]), plain])
  const head = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, block.length])
  return Buffer.concat([head, block])
}
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => String(from + i))

layer(KafkaJs.layer({ brokers }), { excludeTestServices: true, timeout: 60_000 })(
  "fetching from a real broker",
  (it) => {
    it.effect("every record comes once, in order, from where the epoch was begun", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(3)
        for (const partition of [0, 1, 2]) yield* kafka.send(topic, partition, numbers(0, 5000))
        const member = yield* join(settingsOf(unique("group"), [topic]), {
          start: ({ partition }) => BigInt(partition * 100)
        })
        yield* until("all records", () => member.records.length === 15_000 - 300)
        for (const partition of [0, 1, 2]) {
          const mine = member.records.filter((record) => record.partition === partition)
          assert.deepStrictEqual(
            mine.map((record) => String(Buffer.from(record.value!))),
            numbers(partition * 100, 5000)
          )
          assert.deepStrictEqual(
            mine.map(({ offset }) => offset),
            numbers(partition * 100, 5000).map(BigInt)
          )
          assert.strictEqual(member.position.get(`${topic}/${partition}`), 5000n)
        }
        assert.isTrue(member.of("Chunk").every((chunk) => chunk.end === 5000n))
      })
    )

    it.effect("nothing of an epoch is fetched before it is begun", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(2)
        yield* kafka.send(topic, 0, ["a"])
        yield* kafka.send(topic, 1, ["b"])
        const member = yield* join(settingsOf(unique("group"), [topic]), {
          start: (p) => (p.partition === 0 ? 0n : undefined)
        })
        yield* until("the record of the begun one", () => member.records.length === 1)
        yield* Effect.sleep(700)
        assert.deepStrictEqual(member.values(), ["a"])
        member.session.beginUnsafe([{ ...member.partition(1), offset: 0n }])
        yield* until("the other record", () => member.records.length === 2)
      })
    )

    it.effect("a resume, a begin and a reopen take effect at once, also while a long poll waits", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(2)
        yield* kafka.send(topic, 0, ["a"])
        // partition 1 is idle and polled for two seconds at a time
        const member = yield* join(settingsOf(unique("group"), [topic], { maxWait: 2000 }))
        yield* until("the first record", () => member.records.length === 1)
        const times: Array<number> = []
        for (let i = 0; i < 5; i++) {
          const p = member.partition(0)
          member.session.pauseUnsafe([p])
          // what was under way when it was paused still brings one chunk; then it is quiet
          yield* kafka.send(topic, 0, ["b"])
          yield* until("the chunk under way", () => member.records.length === 2 + 2 * i, 4000)
          yield* kafka.send(topic, 0, ["c"])
          yield* Effect.sleep(150)
          assert.strictEqual(member.records.length, 2 + 2 * i)
          const began = performance.now()
          member.session.resumeUnsafe([p])
          yield* until("the record", () => member.records.length === 3 + 2 * i)
          times.push(performance.now() - began)
        }
        const reopened = member.session.reopenUnsafe(member.partition(0))!
        const before = member.records.length
        const began = performance.now()
        member.session.beginUnsafe([{ ...reopened, offset: 0n }])
        yield* until("the first record again", () => member.records.length > before)
        times.push(performance.now() - began)
        for (const ms of times) assert.isBelow(ms, 500)
      })
    )

    it.effect("a pause stops one partition and no other, and survives a rebalance", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(2)
        const settings = settingsOf(unique("group"), [topic])
        const member = yield* join(settings)
        yield* until("assigned", () => member.owned.length === 2)
        member.session.pauseUnsafe([member.partition(0)])
        yield* kafka.send(topic, 0, ["x"])
        yield* until("the chunk under way", () => member.records.length === 1, 4000)
        yield* kafka.send(topic, 0, ["not yet"])
        yield* kafka.send(topic, 1, ["a"])
        yield* until("the other partition", () => member.records.length === 2)
        // somebody comes and goes: both partitions are retained in the end, or the paused one is
        const epoch = member.partition(0).epoch
        yield* Effect.scoped(Effect.andThen(join({ ...settings, topics: [yield* kafka.topic(1)] }), Effect.sleep(1500)))
        yield* until("assigned again", () => member.of("Assigned").length >= 2)
        yield* Effect.sleep(500)
        assert.strictEqual(member.partition(0).epoch, epoch)
        assert.strictEqual(member.records.length, 2)
        member.session.resumeUnsafe([member.partition(0)])
        yield* until("the paused record", () => member.values().includes("not yet"))
      })
    )

    it.effect("a reopened partition has another epoch; the old one brings and commits nothing more", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(1)
        yield* kafka.send(topic, 0, numbers(0, 10))
        const member = yield* join(settingsOf(unique("group"), [topic]))
        yield* until("all records", () => member.records.length === 10)
        const old = member.partition(0)
        const reopened = member.session.reopenUnsafe(old)!
        assert.isAbove(reopened.epoch, old.epoch)
        assert.isUndefined(member.session.reopenUnsafe(old))
        yield* kafka.send(topic, 0, ["10"])
        yield* Effect.sleep(600)
        assert.strictEqual(member.records.length, 10)
        assert.deepInclude((yield* member.session.commit([{ ...old, offset: 5n, metadata: "" }]))[0]!, {
          outcome: "stale",
          code: "EPOCH"
        })
        member.session.beginUnsafe([{ ...old, offset: 0n }])
        member.session.beginUnsafe([{ ...reopened, offset: 7n }])
        yield* until("the records from there", () => member.records.length === 14)
        assert.deepStrictEqual(
          member.records.slice(10).map(({ epoch, offset }) => [epoch, offset]),
          [7n, 8n, 9n, 10n].map((offset) => [reopened.epoch, offset])
        )
      })
    )

    it.effect("transactions: aborted ones are left out, markers leave no lag, open ones hold the end", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(1)
        const settings = settingsOf(unique("group"), [topic])
        const member = yield* join(settings)
        const all = yield* join(settingsOf(unique("group"), [topic], { isolation: "read_uncommitted" }))
        const producer = yield* Effect.acquireRelease(
          kafka.promise(async () => {
            const made = kafka.kafka.producer({
              transactionalId: unique("tx"),
              maxInFlightRequests: 1,
              idempotent: true,
              createPartitioner: kafkajs.Partitioners.DefaultPartitioner
            })
            await made.connect()
            return made
          }),
          (made) => Effect.promise(() => made.disconnect())
        )
        const write = (value: string, end: "commit" | "abort") =>
          kafka.promise(async () => {
            const transaction = await producer.transaction()
            await transaction.send({ topic, messages: [{ partition: 0, value }] })
            await (end === "commit" ? transaction.commit() : transaction.abort())
          })
        for (const [value, end] of [
          ["a", "commit"],
          ["b", "abort"],
          ["c", "commit"],
          ["d", "abort"],
          ["e", "abort"]
        ] as const) {
          yield* write(value, end)
        }
        yield* until("the end of the log", () => member.position.get(`${topic}/0`) === 10n)
        assert.deepStrictEqual(member.values(), ["a", "c"])
        yield* until("the end of the log", () => all.position.get(`${topic}/0`) === 10n)
        assert.deepStrictEqual(all.values(), ["a", "b", "c", "d", "e"])

        const open = yield* kafka.promise(() => producer.transaction())
        yield* kafka.promise(() => open.send({ topic, messages: [{ partition: 0, value: "f" }] }))
        yield* until("the open record, uncommitted", () => all.values().includes("f"))
        const tp = { topic, partition: 0 }
        assert.deepInclude((yield* member.session.logOffsets([tp]))[0]!, { start: 0n, end: 10n })
        assert.deepInclude((yield* all.session.logOffsets([tp]))[0]!, { start: 0n, end: 11n })
        assert.notInclude(member.values(), "f")
        yield* kafka.promise(() => open.commit())
        yield* until("the record", () => member.values().includes("f"))
        yield* until("the marker", () => member.position.get(`${topic}/0`) === 12n)
      })
    )

    it.effect("a compacted tail is passed in one step", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(1, {
          "cleanup.policy": "compact",
          "segment.ms": "100",
          "min.cleanable.dirty.ratio": "0.0001",
          "min.compaction.lag.ms": "0",
          "max.compaction.lag.ms": "200",
          "delete.retention.ms": "0"
        })
        const producer = yield* Effect.acquireRelease(
          kafka.promise(async () => {
            const made = kafka.kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
            await made.connect()
            return made
          }),
          (made) => Effect.promise(() => made.disconnect())
        )
        // one batch of 500 of which only the first stays, and a last record in a segment of its own
        const same = Array.from({ length: 499 }, (_, i) => ({ partition: 0, key: "again", value: String(i) }))
        yield* kafka.promise(() =>
          producer.send({ topic, messages: [{ partition: 0, key: "first", value: "1" }, ...same] })
        )
        yield* Effect.sleep(200)
        yield* kafka.promise(() => producer.send({ topic, messages: [{ partition: 0, key: "again", value: "last" }] }))
        yield* Effect.sleep(200)
        yield* kafka.promise(() => producer.send({ topic, messages: [{ partition: 0, key: "end", value: "end" }] }))
        const read = Effect.gen(function* () {
          const member = yield* join(settingsOf(unique("group"), [topic]))
          yield* until("the end", () => member.values().includes("end"))
          return member
        })
        let member = yield* read
        for (let i = 0; i < 40 && member.records.length > 3; i++) {
          yield* Effect.sleep(500)
          member = yield* read
        }
        assert.deepStrictEqual(member.values(), ["1", "last", "end"])
        assert.isAtMost(member.of("Chunk").length, 3)
      }).pipe(Effect.timeout("50 seconds"))
    )

    it.effect("compressed batches are read: gzip and zstd", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(1)
        const producer = yield* Effect.acquireRelease(
          kafka.promise(async () => {
            const made = kafka.kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
            await made.connect()
            return made
          }),
          (made) => Effect.promise(() => made.disconnect())
        )
        for (const compression of [
          kafkajs.CompressionTypes.GZIP,
          kafkajs.CompressionTypes.None,
          kafkajs.CompressionTypes.ZSTD
        ]) {
          const messages = numbers(0, 50).map((i) => ({ partition: 0, value: `${compression} ${i}` }))
          yield* kafka.promise(() => producer.send({ topic, compression, messages }))
        }
        const member = yield* join(settingsOf(unique("group"), [topic]))
        yield* until("all records", () => member.records.length === 150)
        assert.deepStrictEqual(
          member.records.map(({ offset }) => offset),
          numbers(0, 150).map(BigInt)
        )
      })
    )

    it.effect("records compressed with a codec that is not there end the session, and the error names the codec", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(1)
        const write = yield* writer(brokers)
        yield* write(topic, 0, encodeBatch({ base: 0n, last: 0, records: [{ delta: 0, value: "plain" }] }))
        const batch = { base: 0n, last: 0, records: [{ delta: 0, value: "secret" }], attributes: 2, compress: snappy }
        yield* write(topic, 0, encodeBatch(batch))
        const member = yield* join(settingsOf(unique("group"), [topic]), { start: () => 1n })
        yield* until("the inbox has failed", () => member.ended !== undefined)
        assert.deepInclude(member.ended, { reason: "MissingCodec" })
        const { detail } = member.ended as KafkaClientError
        for (const text of ["snappy", `${topic}/0`, "offset 1"]) assert.include(detail, text)
        assert.notInclude(detail, "secret")
        // the group does not wait for a member that has ended
        const next = yield* join({ ...member.session.settings, topics: [yield* kafka.topic(1)] })
        yield* until("assigned", () => next.owned.length === 1, 3000)
      })
    )

    it.effect(
      "the log is cut above the position: it goes on at the beginning, in the same epoch, and commits nothing itself",
      () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(1)
          yield* kafka.send(topic, 0, numbers(0, 300))
          const settings = settingsOf(unique("group"), [topic])
          // under a running session
          const member = yield* join(settings, { start: () => 0n })
          yield* until("all records", () => member.records.length === 300)
          assert.strictEqual((yield* member.commit(0, 10n, "map")).outcome, "committed")
          const reopened = member.session.reopenUnsafe(member.partition(0))!
          yield* kafka.cut(topic, 0, "100")
          member.session.beginUnsafe([{ ...reopened, offset: 10n }])
          yield* until("the rest", () => member.records.length === 500)
          assert.deepStrictEqual(member.of("OutOfRange"), [
            { _tag: "OutOfRange", ...reopened, position: 10n, start: 100n, end: 300n }
          ])
          assert.strictEqual(member.records[300]!.offset, 100n)
          assert.strictEqual(member.records[300]!.epoch, reopened.epoch)
          assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition: 0 }), {
            offset: "10",
            metadata: "map"
          })

          // before the start
          yield* member.session.leave
          yield* kafka.cut(topic, 0, "200")
          const second = yield* join(settings)
          yield* until("the rest", () => second.records.length === 100)
          assert.deepInclude(second.of("OutOfRange")[0]!, { position: 10n, start: 200n, end: 300n })
          assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition: 0 }), {
            offset: "10",
            metadata: "map"
          })
        })
    )

    it.effect("a position beyond the end is told, and nothing is fetched until it is reopened and begun", () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(1)
        yield* kafka.send(topic, 0, numbers(0, 10))
        const member = yield* join(settingsOf(unique("group"), [topic]), { start: () => 5000n })
        yield* until("out of range", () => member.of("OutOfRange").length === 1)
        assert.deepInclude(member.of("OutOfRange")[0]!, { position: 5000n, start: 0n, end: 10n })
        yield* kafka.send(topic, 0, ["10"])
        yield* Effect.sleep(800)
        assert.strictEqual(member.of("OutOfRange").length, 1)
        assert.strictEqual(member.records.length, 0)
        const reopened = member.session.reopenUnsafe(member.partition(0))!
        member.session.beginUnsafe([{ ...reopened, offset: 8n }])
        yield* until("records", () => member.records.length === 3)
      })
    )
  }
)

layer(instrumented(brokers), { excludeTestServices: true, timeout: 60_000 })("a broker that answers wrongly", (it) => {
  const oneRecord = Effect.gen(function* () {
    const kafka = yield* world(brokers)
    const topic = yield* kafka.topic(1)
    yield* kafka.send(topic, 0, ["a"])
    const member = yield* join(settingsOf(unique("group"), [topic], { maxWait: 100 }))
    yield* until("the record", () => member.records.length === 1)
    return { topic, member, control: controlOf(member.session), send: kafka.send(topic, 0, ["b"]) }
  })

  it.effect("a batch that is not compressed and cannot be decoded ends the session as one that is", () =>
    Effect.gen(function* () {
      const { control, member, send } = yield* oneRecord
      control.fetchAnswer = (answer) => {
        for (const { batches } of answer.partitions) if (batches.length > 16) batches[16] = 1
        return answer
      }
      yield* send
      yield* until("the inbox has failed", () => member.ended !== undefined, 5000)
      assert.deepInclude(member.ended, { reason: "CorruptData" })
    })
  )

  it.effect("an answer of less than a batch is not asked for again and again without a pause", () =>
    Effect.gen(function* () {
      const { control, member, send } = yield* oneRecord
      control.fetchAnswer = (answer) => ({
        ...answer,
        partitions: answer.partitions.map((p) => ({ ...p, batches: p.batches.subarray(0, 40) }))
      })
      yield* send
      control.requests.length = 0
      yield* Effect.sleep(1000)
      assert.isBelow(control.requests.filter((name) => name === "fetch").length, 20)
      control.fetchAnswer = undefined
      yield* until("the record", () => member.records.length === 2)
    })
  )
})

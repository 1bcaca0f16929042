/** Suite: what a session reads of a real broker. */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import { encodeBatch } from "../batches.ts"
import { type Client, instrumented, suiteOf } from "../client.ts"
import { controlOf } from "../instrumented.ts"
import type { Fetched } from "../../src/Protocol.ts"
import { join, numbers, settingsOf, unique, until } from "../members.ts"
import { world } from "../operator.ts"

export const fetching = (client: Client): void => {
  const brokers = inject("brokers")

  suiteOf(client, "fetching from a real broker", () => {
    layer(client.layer({ brokers }), { excludeTestServices: true, timeout: 60_000 })((it) => {
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

      it.effect("transactions: aborted ones are left out, markers leave no lag, open ones hold the end", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(1)
          const settings = settingsOf(unique("group"), [topic])
          const member = yield* join(settings)
          const all = yield* join(settingsOf(unique("group"), [topic], { isolation: "read_uncommitted" }))
          const producer = yield* kafka.producer({
            transactionalId: unique("tx"),
            maxInFlightRequests: 1,
            idempotent: true
          })
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

      it.effect.each(["gzip", "snappy", "lz4", "zstd"])("what the broker itself has compressed is read: %s", (codec) =>
        Effect.gen(function* () {
          yield* client.registerCodecs
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(1, { "compression.type": codec })
          const producer = yield* kafka.producer()
          // a batch of one record, one of many, and one that a thread of the pool decompresses
          const values = [["one"], numbers(0, 500), numbers(0, 20).map((i) => i.padEnd(20_000, "abc"))]
          for (const batch of values) {
            const messages = batch.map((value) => ({ partition: 0, value }))
            yield* kafka.promise(() => producer.send({ topic, messages }))
          }
          const member = yield* join(settingsOf(unique("group"), [topic]))
          yield* until("all records", () => member.records.length === 521)
          assert.deepStrictEqual(member.values(), values.flat())
          assert.deepStrictEqual(
            member.records.map(({ offset }) => offset),
            numbers(0, 521).map(BigInt)
          )
        })
      )
    })
  })

  suiteOf(client, "a broker that is asked for several topics", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("a request may name a topic more than once, and each of its partitions is answered", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topics = [yield* kafka.topic(4), yield* kafka.topic(4)]
          const member = yield* join(settingsOf(unique("group"), topics, { maxWait: 100 }))
          yield* until("assigned", () => member.owned.length === 8)
          const { fetches } = controlOf(member.session)
          let count = 0
          const sendToAll = Effect.gen(function* () {
            for (const partition of [0, 1, 2, 3]) {
              for (const topic of topics) {
                yield* kafka.send(topic, partition, [`${topic} ${partition}`])
                count++
                yield* until("the record", () => member.records.length === count)
              }
            }
          })
          // who was served last is asked for last: so the topics come in turn
          yield* sendToAll
          const before = fetches.length
          yield* until("some fetches", () => fetches.length > before + 3)
          assert.isTrue(fetches.slice(before).some((names) => names.length > new Set(names).size))
          yield* sendToAll
          const seen = member.records.map(({ offset, partition, topic }) => `${topic}/${partition} ${offset}`)
          assert.strictEqual(new Set(seen).size, 16)
          for (const { partition, topic, value } of member.records) {
            assert.strictEqual(String(Buffer.from(value!)), `${topic} ${partition}`)
          }
        })
      )
    })
  })

  suiteOf(client, "a broker that answers wrongly", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })((it) => {
      const oneRecord = Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(1)
        yield* kafka.send(topic, 0, ["a"])
        const member = yield* join(settingsOf(unique("group"), [topic], { maxWait: 100 }))
        yield* until("the record", () => member.records.length === 1)
        return { kafka, topic, member, control: controlOf(member.session), send: kafka.send(topic, 0, ["b"]) }
      })

      it.effect(
        "records compressed with a codec that is not there end the session, and the error names the codec",
        () =>
          Effect.gen(function* () {
            const { control, kafka, member, send, topic } = yield* oneRecord
            const [codec, name] = client.unknownCodec
            const batch = encodeBatch({
              base: 1n,
              last: 0,
              records: [{ delta: 0, value: "secret" }],
              attributes: codec
            })
            control.fetchAnswer = (answer) => ({
              ...answer,
              partitions: answer.partitions.map((p) => (p.batches.length > 0 ? { ...p, batches: batch } : p))
            })
            yield* send
            yield* until("the inbox has failed", () => member.ended !== undefined)
            assert.deepInclude(member.ended, { reason: "MissingCodec" })
            const { detail } = member.ended as KafkaClientError
            for (const text of [name, `${topic}/0`, "offset 1"]) assert.include(detail, text)
            assert.notInclude(detail, "secret")
            // the group does not wait for a member that has ended
            const next = yield* join({ ...member.session.settings, topics: [yield* kafka.topic(1)] })
            yield* until("assigned", () => next.owned.length === 1, 3000)
          })
      )

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

      const lastByte = (batches: Buffer): void => {
        batches.writeInt8(batches.readInt8(batches.length - 1) ^ 1, batches.length - 1)
      }
      const endless = (batches: Buffer): void => {
        batches.writeInt32BE(1_000_000, 8)
      }
      const damage = (answer: Fetched, how: (batches: Buffer) => void): Fetched => ({
        ...answer,
        partitions: answer.partitions.map((p) => {
          const batches = Buffer.from(p.batches)
          if (batches.length > 0) how(batches)
          return { ...p, batches }
        })
      })

      it.effect("a batch that was damaged on its way is fetched again, and not a record of it is handed out", () =>
        Effect.gen(function* () {
          const { control, member, send } = yield* oneRecord
          const ways = [lastByte, (batches: Buffer) => batches.writeInt8(66, 16), endless]
          control.fetchAnswer = (answer) => {
            if (answer.partitions.every((p) => p.batches.length === 0)) return answer
            const how = ways.shift()
            return how === undefined ? answer : damage(answer, how)
          }
          yield* send
          yield* until("the record", () => member.records.length === 2, 5000)
          assert.deepStrictEqual(member.values(), ["a", "b"])
          assert.deepStrictEqual(ways, [])
        })
      )

      it.effect.each([
        ["checksum", lastByte],
        ["no end within the answer", endless]
      ] as const)(
        "a batch that is damaged each time ends the session, and the error says where it is (%s)",
        ([what, how]) =>
          Effect.gen(function* () {
            const { control, member, send, topic } = yield* oneRecord
            control.fetchAnswer = (answer) => damage(answer, how)
            yield* send
            yield* until("the inbox has failed", () => member.ended !== undefined, 10_000)
            assert.deepInclude(member.ended, { reason: "CorruptData" })
            for (const part of [what, "offset 1", `${topic}/0`]) {
              assert.include((member.ended as KafkaClientError).detail, part)
            }
            assert.deepStrictEqual(member.values(), ["a"])
          })
      )

      it.effect("an answer of less than a batch is not asked for again and again without a pause", () =>
        Effect.gen(function* () {
          const { control, member, send } = yield* oneRecord
          control.fetchAnswer = (answer) => ({
            ...answer,
            partitions: answer.partitions.map((p) => ({ ...p, batches: p.batches.subarray(0, 12) }))
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
  })
}

/** The producer on a broker that a test plays: what it stores, what it answers, and what it has seen. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { ProducerRecord, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Lane, Sending, sequenceAfter } from "../src/internal/lane.ts"
import { decompress } from "./codecs.ts"
import type { TopicMetadata } from "../src/Broker.ts"
import { producerOn, producerSettings } from "../src/internal/producer.ts"
import type { PartitionBatch } from "../src/internal/produceRequest.ts"
import { decodeRecords } from "../src/internal/records.ts"
import type { ProduceAnswer, SenderSettings, SenderWire } from "../src/internal/sender.ts"

const utf8 = new TextEncoder()
const settings: SenderSettings = producerSettings(120_000)

interface Sent {
  readonly producerId: bigint
  readonly epoch: number
  readonly sequence: number
  readonly values: ReadonlyArray<string>
  readonly timestamps: ReadonlyArray<bigint>
}

const readBatch = (batch: Buffer): Sent => {
  const decoded = decodeRecords({
    topic: "t",
    partition: 0,
    position: 0n,
    aborted: [],
    batches: batch,
    decompress,
    most: Infinity
  })
  if (decoded instanceof Promise) throw new Error("nothing is compressed")
  return {
    producerId: batch.readBigInt64BE(43),
    epoch: batch.readInt16BE(51),
    sequence: batch.readInt32BE(53),
    values: decoded.records.map(({ value }) => String(Buffer.from(value!))),
    timestamps: decoded.records.map(({ timestamp }) => timestamp)
  }
}

/** A partition as a broker has it: by the rules of KIP-98 for sequence numbers. */
class Partition {
  leader = 1
  readonly log: Array<string> = []
  readonly #producers = new Map<
    bigint,
    { epoch: number; readonly batches: Array<readonly [first: number, count: number]> }
  >()

  append({ epoch, producerId, sequence, values }: Sent): string {
    let state = this.#producers.get(producerId)
    if (state !== undefined && epoch < state.epoch) return "INVALID_PRODUCER_EPOCH"
    if (state === undefined || epoch > state.epoch) {
      if (state !== undefined && sequence !== 0) return "OUT_OF_ORDER_SEQUENCE_NUMBER"
      this.#producers.set(producerId, (state = { epoch, batches: [] }))
    } else {
      if (state.batches.some(([first, count]) => first === sequence && count === values.length)) return "NONE"
      const [first, count] = state.batches.at(-1)!
      if (sequence !== first + count) return "OUT_OF_ORDER_SEQUENCE_NUMBER"
    }
    this.log.push(...values)
    state.batches.push([sequence, values.length])
    if (state.batches.length > 5) state.batches.shift()
    return "NONE"
  }
}

type Answer = (codes: ReadonlyArray<readonly [batch: PartitionBatch, store: () => string]>) => ProduceAnswer

const answer =
  (code?: string): Answer =>
  (batches) => ({
    _tag: "Answer",
    partitions: batches.map(([{ partition, topic }, store]) => ({ topic, partition, code: code ?? store() }))
  })

const noAnswer = (sent: boolean): ProduceAnswer => ({
  _tag: "NoAnswer",
  error: new KafkaClientError({ reason: "Connection", detail: "gone" }),
  sent
})

/** It has it, and nobody hears of it. */
const lost: Answer = (batches) => {
  for (const [, store] of batches) store()
  return noAnswer(true)
}
const dropped: Answer = () => noAnswer(true)
const notSent: Answer = () => noAnswer(false)
/** It has stored nothing, and says so. */
const tooFew: Answer = answer("NOT_ENOUGH_REPLICAS")
/** what ends like this the broker does not take */
const bad = "!"

class Broker implements SenderWire {
  readonly partitions: Array<Partition>
  readonly requests: Array<{ readonly node: number; readonly batches: ReadonlyArray<Sent> }> = []
  readonly answers: Array<Answer> = []
  /** requests wait for it */
  gate: Promise<void> = Promise.resolve()
  metadataCode = "NONE"
  metadataFails: KafkaClientError | undefined
  asked = 0
  identities = 0
  identityAsked = 0
  identityFails: KafkaClientError | undefined
  mostAtOnce = 0
  readonly #underWay = new Map<number, number>()

  constructor(partitions = 1) {
    this.partitions = Array.from({ length: partitions }, () => new Partition())
  }

  readonly metadata: SenderWire["metadata"] = async (topics) => {
    this.asked++
    if (this.metadataFails) throw this.metadataFails
    return new Map(
      topics.map((topic): [string, TopicMetadata] => [
        topic,
        {
          topic,
          code: topic === "t" ? this.metadataCode : "UNKNOWN_TOPIC_OR_PARTITION",
          id: undefined,
          leaders: new Map(this.partitions.map(({ leader }, partition) => [partition, leader]))
        }
      ])
    )
  }

  readonly identify: SenderWire["identify"] = async () => {
    this.identityAsked++
    if (this.identityFails) throw this.identityFails
    return { producerId: BigInt(++this.identities), epoch: 0 }
  }

  readonly produce: SenderWire["produce"] = async (node, batches) => {
    const sent = batches.map(({ batch }) => readBatch(batch))
    this.requests.push({ node, batches: sent })
    this.#underWay.set(node, (this.#underWay.get(node) ?? 0) + 1)
    this.mostAtOnce = Math.max(this.mostAtOnce, ...this.#underWay.values())
    await this.gate
    this.#underWay.set(node, this.#underWay.get(node)! - 1)
    const stores = batches.map((batch, i): readonly [PartitionBatch, () => string] => [
      batch,
      () => {
        const partition = this.partitions[batch.partition]!
        if (partition.leader !== node) return "NOT_LEADER_OR_FOLLOWER"
        return sent[i]!.values.some((value) => value.endsWith(bad)) ? "INVALID_RECORD" : partition.append(sent[i]!)
      }
    ])
    return (this.answers.shift() ?? answer())(stores)
  }

  /** the batches that came, oldest first */
  get batches(): ReadonlyArray<Sent> {
    return this.requests.flatMap(({ batches }) => batches)
  }
}

const record = (value: string | number, partition?: number): ProducerRecord => ({
  topic: "t",
  partition,
  value: utf8.encode(String(value))
})

/** Promises and fibers go on until nothing more happens without time. */
const turns = Effect.promise(async () => {
  for (let i = 0; i < 10; i++) await new Promise(setImmediate)
})

const pass = (millis: number) =>
  Effect.gen(function* () {
    yield* turns
    for (let left = millis; left > 0; left -= 250) {
      yield* TestClock.adjust(Math.min(250, left))
      yield* turns
    }
  })

const errorOf = (exit: Exit.Exit<boolean, PublishError>): PublishError => {
  if (Exit.isSuccess(exit)) return assert.fail("it was confirmed")
  return Cause.squash(exit.cause) as PublishError
}

/** Starts a send; `pollUnsafe` says what has become of it. */
const start =
  (send: (records: ReadonlyArray<ProducerRecord>) => Effect.Effect<boolean, PublishError>) =>
  (...records: ReadonlyArray<ProducerRecord>) =>
    Effect.forkChild(send(records), { startImmediately: true })

const open = (broker: Broker, rest: Partial<SenderSettings> = {}) =>
  Effect.map(producerOn(broker, { ...settings, ...rest }), ({ send }) => ({ send, start: start(send) }))

describe("batches", () => {
  it.effect("what is sent at the same time goes together, and what comes during a request goes into the next one", () =>
    Effect.gen(function* () {
      const broker = new Broker(3)
      const { start } = yield* open(broker)
      const first = yield* Effect.forEach([0, 1, 2, 3], (i) => start(record(i, i % 2)))
      const { promise, resolve } = Promise.withResolvers<void>()
      broker.gate = promise
      yield* turns
      assert.deepStrictEqual(
        broker.requests.map(({ batches }) => batches.map(({ values }) => values)),
        [
          [
            ["0", "2"],
            ["1", "3"]
          ]
        ]
      )
      const second = yield* Effect.forEach([4, 5, 6], (i) => start(record(i, i % 3)))
      yield* turns
      assert.strictEqual(broker.requests.length, 1)
      resolve()
      for (const fiber of [...first, ...second]) assert.isTrue(yield* Fiber.join(fiber))
      assert.strictEqual(broker.requests.length, 2)
      assert.strictEqual(broker.mostAtOnce, 1)
      assert.deepStrictEqual(
        broker.partitions.map(({ log }) => log),
        [["0", "2", "6"], ["1", "3", "4"], ["5"]]
      )
    })
  )

  it.effect("ten thousand sends at once are a few requests", () =>
    Effect.gen(function* () {
      const broker = new Broker(6)
      const { send } = yield* open(broker)
      const value = new Uint8Array(100)
      const all = yield* Effect.forEach(Array.from({ length: 10_000 }), () => send([{ topic: "t", value }]), {
        concurrency: "unbounded"
      })
      assert.isTrue(all.every((stored) => stored))
      assert.isBelow(broker.requests.length, 10)
      assert.strictEqual(
        broker.partitions.reduce((sum, { log }) => sum + log.length, 0),
        10_000
      )
    })
  )

  it.effect("a batch and a request end where they are full; each broker has one request at a time", () =>
    Effect.gen(function* () {
      const broker = new Broker(4)
      broker.partitions[3]!.leader = 2
      const { send } = yield* open(broker, { maxBatch: 1000, maxRequest: 2000 })
      yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => i),
        (i) => send([record(`${i}`.padEnd(80), i % 4)]),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(broker.mostAtOnce, 1)
      for (const { batches } of broker.requests) {
        assert.isAtMost(batches.length, 2)
        for (const { values } of batches) assert.isAtMost(values.length, 9)
      }
      broker.partitions.forEach(({ log }, partition) =>
        assert.deepStrictEqual(
          log.map(Number),
          Array.from({ length: 25 }, (_, i) => i * 4 + partition)
        )
      )
      // nobody waits for ever behind the others
      const first = (node: number) => broker.requests.find((request) => request.node === node)!
      assert.strictEqual(first(2).batches.length, 1)
    })
  )

  it.effect("a send that is interrupted takes back what is not under way, and nobody waits for what is", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { promise, resolve } = Promise.withResolvers<void>()
      broker.gate = promise
      const { start } = yield* open(broker)
      const underWay = yield* start(record("a"))
      yield* turns
      const queued = yield* start(record("b"))
      const stays = yield* start(record("c"))
      yield* Fiber.interrupt(underWay)
      yield* Fiber.interrupt(queued)
      resolve()
      assert.isTrue(yield* Fiber.join(stays))
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "c"])
    })
  )

  it.effect(
    "what never left the process and is taken back is stored nowhere, and nothing is asked for it any more",
    () =>
      Effect.gen(function* () {
        const broker = new Broker()
        const { send, start } = yield* open(broker)
        yield* send([record("a")])
        const down = new KafkaClientError({ reason: "Connection", detail: "down" })
        broker.metadataFails = down
        broker.answers.push(...Array.from({ length: 1000 }, () => notSent))
        const takenBack = yield* start(record("b"))
        yield* pass(5000)
        yield* Fiber.interrupt(takenBack)
        yield* pass(6000)
        const { asked, requests } = broker
        const sent = requests.length
        yield* pass(60_000)
        assert.strictEqual(broker.requests.length, sent)
        assert.strictEqual(broker.asked, asked)
        broker.answers.length = 0
        broker.metadataFails = undefined
        yield* pass(10_000)
        yield* send([record("c")])
        assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "c"])
        // "b" has used no number
        assert.deepInclude(broker.batches.at(-1), { epoch: 0, sequence: 1 })
      })
  )

  it.effect("what was taken back leaves a batch that has not left the process, and the others stay in it", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { start } = yield* open(broker)
      broker.answers.push(...Array.from({ length: 8 }, () => notSent))
      const [one, two, three] = [yield* start(record("a")), yield* start(record("b")), yield* start(record("c"))]
      yield* pass(500)
      yield* Fiber.interrupt(two)
      yield* pass(20_000)
      assert.isTrue(yield* Fiber.join(one))
      assert.isTrue(yield* Fiber.join(three))
      assert.deepStrictEqual(broker.batches[0]!.values, ["a", "b", "c"])
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "c"])
    })
  )

  it.effect("what was taken back in doubt is given up in time, too, and its epoch ends", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send, start } = yield* open(broker, { deliveryTimeout: 10_000 })
      yield* send([record("a")])
      broker.answers.push(...Array.from({ length: 1000 }, () => dropped))
      const doubtful = yield* start(record("b"))
      yield* pass(1000)
      yield* Fiber.interrupt(doubtful)
      yield* pass(12_000)
      const sent = broker.requests.length
      yield* pass(60_000)
      assert.strictEqual(broker.requests.length, sent)
      broker.answers.length = 0
      yield* send([record("c")])
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "c"])
      assert.deepInclude(broker.batches.at(-1), { epoch: 1, sequence: 0 })
    })
  )

  it.effect("for what was taken back no identity is asked for", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { start } = yield* open(broker)
      broker.identityFails = new KafkaClientError({ reason: "Connection", detail: "down" })
      const takenBack = yield* start(record("a"))
      yield* pass(3000)
      yield* Fiber.interrupt(takenBack)
      yield* pass(6000)
      const asked = broker.identityAsked
      yield* pass(30_000)
      assert.strictEqual(broker.identityAsked, asked)
    })
  )
})

describe("sequence numbers", () => {
  it.effect("count the records of a partition, and a retry has the same", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      broker.answers.push(answer(), lost, dropped, answer("NOT_ENOUGH_REPLICAS"), answer("REQUEST_TIMED_OUT"))
      const { send, start } = yield* open(broker)
      yield* send([record("a"), record("b")])
      const next = yield* start(record("c"))
      yield* pass(3000)
      assert.isTrue(yield* Fiber.join(next))
      yield* send([record("d")])
      assert.deepStrictEqual(
        broker.batches.map(({ epoch, sequence, values }) => [epoch, sequence, values.join("")]),
        [
          [0, 0, "ab"],
          [0, 2, "c"],
          [0, 2, "c"],
          [0, 2, "c"],
          [0, 2, "c"],
          [0, 2, "c"],
          [0, 3, "d"]
        ]
      )
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "b", "c", "d"])
    })
  )

  it.effect("of a batch that was refused for certain are those of the next one", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      broker.answers.push(answer("TOPIC_AUTHORIZATION_FAILED"))
      const { send } = yield* open(broker)
      const error = yield* Effect.flip(send([record("a")]))
      assert.deepInclude(error, { reason: "refused", code: "TOPIC_AUTHORIZATION_FAILED", isRetryable: false })
      yield* send([record("b")])
      assert.deepStrictEqual(
        broker.batches.map(({ epoch, sequence }) => [epoch, sequence]),
        [
          [0, 0],
          [0, 0]
        ]
      )
      assert.deepStrictEqual(broker.partitions[0]!.log, ["b"])
    })
  )

  it.effect("of a batch that was given up in doubt are never used again: the epoch ends", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send, start } = yield* open(broker, { deliveryTimeout: 5000 })
      yield* send([record("a")])
      broker.answers.push(...Array.from({ length: 100 }, () => lost))
      const doubtful = yield* start(record("b"))
      yield* pass(7000)
      const error = errorOf(yield* Fiber.await(doubtful))
      assert.deepInclude(error, { reason: "retriable", code: "Connection", isRetryable: true })
      broker.answers.length = 0
      // "b" is there under 1; with the same number "c" would be taken for it
      yield* send([record("c")])
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "b", "c"])
      const { epoch, producerId, sequence } = broker.batches.at(-1)!
      assert.deepStrictEqual([producerId, epoch, sequence], [1n, 1, 0])
      // what comes late of the old epoch is fenced off
      assert.strictEqual(
        broker.partitions[0]!.append(broker.batches.find(({ values }) => values[0] === "b")!),
        "INVALID_PRODUCER_EPOCH"
      )
    })
  )

  it.effect.each(["OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "DUPLICATE_SEQUENCE_NUMBER"])(
    "%s: what is not stored for certain is sent again in the next epoch, in front of what waits",
    (code) =>
      Effect.gen(function* () {
        const broker = new Broker()
        const { send, start } = yield* open(broker)
        yield* send([record("a")])
        const { promise, resolve } = Promise.withResolvers<void>()
        broker.gate = promise
        broker.answers.push(answer(code))
        const second = yield* start(record("b"))
        yield* turns
        const third = yield* start(record("c"))
        resolve()
        yield* pass(1000)
        assert.isTrue(yield* Fiber.join(second))
        assert.isTrue(yield* Fiber.join(third))
        assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "b", "c"])
        const { epoch, producerId, sequence } = broker.batches.at(-1)!
        assert.deepStrictEqual([producerId, epoch, sequence], [1n, 1, 0])
      })
  )

  it.effect("OUT_OF_ORDER_SEQUENCE_NUMBER after an answer was lost: nobody knows, and that is what is said", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send, start } = yield* open(broker)
      yield* send([record("a")])
      broker.answers.push(lost, answer("OUT_OF_ORDER_SEQUENCE_NUMBER"))
      const doubtful = yield* start(record("b"))
      yield* pass(1000)
      const error = errorOf(yield* Fiber.await(doubtful))
      assert.deepInclude(error, { reason: "unconfirmed", code: "OUT_OF_ORDER_SEQUENCE_NUMBER", isRetryable: true })
      yield* send([record("c")])
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "b", "c"])
    })
  )

  it.effect("DUPLICATE_SEQUENCE_NUMBER after an answer was lost: it was stored then", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send, start } = yield* open(broker)
      yield* send([record("a")])
      broker.answers.push(lost, answer("DUPLICATE_SEQUENCE_NUMBER"))
      const doubtful = yield* start(record("b"))
      yield* pass(1000)
      assert.isTrue(yield* Fiber.join(doubtful))
      yield* send([record("c")])
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "b", "c"])
      assert.deepInclude(broker.batches.at(-1), { epoch: 0, sequence: 2 })
    })
  )

  it.effect("of a batch that may have arrived when the broker refused this producer are never used again", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send } = yield* open(broker)
      yield* send([record("a")])
      const refused = new KafkaClientError({ reason: "Authentication", detail: "no" })
      broker.answers.push((batches) => {
        lost(batches)
        return { _tag: "NoAnswer", error: refused, sent: true }
      })
      const error = yield* Effect.flip(send([record("b")]))
      assert.deepInclude(error, { reason: "unconfirmed", code: "Authentication" })
      yield* send([record("c")])
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a", "b", "c"])
      assert.deepInclude(broker.batches.at(-1), { epoch: 1, sequence: 0 })
    })
  )

  it.effect("INVALID_PRODUCER_EPOCH: another producer id, for this partition", () =>
    Effect.gen(function* () {
      const broker = new Broker(2)
      const { send, start } = yield* open(broker)
      yield* send([record("a", 0), record("b", 1)])
      broker.answers.push(answer("INVALID_PRODUCER_EPOCH"))
      const next = yield* start(record("c", 0))
      yield* pass(1000)
      assert.isTrue(yield* Fiber.join(next))
      yield* send([record("d", 1)])
      assert.deepStrictEqual(
        broker.batches.slice(-2).map(({ epoch, producerId, sequence }) => [producerId, epoch, sequence]),
        [
          [2n, 0, 0],
          [1n, 0, 1]
        ]
      )
    })
  )
})

describe("the ends of numbers", () => {
  it("sequence numbers begin again at 0 after the highest", () => {
    const highest = 0x7fffffff
    assert.strictEqual(sequenceAfter(5, 3), 8)
    assert.strictEqual(sequenceAfter(highest - 3, 3), highest)
    assert.strictEqual(sequenceAfter(highest - 2, 3), 0)
    assert.strictEqual(sequenceAfter(highest, 1), 0)
    assert.strictEqual(sequenceAfter(highest, 3), 2)
  })

  it("after the last epoch of a producer id comes another id", () => {
    const lane = new Lane("t", 0, 1000, 1000)
    const settled: Array<string> = []
    const sending = new Sending(1, (_, error) => settled.push(error?.code ?? "ok"))
    const body = { key: null, value: utf8.encode("v"), headers: [], timestamp: 0n }
    lane.push({ ...body, sending, index: 0, size: 50, since: 0, partition: undefined, missingSince: undefined })
    lane.take({ producerId: 1n, epoch: 0x7fff })
    assert.deepInclude(lane.answered("OUT_OF_ORDER_SEQUENCE_NUMBER"), { renew: true, pause: true })
    const { epoch, producerId, sequence } = readBatch(lane.take({ producerId: 2n, epoch: 0 })!)
    assert.deepStrictEqual([producerId, epoch, sequence], [2n, 0, 0])
    assert.deepInclude(lane.answered("NONE"), { renew: false, pause: false })
    assert.deepStrictEqual(settled, ["ok"])
    assert.isTrue(lane.isEmpty)
  })
})

describe("answers", () => {
  it.effect("a partition that the answer does not name is not confirmed, and sent again", () =>
    Effect.gen(function* () {
      const broker = new Broker(2)
      broker.answers.push((batches) => {
        const whole = answer()(batches)
        return whole._tag === "Answer" ? { ...whole, partitions: whole.partitions.slice(0, 1) } : whole
      })
      const { start } = yield* open(broker)
      const both = yield* start(record("a", 0), record("b", 1))
      yield* turns
      assert.isUndefined(both.pollUnsafe())
      yield* pass(1000)
      assert.isTrue(yield* Fiber.join(both))
      assert.deepStrictEqual(
        broker.partitions.map(({ log }) => log),
        [["a"], ["b"]]
      )
    })
  )

  it.effect("a leader that has moved is looked for, and gets what the old one did not take", () =>
    Effect.gen(function* () {
      const broker = new Broker(2)
      const { send, start } = yield* open(broker)
      yield* send([record("a", 0), record("b", 1)])
      broker.partitions[1]!.leader = 2
      const asked = broker.asked
      const moved = yield* start(record("c", 1), record("d", 0))
      yield* pass(1000)
      assert.isTrue(yield* Fiber.join(moved))
      assert.isAbove(broker.asked, asked)
      assert.strictEqual(broker.requests.at(-1)!.node, 2)
      assert.deepStrictEqual(
        broker.partitions.map(({ log }) => log),
        [
          ["a", "d"],
          ["b", "c"]
        ]
      )
    })
  )

  it.effect("a partition without a leader is waited for; records without a key go to the others", () =>
    Effect.gen(function* () {
      const broker = new Broker(3)
      broker.partitions[1]!.leader = -1
      const { send, start } = yield* open(broker)
      const waits = yield* start(record("a", 1))
      for (let i = 0; i < 4; i++) assert.isTrue(yield* send([record(i)]))
      yield* pass(3000)
      assert.isUndefined(waits.pollUnsafe())
      assert.deepStrictEqual(
        broker.partitions.map(({ log }) => log.length),
        [2, 0, 2]
      )
      broker.partitions[1]!.leader = 2
      yield* pass(2000)
      assert.isTrue(yield* Fiber.join(waits))
      assert.deepStrictEqual(broker.partitions[1]!.log, ["a"])
    })
  )

  it.effect("one partition that fails holds up no other one", () =>
    Effect.gen(function* () {
      const broker = new Broker(2)
      const { send, start } = yield* open(broker)
      yield* send([record("a", 0)])
      const failing: Answer = (batches) => ({
        _tag: "Answer",
        partitions: batches.map(([{ partition, topic }, store]) => ({
          topic,
          partition,
          code: partition === 0 ? "NOT_ENOUGH_REPLICAS" : store()
        }))
      })
      broker.answers.push(...Array.from({ length: 20 }, () => failing))
      const held = yield* start(record("b", 0))
      for (let i = 0; i < 10; i++) assert.isTrue(yield* send([record(i, 1)]))
      assert.isUndefined(held.pollUnsafe())
      broker.answers.length = 0
      yield* pass(2000)
      assert.isTrue(yield* Fiber.join(held))
    })
  )

  it.effect("a batch that is too large is split until the one record is found that is", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send } = yield* open(broker)
      const strict: Answer = (batches) => ({
        _tag: "Answer",
        partitions: batches.map(([{ batch, partition, topic }, store]) => ({
          topic,
          partition,
          code: readBatch(batch).values.includes("large") ? "MESSAGE_TOO_LARGE" : store()
        }))
      })
      broker.answers.push(...Array.from({ length: 100 }, () => strict))
      const records = Array.from({ length: 50 }, (_, i) => record(i === 30 ? "large" : i))
      const error = yield* Effect.flip(send(records))
      assert.deepInclude(error, { reason: "refused", code: "MESSAGE_TOO_LARGE" })
      assert.deepStrictEqual(error.unconfirmed, [30])
      assert.deepStrictEqual(
        broker.partitions[0]!.log,
        records.flatMap((_, i) => (i === 30 ? [] : [String(i)]))
      )
      assert.strictEqual(broker.identities, 1)
      assert.isTrue(broker.batches.every(({ epoch }) => epoch === 0))
    })
  )
})

describe("records that the broker does not take", () => {
  const many = (count: number, isBad: (i: number) => boolean) =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send } = yield* open(broker)
      const values = Array.from({ length: count }, (_, i) => `${i}${isBad(i) ? bad : ""}`)
      const error = yield* Effect.flip(send(values.map((value) => record(value))))
      assert.deepInclude(error, { reason: "refused", code: "INVALID_RECORD" })
      const refused = values.flatMap((_, i) => (isBad(i) ? [i] : []))
      assert.deepStrictEqual(error.unconfirmed, refused)
      assert.deepStrictEqual(
        broker.partitions[0]!.log,
        values.filter((_, i) => !isBad(i))
      )
      assert.strictEqual(broker.identities, 1)
      return { requests: broker.requests.length, records: broker.batches.flatMap(({ values }) => values).length }
    })

  it.effect("cost two requests each at most, however many they are", () =>
    Effect.gen(function* () {
      const all = yield* many(1000, () => true)
      assert.isAtMost(all.requests, 1000 + 10)
      assert.isAtMost(all.records, 3 * 1000)
      const half = yield* many(1000, (i) => i % 2 === 0)
      assert.isAtMost(half.requests, 2 * 1000)
    })
  )

  it.effect("alone among others they make batches small for a moment only", () =>
    Effect.gen(function* () {
      for (const at of [0, 500, 999]) {
        const { records, requests } = yield* many(1000, (i) => i === at)
        assert.isAtMost(requests, 30)
        assert.isAtMost(records, 5 * 1000)
      }
    })
  )
})

describe("what cannot be sent", () => {
  it.effect("a topic that is not there: refused after a while, unless it comes", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { start } = yield* open(broker)
      const never = yield* start({ ...record("a"), topic: "missing" })
      broker.metadataCode = "UNKNOWN_TOPIC_OR_PARTITION"
      const late = yield* start(record("b"))
      yield* pass(4000)
      broker.metadataCode = "NONE"
      assert.isUndefined(never.pollUnsafe())
      yield* pass(3000)
      assert.isTrue(yield* Fiber.join(late))
      const error = errorOf(yield* Fiber.await(never))
      assert.deepInclude(error, { reason: "refused", code: "UNKNOWN_TOPIC_OR_PARTITION" })
    })
  )

  it.effect("holds up no other topic", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send, start } = yield* open(broker)
      const missing = yield* start({ ...record("a"), topic: "missing" })
      yield* pass(3000)
      const asked = broker.asked
      // no clock moves
      assert.isTrue(yield* send([record("b")]))
      assert.isAtMost(broker.asked, asked + 2)
      assert.isUndefined(missing.pollUnsafe())
      // closing would wait for it
      yield* Fiber.interrupt(missing)
    })
  )

  it.effect("a partition that is not there: refused after a while, unless it comes; one that cannot be, at once", () =>
    Effect.gen(function* () {
      const broker = new Broker(1)
      const { send, start } = yield* open(broker)
      const [one, two] = [yield* start(record("a", 1)), yield* start(record("b", 2))]
      yield* pass(2000)
      assert.isUndefined(one.pollUnsafe())
      broker.partitions.push(new Partition())
      yield* pass(6000)
      assert.isTrue(yield* Fiber.join(one))
      assert.strictEqual(errorOf(yield* Fiber.await(two)).reason, "refused")
      for (const partition of [-1, 0.5, Number.NaN]) {
        assert.strictEqual((yield* Effect.flip(send([record("c", partition)]))).reason, "refused")
      }
    })
  )

  it.effect("metadata that are forbidden, credentials that are refused, no right to an identity: refused at once", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send } = yield* open(broker)
      broker.metadataCode = "TOPIC_AUTHORIZATION_FAILED"
      const forbidden = yield* Effect.flip(send([record("a")]))
      assert.deepInclude(forbidden, { reason: "refused", code: "TOPIC_AUTHORIZATION_FAILED" })
      broker.metadataCode = "NONE"
      broker.metadataFails = new KafkaClientError({ reason: "Authentication", detail: "no" })
      assert.deepInclude(yield* Effect.flip(send([record("b")])), { reason: "refused", code: "Authentication" })
      broker.metadataFails = undefined
      broker.identityFails = new KafkaClientError({ reason: "Authorization", detail: "no" })
      assert.deepInclude(yield* Effect.flip(send([record("c")])), { reason: "refused", code: "Authorization" })
      broker.identityFails = undefined
      assert.isTrue(yield* send([record("d")]))
    })
  )

  it.effect(
    "no broker: everything is tried until the delivery timeout, wherever it waits, and fails with retriable",
    () =>
      Effect.gen(function* () {
        const broker = new Broker()
        const { send, start } = yield* open(broker, { deliveryTimeout: 10_000 })
        const down = new KafkaClientError({ reason: "Connection", detail: "down" })
        broker.metadataFails = down
        const unknown = yield* start(record("a"))
        yield* pass(12_000)
        assert.deepInclude(errorOf(yield* Fiber.await(unknown)), { reason: "retriable", code: "Connection" })
        broker.metadataFails = undefined
        broker.identityFails = down
        const unidentified = yield* start(record("b"))
        yield* pass(12_000)
        assert.strictEqual(errorOf(yield* Fiber.await(unidentified)).reason, "retriable")
        broker.identityFails = undefined
        broker.answers.push(...Array.from({ length: 50 }, () => notSent))
        const unsent = yield* start(record("c"))
        const behind = yield* start(record("d"))
        yield* pass(12_000)
        for (const fiber of [unsent, behind]) {
          assert.deepInclude(errorOf(yield* Fiber.await(fiber)), { reason: "retriable", code: "Connection" })
        }
        broker.answers.length = 0
        yield* pass(2000)
        assert.isTrue(yield* send([record("e")]))
        assert.deepStrictEqual(broker.partitions[0]!.log, ["e"])
      })
  )

  it.effect.each([
    ["never left the process", notSent],
    ["is in doubt", dropped]
  ] as const)("of what %s each record has its own time: a young one does not end with an old one", ([, trouble]) =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { start } = yield* open(broker, { deliveryTimeout: 10_000 })
      // nobody leads the partition, so that both wait
      broker.partitions[0]!.leader = -1
      const old = yield* start(record("old"))
      yield* pass(7000)
      const young = yield* start(record("young"))
      broker.answers.push(...Array.from({ length: 1000 }, () => trouble))
      broker.partitions[0]!.leader = 1
      yield* pass(5000)
      assert.deepInclude(errorOf(yield* Fiber.await(old)), { reason: "retriable" })
      yield* pass(2000)
      assert.isUndefined(young.pollUnsafe())
      broker.answers.length = 0
      yield* pass(5000)
      assert.isTrue(yield* Fiber.join(young))
      assert.deepStrictEqual(broker.partitions[0]!.log, ["young"])
    })
  )

  it.effect("what goes into one batch and is in doubt ends together, and none of it before its time", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { start } = yield* open(broker, { deliveryTimeout: 10_000 })
      broker.partitions[0]!.leader = -1
      const old = yield* start(record("old"))
      yield* pass(250)
      const young = yield* start(record("young"))
      broker.answers.push(...Array.from({ length: 1000 }, () => dropped))
      broker.partitions[0]!.leader = 1
      yield* pass(9750)
      assert.deepStrictEqual(broker.batches[0]!.values, ["old", "young"])
      assert.isUndefined(old.pollUnsafe())
      yield* pass(2000)
      for (const fiber of [old, young]) assert.strictEqual(errorOf(yield* Fiber.await(fiber)).reason, "retriable")
    })
  )

  it.effect("bytes that are none are a defect of who sends, and the producer goes on", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send } = yield* open(broker)
      const exit = yield* Effect.exit(send([{ topic: "t", value: "text" as never }]))
      assert.isTrue(Exit.isFailure(exit) && exit.cause.reasons.every(({ _tag }) => _tag === "Die"))
      assert.isTrue(yield* send([record("a")]))
    })
  )

  it.effect.each([2n ** 63n, -2n, -(2n ** 63n) - 1n])(
    "a timestamp of %s that no batch can have is refused, and the others of its send and of other sends are stored",
    (timestamp) =>
      Effect.gen(function* () {
        const broker = new Broker()
        const { start } = yield* open(broker)
        const other = yield* start(record("other"))
        const both = yield* start({ ...record("bad"), timestamp }, record("good"))
        yield* pass(1000)
        assert.isTrue(yield* Fiber.join(other))
        const error = errorOf(yield* Fiber.await(both))
        assert.deepInclude(error, { reason: "refused", code: "INVALID_TIMESTAMP" })
        assert.deepStrictEqual(error.unconfirmed, [0])
        assert.deepStrictEqual(broker.partitions[0]!.log, ["other", "good"])
      })
  )

  it.effect("the highest timestamp and none are none too many", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send } = yield* open(broker)
      for (const timestamp of [-1n, 0n, 2n ** 63n - 1n]) assert.isTrue(yield* send([{ ...record("a"), timestamp }]))
      assert.deepStrictEqual(
        broker.batches.flatMap(({ timestamps }) => timestamps),
        [-1n, 0n, 2n ** 63n - 1n]
      )
    })
  )

  it.effect("a timestamp that is none is a defect of who sends", () =>
    Effect.gen(function* () {
      const { send } = yield* open(new Broker())
      const exit = yield* Effect.exit(send([{ ...record("a"), timestamp: 1 as never }]))
      assert.isTrue(Exit.isFailure(exit) && exit.cause.reasons.every(({ _tag }) => _tag === "Die"))
    })
  )

  it.effect("a record of more bytes than any batch can have is refused, and the others are stored", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const { send } = yield* open(broker)
      const content = new Uint8Array(2 ** 26)
      const headers = Array.from({ length: 33 }, (): readonly [string, Uint8Array] => ["h", content])
      const error = yield* Effect.flip(send([{ ...record("large"), headers }, record("a")]))
      assert.deepInclude(error, { reason: "refused", code: "MESSAGE_TOO_LARGE" })
      assert.deepStrictEqual(error.unconfirmed, [0])
      assert.deepStrictEqual(broker.partitions[0]!.log, ["a"])
    })
  )

  it("a record that cannot be encoded ends alone", () => {
    const lane = new Lane("t", 0, 1000, 1000)
    const settled: Array<string> = []
    for (const [i, timestamp] of [0n, 2n ** 70n, 1n].entries()) {
      const sending = new Sending(1, (_, error) => settled.push(`${i} ${error?.reason ?? "ok"} ${error?.code ?? ""}`))
      const body = { key: null, value: utf8.encode(`${i}`), headers: [], timestamp }
      lane.push({ ...body, sending, index: 0, size: 50, since: 0, partition: undefined, missingSince: undefined })
    }
    const sent: Array<Sent> = []
    for (let batch = lane.take({ producerId: 1n, epoch: 0 }); batch; batch = lane.take({ producerId: 1n, epoch: 0 })) {
      sent.push(readBatch(batch))
      lane.answered("NONE")
    }
    assert.deepStrictEqual(
      sent.map(({ sequence, values }) => [sequence, ...values]),
      [
        [0, "0"],
        [1, "2"]
      ]
    )
    assert.deepStrictEqual(settled, ["0 ok ", "1 refused INVALID_RECORD", "2 ok "])
  })

  it.effect("a mistake inside fails what waits with unconfirmed, and the producer goes on", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      broker.answers.push(() => {
        throw new Error("a mistake")
      })
      const { send } = yield* open(broker)
      assert.deepInclude(yield* Effect.flip(send([record("a")])), { reason: "unconfirmed", code: "DEFECT" })
      assert.isTrue(yield* send([record("b")]))
      assert.deepStrictEqual(broker.partitions[0]!.log, ["b"])
    })
  )
})

describe("closing", () => {
  it.effect("waits for what is under way, for some seconds; what is not confirmed then fails with closed", () =>
    Effect.gen(function* () {
      const broker = new Broker()
      const scope = yield* Scope.fork(yield* Effect.scope)
      const { send, start } = yield* Scope.provide(open(broker), scope)
      const { promise, resolve } = Promise.withResolvers<void>()
      broker.gate = promise
      const underWay = yield* start(record("a"))
      yield* turns
      const waits = yield* start(record("b"))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.strictEqual((yield* Effect.flip(send([record("late")]))).reason, "closed")
      yield* pass(2000)
      assert.isUndefined(closing.pollUnsafe())
      broker.gate = new Promise(() => undefined)
      resolve()
      yield* turns
      assert.isTrue(yield* Fiber.join(underWay))
      yield* pass(4000)
      yield* Fiber.join(closing)
      assert.deepInclude(errorOf(yield* Fiber.await(waits)), { reason: "closed", isRetryable: false })
    })
  )
})

/** what a broker, or the way to it, can do to one request */
const troubles: ReadonlyArray<(broker: Broker) => Answer> = [
  () => answer(),
  () => answer(),
  () => lost,
  () => dropped,
  () => notSent,
  () => notSent,
  () => tooFew,
  () => answer("UNKNOWN_SERVER_ERROR"),
  // stored, and the replicas were late
  () => (batches) => {
    answer()(batches)
    return answer("REQUEST_TIMED_OUT")(batches)
  },
  (broker) => (batches) => {
    for (const partition of broker.partitions) partition.leader = 3 - partition.leader
    return answer()(batches)
  },
  (broker) => (batches) => {
    const result = answer()(batches)
    for (const partition of broker.partitions) partition.leader = 3 - partition.leader
    // stored as long as it was the leader, and answered when it was no more
    return result._tag === "Answer"
      ? { ...result, partitions: result.partitions.map((one) => ({ ...one, code: "NOT_LEADER_OR_FOLLOWER" })) }
      : result
  },
  () => (batches) => ({
    _tag: "Answer",
    partitions: batches.map(([{ batch, partition, topic }, store]) => ({
      topic,
      partition,
      code: readBatch(batch).values.length > 2 ? "MESSAGE_TOO_LARGE" : store()
    }))
  }),
  () => answer("OUT_OF_ORDER_SEQUENCE_NUMBER"),
  () => answer("INVALID_PRODUCER_EPOCH")
]

const upTo = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/** a trouble, and how many requests in a row meet it: with many it lasts longer than a record is tried to be sent */
const Trouble = Schema.Tuple([upTo(0, troubles.length - 1), upTo(1, 12)])
const sends = 40

describe("whatever goes wrong", () => {
  it.effect.prop(
    "what is confirmed is in the log once, what is not at most once, what was taken back in time never, all in the order " +
      "of sending; nothing is given up before its time, and no request is sent for nothing",
    [
      Schema.Array(Trouble).check(Schema.isMinLength(1), Schema.isMaxLength(10)),
      upTo(1, 3),
      // of so many records one is refused by the broker; 0: none is
      upTo(0, 4),
      // milliseconds between some sends and the next ones
      upTo(1, 4),
      // which send is taken back, and after how many others
      Schema.Array(Schema.Tuple([upTo(0, sends - 1), upTo(1, 12)])).check(Schema.isMaxLength(20))
    ],
    ([troubled, partitions, badness, gap, takenBack]) =>
      Effect.gen(function* () {
        const broker = new Broker(partitions)
        const script = troubled.flatMap(([trouble, times]) => Array.from({ length: times }, () => troubles[trouble]!))
        /** what the broker may have, as far as the producer knows */
        const reached = new Set<string>()
        // what had no answer may come late, over a connection that was given up
        const late: Array<() => void> = []
        broker.answers.push(
          ...script.map((trouble, i): Answer => {
            const next = trouble(broker)
            return (batches) => {
              if (i % 4 === 3) late.shift()?.()
              if (next === dropped || next === lost) for (const [, store] of batches) late.push(() => void store())
              if (next !== notSent && next !== tooFew) {
                for (const [{ batch }] of batches) for (const value of readBatch(batch).values) reached.add(value)
              }
              return next(batches)
            }
          })
        )
        const { send } = yield* open(broker, { deliveryTimeout: 10_000 })
        const made: Array<{
          readonly value: string
          readonly fiber: Fiber.Fiber<boolean, PublishError>
          time: number
        }> = []
        const never = new Set<string>()
        for (let i = 0; i < sends; i++) {
          const value = `${String(i).padStart(2, "0")}${badness > 0 && i % badness === 0 ? bad : ""}`
          const began = yield* Clock.currentTimeMillis
          const timed = Effect.onExit(send([record(value, i % partitions)]), () =>
            Effect.map(Clock.currentTimeMillis, (now) => {
              made[i]!.time = now - began
            })
          )
          made.push({ value, fiber: yield* Effect.forkChild(timed, { startImmediately: true }), time: 0 })
          if (i % 4 === 0) yield* pass(gap * 250)
          for (const [which, later] of takenBack) {
            const one = made[which]
            if (which + later !== i || one === undefined || one.fiber.pollUnsafe() !== undefined) continue
            if (!reached.has(one.value)) never.add(one.value)
            yield* Fiber.interrupt(one.fiber)
          }
        }
        yield* pass(30_000)
        const sent = broker.requests.length
        yield* pass(15_000)
        assert.strictEqual(broker.requests.length, sent, "there is nothing left to be sent")
        assert.isAtMost(sent, script.length + 3 * sends)
        for (const apply of late) apply()
        const logs = broker.partitions.map(({ log }) => log)
        const all = logs.flat()
        assert.strictEqual(new Set(all).size, all.length, `nothing twice: ${all.join()}`)
        for (const value of never) assert.notInclude(all, value)
        const confirmed = new Set<string>()
        for (const { fiber, time, value } of made) {
          const exit = fiber.pollUnsafe()
          if (exit === undefined) return assert.fail(`${value} has no end`)
          if (Exit.isSuccess(exit)) {
            assert.include(all, value)
            confirmed.add(value)
          } else if (!Cause.hasInterruptsOnly(exit.cause) && errorOf(exit).reason === "retriable") {
            assert.isAtLeast(time, 10_000)
            // with the youngest of its batch, when it is next looked for
            assert.isAtMost(time, 12_500 + 1250)
          }
        }
        for (const log of logs) {
          const inOrder = log.filter((value) => confirmed.has(value))
          assert.deepStrictEqual(inOrder, inOrder.toSorted())
        }
      }),
    { arbitrary: { runs: 150, size: 60 } }
  )
})

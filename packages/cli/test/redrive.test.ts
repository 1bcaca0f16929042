import { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer, type Producer, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import { redrive, type RedriveProgress } from "../src/Redrive.ts"
import {
  assertWholeAndInOrder,
  cut,
  finish,
  from,
  letterOf,
  letters,
  passUntil,
  prepare,
  stored,
  text,
  to,
  values
} from "./support.ts"

/** A producer that may be told to do something else before it sends. */
const through = (before: (values: ReadonlyArray<string>) => Effect.Effect<void, PublishError>) =>
  Effect.map(KafkaProducer, (producer): Producer => ({
    ...producer,
    send: (records) => Effect.andThen(before(records.map(({ value }) => text(value))), producer.send(records))
  }))

const refusing = (value: string) =>
  through((sent) =>
    sent.includes(value)
      ? Effect.fail(new PublishError({ reason: "refused", code: "MESSAGE_TOO_LARGE", detail: "a record is too large" }))
      : Effect.void
  )

describe("redrive", () => {
  it.effect("sends each record as it was before it failed, and keeps how often it was dead-lettered", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      const headers = [
        ["trace", new TextEncoder().encode("t1")],
        ["trace", null]
      ] as const
      yield* kafka.produce(from, [letterOf({ key: "a", value: "1", headers }), letterOf({ value: "2" })])
      const summary = yield* finish(redrive({ from, to }))
      assert.deepInclude(summary, { from, to, total: 2, sent: 2, filtered: 0, dryRun: false })
      const [first, second] = stored(kafka, to).toSorted((a, b) => text(a.value).localeCompare(text(b.value)))
      assert.strictEqual(text(first!.key), "a")
      assert.deepStrictEqual(
        first!.headers.map(([name, value]) => [name, value === null ? null : text(value)]),
        [
          ["trace", "t1"],
          ["trace", null],
          ["x-dead-letter-hops", "1"]
        ]
      )
      assert.isNull(second!.key)
      assert.deepStrictEqual(
        second!.headers.map(([name]) => name),
        ["x-dead-letter-hops"]
      )
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("sends everything once, in order per key, and ends by itself with the ends committed", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(300, 7))
      const { groupId, sent, total } = yield* finish(redrive({ from, to }))
      assert.strictEqual(sent, 300)
      assert.strictEqual(total, 300)
      assert.strictEqual(stored(kafka, to).length, 300)
      assertWholeAndInOrder(kafka, 300, 7)
      for (let partition = 0; partition < 3; partition++) {
        const { end } = kafka.logOffsetsUnsafe(from, partition)
        if (end > 0n) assert.strictEqual(kafka.committedUnsafe(groupId, from, partition)?.offset, end)
      }
      const again = yield* finish(redrive({ from, to }))
      assert.deepInclude(again, { total: 0, sent: 0 })
      assert.strictEqual(stored(kafka, to).length, 300)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("leaves what comes after its start to the next one, without passing over it", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(30, 3))
      let more = 40
      // each send brings new dead letters: a record that fails again at once
      const producer = yield* through(() =>
        Effect.suspend(() =>
          more-- > 0
            ? Effect.asVoid(kafka.produce(from, [letterOf({ key: `late${more}`, value: `late${more}` })]))
            : Effect.void
        )
      )
      // more of them than may be sent at once
      const first = yield* finish(Effect.provideService(redrive({ from, to, concurrency: 2 }), KafkaProducer, producer))
      assert.strictEqual(first.sent, 30)
      assert.isTrue(values(kafka, to).every((value) => !value.startsWith("late")))
      const second = yield* finish(redrive({ from, to }))
      assert.strictEqual(second.sent, 30)
      assert.strictEqual(values(kafka, to).filter((value) => value.startsWith("late")).length, 30)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect.prop(
    "interrupted and run again it goes on where it stopped: nothing is lost, and each key stays in order",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 60 })),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 60 }))
    ],
    ([one, two]) =>
      Effect.gen(function* () {
        const kafka = yield* prepare()
        yield* kafka.produce(from, letters(90, 5))
        let sentOver = 0
        for (const limit of [one, two]) {
          const before = stored(kafka, to).length
          const producer = yield* through(() =>
            Effect.suspend(() => (stored(kafka, to).length - before >= limit ? Effect.never : Effect.void))
          )
          const fiber = yield* Effect.forkChild(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
          const isStopped = () => stored(kafka, to).length - before >= limit || fiber.pollUnsafe() !== undefined
          yield* passUntil("it has sent some", isStopped)
          yield* cut(fiber)
          sentOver += stored(kafka, to).length - before
        }
        const { sent } = yield* finish(redrive({ from, to }))
        assertWholeAndInOrder(kafka, 90, 5)
        // what was sent before an interruption is committed by it: nothing is sent twice
        assert.strictEqual(sentOver + sent, 90)
      }).pipe(Effect.provide(MemoryKafka.layer({ produceLatency: 250 }))),
    { arbitrary: { runs: 12 } }
  )

  it.effect("a crash sends again what was not committed, and loses nothing", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(90, 5))
      // after the start was committed
      const producer = yield* through(() =>
        Effect.sync(() => kafka.faults.next("commit", { kind: "refused" }, { times: 1_000 }))
      )
      const fiber = yield* Effect.forkChild(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
      yield* passUntil("it has sent some", () => stored(kafka, to).length >= 40)
      yield* kafka.sessionUnsafe("client").crash
      yield* cut(fiber)
      kafka.faults.clear()
      yield* finish(redrive({ from, to }))
      assertWholeAndInOrder(kafka, 90, 5)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("a refused send ends it with a typed error, and nothing is passed over", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(90, 5))
      const producer = yield* refusing("k2:7")
      const error = yield* finish(Effect.flip(Effect.provideService(redrive({ from, to }), KafkaProducer, producer)))
      assert.strictEqual(error._tag, "RedriveError")
      if (error._tag !== "RedriveError" || error.reason._tag !== "SendFailed") return assert.fail(error.message)
      const { offset, partition } = error.reason
      assert.strictEqual(error.reason.error.code, "MESSAGE_TOO_LARGE")
      assert.strictEqual(text(kafka.recordsUnsafe(from, partition)[Number(offset)]!.value), "k2:7")
      assert.strictEqual(
        error.message,
        `${from}/${partition} offset ${offset} was not sent: a record is too large (MESSAGE_TOO_LARGE)`
      )
      assert.isAtMost(
        Number(kafka.committedUnsafe(`redrive.${from}.${to}`, from, partition)?.offset ?? 0n),
        Number(offset)
      )
      // of its key nothing that comes later
      assert.deepStrictEqual(values(kafka, to).filter((value) => value.startsWith("k2:")).length, 7)
      yield* finish(redrive({ from, to }))
      assertWholeAndInOrder(kafka, 90, 5)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("an outage longer than the delivery timeout is waited out, and named meanwhile", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(90, 5))
      let last: RedriveProgress | undefined
      const onProgress = (progress: RedriveProgress) => Effect.sync(() => void (last = progress))
      const fiber = yield* Effect.forkChild(redrive({ from, to, concurrency: 2, onProgress }))
      yield* passUntil("it has sent some", () => stored(kafka, to).length > 10)
      yield* kafka.brokerDown
      yield* passUntil("a send has failed", () => last?.trouble.some((why) => /sent again/.test(why)) === true)
      assert.match(
        last?.trouble.join() ?? "",
        /^(.*,)?[12] records? could not be sent in time and (is|are) sent again: /
      )
      yield* finish(Effect.sleep(20_000))
      assert.isUndefined(fiber.pollUnsafe())
      yield* kafka.brokerUp
      yield* finish(Fiber.join(fiber))
      assertWholeAndInOrder(kafka, 90, 5)
      assert.deepInclude(last, { passed: 90, failed: 0, trouble: [] })
    }).pipe(Effect.provide(MemoryKafka.layer({ deliveryTimeout: 5_000, produceLatency: 50 })))
  )

  it.effect.each(["retriable", "unconfirmed"] as const)(
    "what is %s is sent again, in order with the others of its key",
    (reason) =>
      Effect.gen(function* () {
        const kafka = yield* prepare()
        yield* kafka.produce(from, letters(30, 3))
        let failures = 4
        const producer = yield* through((sent) =>
          sent.includes("k1:3") && failures-- > 0
            ? Effect.fail(new PublishError({ reason, code: "REQUEST_TIMED_OUT", detail: "no answer" }))
            : Effect.void
        )
        const { sent } = yield* finish(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
        assert.strictEqual(sent, 30)
        assertWholeAndInOrder(kafka, 30, 3)
      }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect(
    "stopped between two attempts to send a record it ends at once, and the record is left to the next one",
    () =>
      Effect.gen(function* () {
        const kafka = yield* prepare()
        yield* kafka.produce(from, letters(30, 3))
        let failures = 0
        const producer = yield* through((sent) =>
          Effect.suspend(() =>
            sent.includes("k1:3")
              ? (failures++,
                Effect.fail(new PublishError({ reason: "retriable", code: "REQUEST_TIMED_OUT", detail: "no answer" })))
              : Effect.void
          )
        )
        const fiber = yield* Effect.forkChild(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
        yield* passUntil("it has failed often", () => failures > 10)
        const began = yield* Clock.currentTimeMillis
        yield* cut(fiber)
        assert.isBelow((yield* Clock.currentTimeMillis) - began, 3_000)
        const exit = fiber.pollUnsafe()
        assert.isTrue(exit !== undefined && Exit.hasInterrupts(exit))
        assert.notInclude(values(kafka, to), "k1:3")
        yield* finish(redrive({ from, to }))
        assertWholeAndInOrder(kafka, 30, 3)
      }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect.each(["partitions", "committed", "logOffsets"] as const)(
    "a broker that does not answer the first question (%s) is waited for, and named",
    (question) =>
      Effect.gen(function* () {
        const kafka = yield* prepare()
        yield* kafka.produce(from, letters(30, 3))
        const client = yield* KafkaClient
        const away = new KafkaClientError({ reason: "Connection", detail: "no broker" })
        let failures = 10
        const failing = <A, R>(effect: Effect.Effect<A, KafkaClientError, R>) =>
          Effect.suspend(() => (failures-- > 0 ? Effect.fail(away) : effect))
        const openAdmin = Effect.map(client.openAdmin, (admin) => ({
          ...admin,
          partitions: (...args: Parameters<typeof admin.partitions>) =>
            question === "partitions" ? failing(admin.partitions(...args)) : admin.partitions(...args),
          committed: (...args: Parameters<typeof admin.committed>) =>
            question === "committed" ? failing(admin.committed(...args)) : admin.committed(...args)
        }))
        const openSession = (settings: Parameters<typeof client.openSession>[0]) =>
          Effect.map(client.openSession(settings), (session) => ({
            ...session,
            logOffsets: (...args: Parameters<typeof session.logOffsets>) =>
              question === "logOffsets" ? failing(session.logOffsets(...args)) : session.logOffsets(...args)
          }))
        const seen: Array<RedriveProgress> = []
        const onProgress = (progress: RedriveProgress) => Effect.sync(() => void seen.push(progress))
        yield* finish(
          Effect.provideService(redrive({ from, to, onProgress }), KafkaClient, { ...client, openAdmin, openSession })
        )
        assert.isBelow(failures, 0)
        assert.deepStrictEqual(seen[0]!.trouble, ["Connection: no broker"])
        assert.deepStrictEqual(seen.at(-1)!.trouble, [])
        assertWholeAndInOrder(kafka, 30, 3)
      }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("the target is the argument, whatever the headers say", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.createTopic("payments")
      yield* kafka.produce(from, [letterOf({ key: "a", value: "1", topic: "payments" })])
      yield* finish(redrive({ from, to }))
      assert.deepStrictEqual(values(kafka, to), ["1"])
      assert.deepStrictEqual(kafka.recordsUnsafe("payments", 0), [])
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("a record that is no dead letter is sent as it is", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, [{ key: "a", value: "plain", headers: [["trace", "1"]] }])
      yield* finish(redrive({ from, to }))
      const [record] = stored(kafka, to)
      assert.strictEqual(text(record!.value), "plain")
      assert.deepStrictEqual(
        record!.headers.map(([name]) => name),
        ["trace"]
      )
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("holes in the log and a tail of control markers do not keep it from its end", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      yield* kafka.produce(from, letters(20, 1))
      yield* kafka.removeOffsets(from, 0, [3n, 4n, 5n, 19n])
      yield* kafka.appendMarker(from, 0)
      const { sent, total } = yield* finish(redrive({ from, to }))
      assert.strictEqual(total, 21)
      assert.strictEqual(sent, 16)
      const dry = yield* finish(redrive({ from, to, groupId: "other", dryRun: true }))
      assert.strictEqual(dry.sent, 16)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("records that retention deletes before they are read do not keep it from its end", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      yield* kafka.produce(from, letters(2_000, 1))
      const gate = Deferred.makeUnsafe<void>()
      let sends = 0
      const producer = yield* through(() => Effect.suspend(() => (++sends === 5 ? Deferred.await(gate) : Effect.void)))
      const fiber = yield* Effect.forkChild(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
      yield* passUntil("it stands at a record", () => sends === 5)
      yield* kafka.deleteRecordsBefore(from, 0, 2_000n)
      yield* Deferred.succeed(gate, undefined)
      const { sent, total } = yield* finish(Fiber.join(fiber))
      assert.strictEqual(total, 2_000)
      assert.isBelow(sent, 2_000)
      assert.strictEqual(stored(kafka, to).length, sent)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("ends where a topic is deleted while it runs", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(90, 5))
      const producer = yield* through(() => Effect.sleep(1_000))
      const fiber = yield* Effect.forkChild(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
      yield* passUntil("it has sent some", () => stored(kafka, to).length > 10)
      yield* kafka.deleteTopic(from)
      const error = yield* finish(Effect.flip(Fiber.join(fiber)))
      assert.strictEqual(error.message, `there is no topic ${from}`)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("stopped while the broker is away it ends within some seconds", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(90, 5))
      const producer = yield* through(() => Effect.sleep(200))
      const fiber = yield* Effect.forkChild(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
      yield* passUntil("it has sent some", () => stored(kafka, to).length > 10)
      yield* kafka.brokerDown
      const began = yield* Clock.currentTimeMillis
      yield* cut(fiber)
      assert.isBelow((yield* Clock.currentTimeMillis) - began, 10_000)
      yield* kafka.brokerUp
      yield* finish(redrive({ from, to }))
      assertWholeAndInOrder(kafka, 90, 5)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("does not end before the broker has the ends committed", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(20, 5))
      const producer = yield* through(() =>
        Effect.sync(() => kafka.faults.next("commit", { kind: "refused" }, { times: 1_000 }))
      )
      const fiber = yield* Effect.forkChild(Effect.provideService(redrive({ from, to }), KafkaProducer, producer))
      yield* passUntil("all are sent", () => stored(kafka, to).length === 20)
      yield* finish(Effect.sleep(10_000))
      assert.isUndefined(fiber.pollUnsafe())
      kafka.faults.clear()
      const { groupId } = yield* finish(Fiber.join(fiber))
      for (let partition = 0; partition < 3; partition++) {
        const { end } = kafka.logOffsetsUnsafe(from, partition)
        if (end > 0n) assert.strictEqual(kafka.committedUnsafe(groupId, from, partition)?.offset, end)
      }
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("ends where it may no longer ask what is committed", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(20, 5))
      const client = yield* KafkaClient
      const denied = new KafkaClientError({ reason: "Authorization", detail: "not allowed" })
      let questions = 0
      const openAdmin = Effect.map(client.openAdmin, (admin) => ({
        ...admin,
        committed: (...args: Parameters<typeof admin.committed>) =>
          ++questions === 2 ? Effect.fail(denied) : admin.committed(...args)
      }))
      const error = yield* finish(
        Effect.flip(Effect.provideService(redrive({ from, to }), KafkaClient, { ...client, openAdmin }))
      )
      assert.strictEqual(error.message, "Authorization: not allowed")
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("two of the same redrive share the work, and both end", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(120, 6))
      const [one, two] = yield* finish(
        Effect.all([redrive({ from, to }), redrive({ from, to })], { concurrency: "unbounded" })
      )
      assert.isAtLeast(one.sent + two.sent, 120)
      assertWholeAndInOrder(kafka, 120, 6)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})

describe("redrive, dry run", () => {
  it.effect("counts, and changes nothing: nothing is sent or committed, and it starts where the group stands", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(60, 5))
      yield* finish(redrive({ from, to }))
      const sent = stored(kafka, to).length
      yield* kafka.produce(from, letters(30, 5))
      const commits = kafka.commitsUnsafe().length
      const before = [0, 1, 2].map((p) => kafka.committedUnsafe(`redrive.${from}.${to}`, from, p))
      const summary = yield* finish(
        redrive({ from, to, dryRun: true, filter: { offsetTo: 9n }, groupId: `redrive.${from}.${to}` })
      )
      assert.deepInclude(summary, { total: 30, sent: 10, filtered: 20, dryRun: true })
      assert.strictEqual(stored(kafka, to).length, sent)
      assert.strictEqual(kafka.commitsUnsafe().length, commits)
      assert.deepStrictEqual(
        [0, 1, 2].map((p) => kafka.committedUnsafe(`redrive.${from}.${to}`, from, p)),
        before
      )
      assert.strictEqual((yield* finish(redrive({ from, to }))).sent, 30)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})

describe("redrive, filters", () => {
  const matching = (filter: Parameters<typeof redrive>[0]["filter"]) =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      yield* kafka.produce(from, [
        letterOf({ value: "a", topic: "orders", partition: 1, offset: 10n, error: "ShipError", at: 1_000 }),
        letterOf({ value: "b", topic: "orders", partition: 2, offset: 11n, error: "DecodeError", at: 2_000 }),
        letterOf({ value: "c", topic: "payments", partition: 1, offset: 12n, error: "ShipError", at: 3_000 }),
        { value: "plain", timestamp: 2_500 }
      ])
      const { filtered, sent } = yield* finish(redrive({ from, to, filter, groupId: "g" }))
      assert.strictEqual(sent + filtered, 4)
      const found = values(kafka, to).toSorted()
      assert.strictEqual(found.length, sent)
      return found
    }).pipe(Effect.provide(MemoryKafka.layer()))

  it.effect.each<readonly [Parameters<typeof redrive>[0]["filter"], ReadonlyArray<string>]>([
    [{}, ["a", "b", "c", "plain"]],
    [{ topic: "orders" }, ["a", "b"]],
    [{ topic: "payments" }, ["c"]],
    [{ partition: 1 }, ["a", "c"]],
    [{ error: "ShipError" }, ["a", "c"]],
    [{ error: "ShipError", topic: "orders" }, ["a"]],
    [{ offsetFrom: 11n }, ["b", "c"]],
    [{ offsetTo: 11n }, ["a", "b"]],
    [{ offsetFrom: 11n, offsetTo: 11n }, ["b"]],
    [{ since: 2_000 }, ["b", "c", "plain"]],
    [{ until: 2_000 }, ["a"]],
    [{ since: 2_000, until: 3_000 }, ["b", "plain"]],
    [{ where: (_, letter) => letter?.hops === 1 }, ["a", "b", "c"]],
    [{ where: ({ value }) => text(value) === "b" }, ["b"]]
  ])("%o", ([filter, expected]) => Effect.map(matching(filter), (found) => assert.deepStrictEqual(found, expected)))

  it.effect("another filter is another group: what the first passed over is not lost to it", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      yield* kafka.produce(from, [letterOf({ value: "a", error: "A" }), letterOf({ value: "b", error: "B" })])
      const first = yield* finish(redrive({ from, to, filter: { error: "A" } }))
      assert.deepStrictEqual(values(kafka, to), ["a"])
      const second = yield* finish(redrive({ from, to, filter: { error: "B" } }))
      assert.sameMembers(values(kafka, to), ["a", "b"])
      assert.notStrictEqual(first.groupId, second.groupId)
      assert.strictEqual((yield* finish(redrive({ from, to, filter: { error: "A" } }))).sent, 0)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("a predicate that throws ends it at that record", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      yield* kafka.produce(from, letters(3, 1))
      const filter = {
        where: () => {
          throw new Error("no")
        }
      }
      const error = yield* finish(Effect.flip(redrive({ from, to, groupId: "g", filter })))
      assert.match(error.message, /stopped by the failure of orders.dead-letter\/0 offset 0/)
      assert.deepStrictEqual(values(kafka, to), [])
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})

describe("redrive, before it begins", () => {
  it.effect.each<readonly [string, Partial<Parameters<typeof redrive>[0]>]>([
    ["to", { to: from }],
    ["concurrency", { concurrency: 0 }],
    ["groupId", { filter: { where: () => true } }],
    ["groupId", { groupId: "" }],
    ["from", { from: "no topic" }],
    ["to", { to: "" }],
    ["filter.topic", { filter: { topic: "" } }],
    ["filter.error", { filter: { error: "" } }],
    ["filter.partition", { filter: { partition: -1 } }],
    ["filter.offsetFrom", { filter: { offsetFrom: -1n } }],
    ["filter.offsetTo", { filter: { offsetFrom: 5n, offsetTo: 4n } }],
    ["filter.since", { filter: { since: Number.NaN } }],
    ["filter.until", { filter: { since: 5, until: 5 } }]
  ])("refuses a bad %s", ([option, bad]) =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(3, 1))
      const error = yield* finish(Effect.flip(redrive({ from, to, ...bad })))
      if (error._tag !== "InvalidOptions") return assert.fail(error.message)
      assert.strictEqual(error.option, option)
      assert.deepStrictEqual(kafka.commitsUnsafe(), [])
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("a topic that is not there is named, and not made", () =>
    Effect.gen(function* () {
      yield* prepare()
      for (const missing of [
        { from, to: "ordres" },
        { from: "ordres", to }
      ]) {
        const error = yield* finish(Effect.flip(redrive(missing)))
        assert.strictEqual(error.message, "there is no topic ordres")
      }
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("with Kafka switched off it says so", () =>
    Effect.gen(function* () {
      yield* prepare()
      const client = yield* KafkaClient
      const off = Effect.provideService(redrive({ from, to }), KafkaClient, { ...client, enabled: false })
      assert.match((yield* finish(Effect.flip(off))).message, /KAFKA_ENABLED=false/)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect.each([false, true])(
    "a group that stands behind the end of the log is named, and moved by nobody (%s)",
    (dryRun) =>
      Effect.gen(function* () {
        const kafka = yield* prepare(1)
        yield* kafka.produce(from, letters(10, 1))
        const { groupId } = yield* finish(redrive({ from, to }))
        yield* kafka.truncateTo(from, 0, 3n)
        const error = yield* finish(Effect.flip(redrive({ from, to, dryRun })))
        if (error._tag !== "RedriveError") return assert.fail(error.message)
        assert.deepStrictEqual(error.reason, {
          _tag: "BehindTheEnd",
          topic: from,
          partition: 0,
          groupId,
          committed: 10n,
          end: 3n
        })
        assert.match(error.message, /redrive\S+ has committed 10 of orders\.dead-letter\/0, which ends at 3/)
        assert.strictEqual(kafka.committedUnsafe(groupId, from, 0)?.offset, 10n)
        assert.strictEqual(stored(kafka, to).length, 10)
        // as the message says
        assert.strictEqual((yield* finish(redrive({ from, to, groupId: "another" }))).sent, 3)
      }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("an empty topic is done at once, without joining a group", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      assert.deepInclude(yield* redrive({ from, to }), { total: 0, sent: 0, filtered: 0 })
      assert.deepStrictEqual(kafka.commitsUnsafe(), [])
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})

describe("redrive, progress", () => {
  it.effect("rises from nothing to the total, and names the trouble while the broker is away", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(90, 5))
      const seen: Array<RedriveProgress> = []
      const onProgress = (progress: RedriveProgress) => Effect.sync(() => void seen.push(progress))
      const producer = yield* through(() => Effect.sleep(50))
      const fiber = yield* Effect.forkChild(
        Effect.provideService(redrive({ from, to, onProgress }), KafkaProducer, producer)
      )
      yield* passUntil("it has sent some", () => stored(kafka, to).length > 10)
      yield* kafka.brokerDown
      yield* passUntil("it says what is wrong", () => (seen.at(-1)?.trouble.length ?? 0) > 0)
      yield* kafka.brokerUp
      const { total } = yield* finish(Fiber.join(fiber))
      assert.strictEqual(total, 90)
      assert.isTrue(seen.every((progress) => progress.total === 90))
      seen.reduce((before, progress) => {
        assert.isAtLeast(progress.passed, before.passed)
        assert.isAtLeast(progress.sent, before.sent)
        return progress
      })
      assert.deepInclude(seen.at(-1), { passed: 90, failed: 0, trouble: [] })
      assertWholeAndInOrder(kafka, 90, 5)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})

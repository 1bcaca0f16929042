import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import { ConcurrentConsumer } from "../src/ConcurrentConsumer.ts"
import type { ConsumerError } from "../src/ConsumerError.ts"
import type { ConsumerRecord, Headers } from "../src/ConsumerRecord.ts"
import { DeadLetter } from "../src/DeadLetter.ts"
import { Directive } from "../src/Directive.ts"
import { type Decision, type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { KafkaProducer, type Producer } from "../src/KafkaProducer.ts"
import { Boom, ended, type Member, pass, passUntil, turns, whileTimePasses, world } from "./harness.ts"
import { Letters, publishError, refused, retriable, taken } from "./letters.ts"
import { at, recordAt, type Scripted, scripted, unreadableAt } from "./script.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array | null | undefined) =>
  value === null || value === undefined ? value : new TextDecoder().decode(value)

const errorOf = (member: Member | Scripted) =>
  Effect.map(turns, () => {
    const exit = member.fiber().pollUnsafe()
    if (exit === undefined || Exit.isSuccess(exit)) assert.fail("it has not failed")
    return Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError
  })

const fail = (s: Pick<Scripted, "desk">, offset: number) => s.desk.end(0, offset, Exit.fail(new Boom()))

const codes = (s: Pick<Scripted, "consumer">) =>
  Effect.map(s.consumer.health, (health) => health.reasons.map((reason) => reason.code))

/** one partition with some records, each commit at once */
const opened = (
  options: Parameters<typeof scripted>[0] & { readonly letters?: Letters },
  records: number | ReadonlyArray<ConsumerRecord> = 3
) =>
  Effect.gen(function* () {
    const { letters = new Letters(), ...rest } = options
    const s = yield* scripted({
      policy: FailurePolicy.deadLetter("dead"),
      producer: letters.producer,
      batchSize: 1,
      minCommitInterval: 0,
      ...rest
    })
    yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
    const all = typeof records === "number" ? Array.from({ length: records }, (_, i) => recordAt(0, i)) : records
    const nextOffset = BigInt(all.length)
    yield* s.session.signal({ _tag: "Chunk", ...at(0, 1), records: all, nextOffset, end: nextOffset })
    return { ...s, letters }
  })

const withHeaders = (offset: number, headers: Headers): ConsumerRecord => ({ ...recordAt(0, offset), headers })

describe("dead letters", () => {
  it.effect("D40: a record is done only after the broker has its dead letter", () =>
    Effect.gen(function* () {
      const s = yield* opened({})
      yield* s.desk.finish(0, 1)
      yield* fail(s, 0)
      yield* pass(60_000)
      assert.lengthOf(s.letters.sends, 1)
      const before = yield* s.consumer.snapshot
      assert.deepStrictEqual(before.outcomes, ended({ handled: 1 }))
      assert.deepInclude(before.partitions[0], { sending: 1, running: 1, committable: 0n })
      assert.deepInclude(before.partitions[0]!.oldest, { offset: 0n, state: "sending", attempt: 1 })
      assert.isFalse(s.session.commits.some((commit) => commit !== "0=0"))

      yield* s.letters.answer(taken)
      yield* pass(1)
      const after = yield* s.consumer.snapshot
      assert.deepStrictEqual(after.outcomes, ended({ handled: 1, deadLettered: 1 }))
      assert.deepInclude(after.partitions[0], { sending: 0, heldRecords: 1 })
      assert.strictEqual(s.session.commits.at(-1), "0=2")
      assert.lengthOf(s.letters.sends, 1)
    })
  )

  it.effect("D40: a producer that is switched off has nothing: the record is not done, and the consumer stops", () =>
    Effect.gen(function* () {
      const policy = FailurePolicy.deadLetter("dead", { refused: "skip" })
      const s = yield* opened({ policy, letters: new Letters({ always: Exit.succeed(false) }) })
      yield* fail(s, 0)
      assert.deepInclude((yield* errorOf(s)).reason, { _tag: "Stopped", offset: 0n })
      assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({}))
    })
  )

  it.effect("key, value and headers arrive as they were, with where they came from beside them", () =>
    Effect.gen(function* () {
      const w = yield* world({ topics: ["t", "dead"], partitions: 2 })
      w.expect("passedOver")
      const key = Uint8Array.of(0, 255, 128)
      const value = Uint8Array.of(254, 0, 1)
      const headers = [
        ["a", Uint8Array.of(255)],
        ["a", null],
        ["", bytes("empty")],
        ["x-dead-letter-topic", bytes("of a stranger")]
      ] as const
      yield* w.kafka.produce("t", [
        { key, value, headers, partition: 1, timestamp: 7 },
        { key: null, value: null, partition: 1 }
      ])
      const a = yield* w.member("a", {
        policy: FailurePolicy.retry(Schedule.recurs(2)).pipe(FailurePolicy.orDeadLetter("dead"))
      })
      yield* pass(500)
      for (let i = 0; i < 3; i++) {
        yield* a.desk.end(1, 0, Exit.fail(new Boom()))
        yield* a.desk.end(1, 1, Exit.fail(new Boom()))
        yield* pass(1_000)
      }
      const dead = [0, 1].flatMap((p) => w.kafka.recordsUnsafe("dead", p))
      assert.lengthOf(dead, 2)
      const first = dead.find((record) => record.key !== null)!
      assert.deepStrictEqual(first.key, key)
      assert.deepStrictEqual(first.value, value)
      assert.deepStrictEqual(first.headers.slice(0, 3), headers.slice(0, 3))
      assert.deepInclude(DeadLetter.read(first), {
        topic: "t",
        partition: 1,
        offset: 0n,
        timestamp: 7n,
        groupId: "g",
        attempts: 3,
        error: "Boom",
        reason: undefined,
        hops: 1
      })
      const { firstFailedAt, lastFailedAt } = DeadLetter.read(first)!
      assert.strictEqual(lastFailedAt - firstFailedAt, 2_000)
      const second = dead.find((record) => record.key === null)!
      assert.isNull(second.value)
      assert.strictEqual(DeadLetter.read(second)!.offset, 1n)
      yield* pass(10_000)
      assert.strictEqual(w.committed(1), 2)
      assert.deepStrictEqual((yield* a.consumer.snapshot).outcomes, ended({ deadLettered: 2 }))
    })
  )

  it.effect(
    "D39: while the broker does not take it a dead letter is sent again, later and later, without a permit, with its lane kept",
    () =>
      Effect.gen(function* () {
        const s = yield* opened({
          letters: new Letters({ always: retriable }),
          concurrency: 1,
          ordering: ({ offset }) => (offset === 1n ? "other" : "same")
        })
        assert.deepStrictEqual(s.desk.running, ["0:0"])
        yield* fail(s, 0)
        // its permit is free, its lane is not
        assert.deepStrictEqual(s.desk.running, ["0:1"])
        yield* s.desk.finish(0, 1)
        assert.deepStrictEqual(s.desk.running, [])
        assert.strictEqual((yield* s.consumer.snapshot).permits.used, 0)
        const { reasons, ...verdict } = yield* s.consumer.health
        assert.deepStrictEqual(
          reasons.map(({ code, count, at }) => ({ code, count, at })),
          [{ code: "deadLetterFailing", count: 1, at: { topic: "t", partition: 0, offset: 0n } }]
        )
        assert.deepStrictEqual(verdict, { status: "down", live: true, ready: true })

        yield* passUntil("ten tries", () => s.letters.sends.length >= 10, 60_000, 10)
        const gaps = s.letters.sends.slice(1).map((send, i) => send.at - s.letters.sends[i]!.at)
        gaps.forEach((gap, i) => {
          const meant = Math.min(5_000, 100 * 2 ** i)
          assert.isAtLeast(gap, meant * 0.8)
          assert.isAtMost(gap, meant * 1.2 + 11)
        })
        // said once, with the code and nothing of the record
        const lines = s.logs.filter((line) => line.includes("sent again"))
        assert.lengthOf(lines, 1)
        assert.include(lines[0], "NOT_ENOUGH_REPLICAS")

        s.letters.always = taken
        yield* pass(6_000)
        assert.deepStrictEqual(s.desk.running, ["0:2"])
        assert.deepStrictEqual(yield* codes(s), [])
        yield* s.desk.finish(0, 2)
        assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ handled: 2, deadLettered: 1 }))
        assert.strictEqual(s.session.commits.at(-1), "0=3")
      })
  )

  it.effect("a dead letter that nobody answers is shown in health, too, after a while", () =>
    Effect.gen(function* () {
      const s = yield* opened({})
      yield* fail(s, 0)
      yield* pass(9_999)
      assert.deepStrictEqual(yield* codes(s), [])
      yield* pass(1)
      assert.deepStrictEqual(yield* codes(s), ["deadLetterFailing"])
      yield* s.letters.answer(taken)
      assert.deepStrictEqual(yield* codes(s), [])
    })
  )

  it.effect(
    "D39: with the dead-letter topic down for 5 minutes what is held stays under its limits, and other partitions go on",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 2, maxChunk: 10, maxFetchRecords: 20 })
        yield* w.kafka.createTopic("dead")
        w.expect("passedOver")
        const size = 10_000
        const value = new Uint8Array(size)
        const counts = [6_000, 1_500] as const
        yield* w.kafka.produceMany({ topic: "t", partition: 0 }, counts[0], () => ({ key: null, value }))
        yield* w.kafka.produceMany({ topic: "t", partition: 1 }, counts[1], () => ({ key: null, value }))
        w.kafka.faults.next("produce", { kind: "code", code: "NOT_ENOUGH_REPLICAS" }, { times: 1_000_000 })
        const limit = 40 * size
        const a = yield* w.member("a", {
          client: { deliveryTimeout: 5_000 },
          concurrency: 20,
          maxHeldBytes: limit,
          handler: Handler.make("t", (record) =>
            Effect.andThen(
              Effect.sleep(1_000),
              record.partition === 0 && record.offset % 100n === 7n ? Effect.fail(new Boom()) : Effect.void
            )
          ),
          policy: FailurePolicy.deadLetter("dead")
        })
        let most = 0
        for (let second = 0; second < 300; second++) {
          yield* pass(1_000)
          const { held, partitions } = yield* a.consumer.snapshot
          most = Math.max(most, held.bytes)
          // what is held is what the partitions hold
          assert.strictEqual(
            held.bytes,
            partitions.reduce((sum, p) => sum + p.heldBytes, 0)
          )
        }
        const during = yield* a.consumer.snapshot
        assert.isAtMost(most, limit + 20 * size)
        // it was paused at half of the limit, and goes on below half of that
        assert.isAtLeast(during.partitions[0]!.sending, 10)
        assert.isAtMost(during.partitions[0]!.sending, 20)
        assert.strictEqual(during.partitions[0]!.heldRecords, during.partitions[0]!.sending)
        assert.deepStrictEqual(during.partitions[0]!.paused, ["full"])
        assert.strictEqual(w.committed(0), 7)
        assert.strictEqual(w.committed(1), counts[1])
        assert.include(yield* a.codes, "deadLetterFailing")

        w.kafka.faults.clear()
        yield* passUntil("all are done", () => w.committed(0) === counts[0], 1_000_000, 5_000)
        const after = yield* a.consumer.snapshot
        assert.deepStrictEqual(
          after.outcomes,
          ended({ handled: counts[0] + counts[1] - counts[0] / 100, deadLettered: counts[0] / 100 })
        )
        assert.deepInclude(after.held, { records: 0, bytes: 0 })
        assert.deepStrictEqual(yield* a.codes, [])
        const offsets = w.kafka.recordsUnsafe("dead", 0).map((record) => Number(DeadLetter.read(record)!.offset))
        assert.deepStrictEqual(
          [...new Set(offsets)].sort((x, y) => x - y),
          Array.from({ length: counts[0] / 100 }, (_, i) => i * 100 + 7)
        )
      }),
    60_000
  )

  for (const [title, prepare, code] of [
    [
      "too large",
      (w: Effect.Success<ReturnType<typeof world>>) =>
        w.kafka.faults.next("produce", { kind: "code", code: "MESSAGE_TOO_LARGE" }),
      "MESSAGE_TOO_LARGE"
    ],
    [
      "not authorised",
      (w: Effect.Success<ReturnType<typeof world>>) =>
        w.kafka.faults.next("produce", { kind: "code", code: "TOPIC_AUTHORIZATION_FAILED" }),
      "TOPIC_AUTHORIZATION_FAILED"
    ],
    ["to a topic that is not there", () => {}, "UNKNOWN_TOPIC_OR_PARTITION"]
  ] as const) {
    it.effect(`refused for good (${title}): what the policy says then, and stop where it says nothing`, () =>
      Effect.gen(function* () {
        for (const then of ["skip", "retry", "stop", "nothing"] as const) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const w = yield* world()
              if (code !== "UNKNOWN_TOPIC_OR_PARTITION") yield* w.kafka.createTopic("dead")
              w.expect("passedOver")
              yield* w.produce(2)
              prepare(w)
              const a = yield* w.member("a", {
                policy:
                  then === "retry"
                    ? FailurePolicy.make(() => ({
                        _tag: "DeadLetter",
                        topic: "dead",
                        then: { _tag: "Retry", after: 50 }
                      }))
                    : FailurePolicy.deadLetter("dead", then === "nothing" ? undefined : { refused: then })
              })
              yield* a.desk.end(0, 0, Exit.fail(new Boom()))
              yield* passUntil("refused", () => a.logs.some((line) => line.includes("refused for good")), 10_000)
              yield* pass(11_000)
              assert.include(
                a.logs.find((line) => line.includes("refused for good"))!,
                code
              )
              const { outcomes, partitions, retries } = yield* a.consumer.snapshot
              if (then === "skip") {
                assert.deepStrictEqual(outcomes, ended({ skipped: 1 }))
                assert.strictEqual(w.committed(), 1)
              } else if (then === "retry") {
                assert.strictEqual(retries, 1)
                assert.strictEqual(a.desk.at(0, 0).record.attempt, 2)
                assert.deepInclude(partitions[0], { sending: 0, waiting: 0, running: 2 })
                yield* a.desk.finish(0, 0)
                assert.deepInclude((yield* a.consumer.snapshot).outcomes, { handled: 1 })
              } else {
                const error = yield* errorOf(a)
                assert.deepInclude(error.reason, { _tag: "Stopped", offset: 0n })
                assert.deepStrictEqual(outcomes, ended({}))
                assert.strictEqual(w.committed(), 0)
              }
            })
          )
        }
      })
    )
  }

  it.effect(
    "a producer that dies, throws or was closed refuses nothing: no record is given up for it, the consumer stops",
    () =>
      Effect.gen(function* () {
        const producers: Record<string, Producer> = {
          dies: { send: () => Effect.die(new Error("a bug")) },
          "dies later": { send: () => Effect.andThen(Effect.sleep(5), Effect.die(new Error("a bug"))) },
          throws: {
            send: () => {
              throw new Error("a bug")
            }
          },
          "interrupts itself": { send: () => Effect.interrupt },
          closed: { send: () => Effect.fail(publishError("closed", "CLOSED")) }
        }
        for (const [title, producer] of Object.entries(producers)) {
          const s = yield* opened({ producer, policy: FailurePolicy.deadLetter("dead", { refused: "skip" }) })
          yield* fail(s, 0)
          yield* pass(5)
          const error = yield* errorOf(s)
          assert.deepInclude(error.reason, { _tag: "Stopped", offset: 0n }, title)
          const { outcomes, released } = yield* s.consumer.snapshot
          assert.deepStrictEqual(outcomes, ended({}), title)
          assert.strictEqual(released, 3, title)
          assert.isFalse(s.session.commits.includes("0=1"), title)
        }
      })
  )

  it.effect("of a record whose headers cannot be read: sent without them, which is said, and the others go on", () =>
    Effect.gen(function* () {
      const s = yield* opened({ letters: new Letters({ always: taken }) }, [unreadableAt(0, 0), recordAt(0, 1)])
      yield* fail(s, 0)
      yield* s.desk.finish(0, 1)
      yield* pass(1_000)
      const { held, outcomes } = yield* s.consumer.snapshot
      assert.deepStrictEqual(outcomes, ended({ handled: 1, deadLettered: 1 }))
      assert.strictEqual(held.bytes, 0)
      assert.strictEqual(s.session.commits.at(-1), "0=2")
      assert.isUndefined(s.fiber().pollUnsafe())
      const [letter] = s.letters.sends
      assert.strictEqual(text(letter!.record.value), "v0")
      const read = DeadLetter.read({ ...recordAt(0, 0), headers: letter!.record.headers ?? [] })
      assert.deepInclude(read, { topic: "t", partition: 0, offset: 0n, hops: 1, error: "Boom" })
      assert.lengthOf(
        s.logs.filter((line) => line.includes("headers")),
        1
      )
    })
  )

  it.effect("the producer of the Kafka in memory, closed: the consumer stops and the record comes again", () =>
    Effect.gen(function* () {
      const w = yield* world({ topics: ["t", "dead"] })
      yield* w.produce(1)
      const producer = yield* Effect.scoped(Effect.provideService(KafkaProducer.make, KafkaClient, w.kafka.client()))
      const a = yield* w.member("a", { producer, policy: FailurePolicy.deadLetter("dead", { refused: "skip" }) })
      yield* a.desk.end(0, 0, Exit.fail(new Boom()))
      assert.deepInclude((yield* errorOf(a)).reason, { _tag: "Stopped", offset: 0n })
      const b = yield* w.member("b", { policy: FailurePolicy.deadLetter("dead") })
      yield* b.desk.end(0, 0, Exit.fail(new Boom()))
      yield* pass(1)
      assert.deepStrictEqual((yield* b.consumer.snapshot).outcomes, ended({ deadLettered: 1 }))
      w.expect("passedOver")
    })
  )

  // ------------------------------------------------------------------ partitions that go away

  it.effect(
    "D41: at a revoke a dead letter on its way is waited for, and what it settles is committed with the flush",
    () =>
      Effect.gen(function* () {
        const s = yield* opened({})
        yield* s.desk.finish(0, 1, 2)
        yield* fail(s, 0)
        const reply = yield* s.session.revoking([at(0, 1)], { exact: true })
        yield* pass(3_000)
        assert.isFalse(reply.answered())
        assert.strictEqual(s.consumer.name, "g")
        yield* s.letters.answer(taken)
        assert.isTrue(reply.answered())
        assert.strictEqual(s.session.commits.at(-1), "0=3")
        const { outcomes, released, rebalances } = yield* s.consumer.snapshot
        assert.deepStrictEqual(outcomes, ended({ handled: 2, deadLettered: 1 }))
        assert.strictEqual(released, 0)
        assert.deepInclude(rebalances.at(-1), { kind: "revoked", inFlight: 1 })
      })
  )

  for (const [title, answer] of [
    ["that is not answered", undefined],
    ["that waits between two tries", retriable]
  ] as const) {
    it.effect(
      `D41: at a revoke a dead letter ${title} is abandoned at the drain's clock, and its record comes again`,
      () =>
        Effect.gen(function* () {
          const s = yield* opened({})
          yield* s.desk.finish(0, 1)
          yield* fail(s, 0)
          if (answer !== undefined) s.letters.always = answer
          const reply = yield* s.session.revoking([at(0, 1)], { exact: true })
          if (answer !== undefined) yield* s.letters.answer(answer)
          yield* pass(4_999)
          assert.isFalse(reply.answered())
          const sent = s.letters.sends.length
          yield* pass(1)
          assert.isTrue(reply.answered())
          assert.strictEqual(reply.at(), 5_000)
          if (answer === undefined) assert.deepStrictEqual(s.letters.states, ["interrupted"])
          yield* pass(60_000)
          assert.lengthOf(s.letters.sends, sent)
          assert.isFalse(s.session.commits.some((commit) => commit !== "0=0"))
          const { held, outcomes, released } = yield* s.consumer.snapshot
          assert.deepStrictEqual(outcomes, ended({ handled: 1 }))
          assert.strictEqual(released, 2)
          assert.deepInclude(held, { records: 0, bytes: 0 })
          // anew, also its attempts
          yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
          yield* s.session.chunk(0, 2, 0, 1)
          assert.strictEqual(s.desk.at(0, 0).record.attempt, 1)
          assert.include(s.rows, "record:R17")
        })
    )
  }

  it.effect(
    "D41: a record that fails while its partition drains is still sent, and one that is refused then is not tried again",
    () =>
      Effect.gen(function* () {
        const s = yield* opened({
          policy: FailurePolicy.make(() => ({ _tag: "DeadLetter", topic: "dead", then: { _tag: "Retry", after: 10 } }))
        })
        const reply = yield* s.session.revoking([at(0, 1)], { exact: true })
        yield* s.desk.finish(0, 1)
        yield* fail(s, 0)
        yield* s.letters.answer(taken)
        yield* fail(s, 2)
        yield* s.letters.answer(refused)
        assert.isTrue(reply.answered())
        assert.strictEqual(s.session.commits.at(-1), "0=2")
        const { outcomes, released } = yield* s.consumer.snapshot
        assert.deepStrictEqual(outcomes, ended({ handled: 1, deadLettered: 1 }))
        assert.strictEqual(released, 1)
      })
  )

  it.effect(
    "D41: under an eager protocol it goes on over the rejoin: taken while suspended, committed when retained",
    () =>
      Effect.gen(function* () {
        const s = yield* opened({})
        yield* s.desk.finish(0, 1, 2)
        yield* fail(s, 0)
        const reply = yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* pass(5_000)
        assert.isTrue(reply.answered())
        assert.deepStrictEqual(s.letters.states, ["open"])
        const sent = s.session.sent.length
        yield* s.letters.answer(taken)
        yield* pass(1_000)
        assert.lengthOf(s.session.sent, sent)
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
        assert.strictEqual(s.session.commits.at(-1), "0=3")
        assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ handled: 2, deadLettered: 1 }))
      })
  )

  it.effect("D41: suspended and then another member's: the dead letter is abandoned", () =>
    Effect.gen(function* () {
      const s = yield* opened({})
      yield* fail(s, 0)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(5_000)
      yield* s.session.assign([])
      assert.deepStrictEqual(s.letters.states, ["interrupted"])
      const { held, outcomes, released } = yield* s.consumer.snapshot
      assert.deepStrictEqual(outcomes, ended({}))
      assert.strictEqual(released, 3)
      assert.deepInclude(held, { records: 0, bytes: 0 })
    })
  )

  it.effect("an answer that comes after the epoch has ended changes nothing", () =>
    Effect.gen(function* () {
      for (const answer of [taken, refused, retriable, Exit.die(new Error("late"))]) {
        const s = yield* opened({ letters: new Letters({ stubborn: true }) })
        yield* fail(s, 0)
        yield* s.session.lost(at(0, 1))
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
        yield* s.session.chunk(0, 2, 0, 3)
        const before = yield* s.consumer.snapshot
        yield* s.letters.answer(answer)
        yield* pass(60_000)
        const after = yield* s.consumer.snapshot
        assert.deepStrictEqual(after.outcomes, ended({}))
        assert.deepInclude(after, { released: 3, held: before.held, permits: before.permits })
        assert.lengthOf(s.letters.sends, 1)
        assert.strictEqual(after.partitions[0]!.committable, 0n)
        assert.isUndefined(s.fiber().pollUnsafe())
      }
    })
  )

  it.effect("closing by drain waits for dead letters, closing by interrupt abandons them", () =>
    Effect.gen(function* () {
      for (const shutdown of ["drain", "interrupt"] as const) {
        const s = yield* opened({ shutdown })
        yield* s.desk.finish(0, 1, 2)
        yield* fail(s, 0)
        const closing = yield* Effect.forkChild(s.close)
        yield* turns
        if (shutdown === "drain") {
          yield* pass(10_000)
          assert.isUndefined(closing.pollUnsafe())
          yield* s.letters.answer(taken)
        }
        yield* whileTimePasses(Fiber.join(closing))
        assert.deepStrictEqual(
          s.session.commits.filter((commit) => commit !== "0=0"),
          shutdown === "drain" ? ["0=3"] : []
        )
        assert.deepStrictEqual(s.letters.states, [shutdown === "drain" ? "answered" : "interrupted"])
        const { outcomes, released } = yield* s.consumer.snapshot
        assert.strictEqual(outcomes.deadLettered, shutdown === "drain" ? 1 : 0)
        assert.strictEqual(released, shutdown === "drain" ? 0 : 1)
        assert.strictEqual(s.session.leaves, 1)
      }
    })
  )

  it.effect("a dead letter that was abandoned before it was on its way leaves nothing behind", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(1)
      const a = yield* w.member("a", { policy: FailurePolicy.deadLetter("dead") })
      yield* a.desk.end(0, 0, Exit.fail(new Boom()))
      // the producer waits for the topic
      yield* pass(1_000)
      assert.strictEqual((yield* a.consumer.snapshot).partitions[0]!.sending, 1)
      yield* whileTimePasses(a.close)
      yield* w.kafka.createTopic("dead")
      yield* pass(60_000)
      assert.deepStrictEqual(w.kafka.recordsUnsafe("dead", 0), [])
      assert.strictEqual(w.committed(), 0)
    })
  )

  // ------------------------------------------------------------------ circles

  it.effect("D42: a policy whose dead letters go to a topic that the consumer reads is refused when it is given", () =>
    Effect.gen(function* () {
      const dead = FailurePolicy.deadLetter("t")
      const retry = FailurePolicy.retry(Schedule.recurs(1))
      const policies: Record<string, FailurePolicy<unknown, KafkaProducer>> = {
        deadLetter: dead,
        orDeadLetter: retry.pipe(FailurePolicy.orDeadLetter("t")),
        orElse: retry.pipe(FailurePolicy.orElse(dead)),
        orPark: retry.pipe(FailurePolicy.orPark(), FailurePolicy.orDeadLetter("t"))
      }
      for (const [title, policy] of Object.entries(policies)) {
        const w = yield* world()
        const services = Layer.merge(
          Layer.succeed(KafkaClient, w.kafka.client()),
          Layer.succeed(KafkaProducer, KafkaProducer.fromProducer(new Letters().producer))
        )
        const build = Layer.build(
          ConcurrentConsumer.layerHandler(
            Handler.make(["other", "t"], () => Effect.fail(new Boom())),
            { groupId: "g", onFailure: policy }
          ).pipe(Layer.provide(services))
        )
        const error = yield* Effect.flip(build)
        assert.deepInclude(error, { _tag: "InvalidOptions", option: "onFailure.deadLetter", value: "t" }, title)
        assert.include(error.message, "other, t")

        const s = yield* scripted({ policy })
        const { reason } = yield* errorOf(s)
        assert.strictEqual(reason._tag, "Options", title)
        assert.strictEqual(reason._tag === "Options" && reason.error.option, "onFailure.deadLetter")
        assert.strictEqual(s.session.joins, 0)
        // it was refused, and may be run with another one
        const run = s.consumer.run(
          Handler.make("t", () => Effect.fail(new Boom())),
          { onFailure: FailurePolicy.skip }
        )
        yield* Effect.forkChild(run)
        yield* turns
        assert.strictEqual(s.session.joins, 1)
      }
    })
  )

  it.effect(
    "D42: where a function or a handler names such a topic the record is not sent: the next decision is taken",
    () =>
      Effect.gen(function* () {
        const answers: ReadonlyArray<Decision> = [
          { _tag: "DeadLetter", topic: "t", then: { _tag: "Skip" } },
          { _tag: "DeadLetter", topic: "t", then: { _tag: "Retry", after: 100 } },
          { _tag: "DeadLetter", topic: "t" }
        ]
        const s = yield* opened({
          policy: FailurePolicy.make(({ record }) => answers[Number(record.offset)]!)
        })
        yield* fail(s, 0)
        assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ skipped: 1 }))
        yield* fail(s, 1)
        assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.waiting, 1)
        assert.lengthOf(
          s.logs.filter((line) => line.includes("dead-letter topic t is one that this consumer reads")),
          2
        )
        yield* fail(s, 2)
        assert.deepInclude((yield* errorOf(s)).reason, { _tag: "Stopped", offset: 2n })
        assert.deepStrictEqual(s.letters.sends, [])

        const letters = new Letters()
        const d = yield* opened({
          letters,
          policy: FailurePolicy.skip,
          handler: Handler.make("t", () => Directive.deadLetter("t", "again"))
        })
        assert.deepInclude((yield* errorOf(d)).reason, { _tag: "Stopped", offset: 0n })
        assert.deepStrictEqual(letters.sends, [])
      })
  )

  it.effect("D42: a record that was dead-lettered 16 times is not sent again: the next decision is taken", () =>
    Effect.gen(function* () {
      const hops = (n: string): Headers => [["x-dead-letter-hops", bytes(n)]]
      const s = yield* opened({ policy: FailurePolicy.deadLetter("dead", { refused: "skip" }) }, [
        withHeaders(0, hops("15")),
        withHeaders(1, hops("16")),
        withHeaders(2, hops("no number"))
      ])
      yield* fail(s, 0)
      assert.deepStrictEqual(
        s.letters.sends.map(({ record }) => text(record.headers?.findLast(([name]) => name.endsWith("hops"))?.[1])),
        ["16"]
      )
      yield* fail(s, 1)
      assert.lengthOf(s.letters.sends, 1)
      assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ skipped: 1 }))
      yield* fail(s, 2)
      assert.lengthOf(s.letters.sends, 2)
    })
  )

  it.effect("D42: two consumers that dead-letter to each other's topic end it", () =>
    Effect.gen(function* () {
      const w = yield* world({ topics: ["t", "u"] })
      w.expect("passedOver")
      yield* w.produce(1)
      const fails = Handler.make("t", () => Effect.fail(new Boom()))
      const also = Handler.make("u", () => Effect.fail(new Boom()))
      const skip = { refused: "skip" } as const
      const a = yield* w.member("a", { handler: fails, policy: FailurePolicy.deadLetter("u", skip) })
      const b = yield* w.member("b", {
        groupId: "h",
        topics: ["u"],
        handler: also,
        policy: FailurePolicy.deadLetter("t", skip)
      })
      yield* pass(60_000)
      const outcomes = [yield* a.consumer.snapshot, yield* b.consumer.snapshot].map((snapshot) => snapshot.outcomes)
      assert.deepStrictEqual(outcomes, [ended({ deadLettered: 8, skipped: 1 }), ended({ deadLettered: 8 })])
    })
  )

  // ------------------------------------------------------------------ directives

  it.effect("a directive of the handler is carried out, and the policy is not asked", () =>
    Effect.gen(function* () {
      const asked: Array<number> = []
      const s = yield* opened(
        {
          policy: FailurePolicy.make((failure: Failure<Boom>) => {
            asked.push(Number(failure.record.offset))
            return { _tag: "Stop" }
          }),
          letters: new Letters({ always: taken }),
          handler: Handler.make("t", (record) => {
            switch (record.offset) {
              case 0n:
                return Directive.deadLetter("dead", "not for us")
              case 1n:
                return Directive.skip("a tombstone")
              default:
                return Effect.void
            }
          })
        },
        3
      )
      yield* pass(1)
      const { attempts, outcomes } = yield* s.consumer.snapshot
      assert.deepStrictEqual(outcomes, ended({ handled: 1, skipped: 1, deadLettered: 1 }))
      assert.strictEqual(attempts, 3)
      assert.deepStrictEqual(asked, [])
      assert.lengthOf(s.letters.sends, 1)
      const { headers = [], topic } = s.letters.sends[0]!.record
      assert.strictEqual(topic, "dead")
      assert.strictEqual(text(headers.find(([name]) => name === "x-dead-letter-reason")?.[1]), "not for us")
      assert.strictEqual(s.session.commits.at(-1), "0=3")
      // I10: logged with its reason
      assert.lengthOf(
        s.logs.filter((line) => line.includes("a tombstone")),
        1
      )
    })
  )

  it.effect("a dead letter of the handler that is refused for good stops the consumer", () =>
    Effect.gen(function* () {
      const s = yield* opened({
        policy: FailurePolicy.skip,
        letters: new Letters({ always: refused }),
        handler: Handler.make("t", (record) =>
          record.offset === 0n ? Directive.deadLetter("dead", "not for us") : Effect.never
        )
      })
      assert.deepInclude((yield* errorOf(s)).reason, { _tag: "Stopped", offset: 0n })
    })
  )

  it.effect("a policy that answers with what is no decision stops the consumer", () =>
    Effect.gen(function* () {
      for (const answer of [undefined, null, {}, { _tag: "Dead" }, { _tag: "Retry", after: "soon" }]) {
        const decide: unknown = () => Effect.succeed(answer)
        const s = yield* opened({ policy: { ...FailurePolicy.skip, decide: decide as never } })
        yield* fail(s, 0)
        assert.deepInclude((yield* errorOf(s)).reason, { _tag: "Stopped", offset: 0n }, JSON.stringify(answer))
        assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({}))
      }
    })
  )

  // ------------------------------------------------------------------ what is told of it

  it.effect("I10: every record is counted under exactly one outcome, whatever was decided about it on the way", () =>
    Effect.gen(function* () {
      const w = yield* world({ topics: ["t", "dead"], partitions: 3 })
      w.expect("passedOver")
      for (let p = 0; p < 3; p++) yield* w.produce(100, p)
      w.kafka.faults.next("produce", { kind: "answerLost" }, { times: 3 })
      w.kafka.faults.next("produce", { kind: "code", code: "NOT_ENOUGH_REPLICAS" }, { times: 3 })
      w.kafka.faults.next("produce", { kind: "code", code: "TOPIC_AUTHORIZATION_FAILED" })
      const policy: FailurePolicy<Boom, KafkaProducer> = FailurePolicy.make(({ attempt, record }: Failure<Boom>) => {
        switch (Number(record.offset) % 7) {
          case 0:
            return { _tag: "Skip" }
          case 1:
            return attempt < 3 ? { _tag: "Retry", after: 20 } : { _tag: "DeadLetter", topic: "dead" }
          case 2:
            return { _tag: "Park", limits: { atMost: 3 }, then: { _tag: "DeadLetter", topic: "dead" } }
          default:
            return { _tag: "DeadLetter", topic: "dead", then: { _tag: "Retry", after: 20 } }
        }
      })
      const a = yield* w.member("a", {
        client: { deliveryTimeout: 1_000 },
        batchSize: 5,
        headerFilter: (record) => record.offset % 10n !== 9n,
        handler: Handler.make("t", (record) =>
          record.offset % 10n === 5n ? Effect.void : Effect.andThen(Effect.sleep(3), Effect.fail(new Boom()))
        ),
        policy: FailurePolicy.make((failure: Failure<Boom>) =>
          Effect.map(policy.decide(failure), (decision) =>
            decision._tag === "DeadLetter" && decision.then === undefined
              ? { ...decision, then: { _tag: "Retry" as const, after: 20 } }
              : decision
          )
        )
      })
      yield* passUntil(
        "all but the parked ones are done",
        () => [0, 1, 2].every((p) => (w.committed(p) ?? 0) >= 72),
        600_000,
        500
      )
      yield* pass(20_000)
      const { held, outcomes, partitions } = yield* a.consumer.snapshot
      const parked = partitions.reduce((sum, p) => sum + p.parked, 0)
      assert.strictEqual(parked, 9)
      assert.deepInclude(held, { records: parked })
      assert.strictEqual(
        Object.values(outcomes).reduce((sum, n) => sum + n, 0),
        300 - parked
      )
      assert.deepInclude(outcomes, { filtered: 30, handled: 30 })
      const places = new Set(
        [0, 1, 2]
          .flatMap((p) => w.kafka.recordsUnsafe("dead", p))
          .map((record) => `${DeadLetter.read(record)!.partition}:${DeadLetter.read(record)!.offset}`)
      )
      assert.strictEqual(places.size, outcomes.deadLettered)
    })
  )

  it.effect(
    "D50: nothing of a record or of an error's message is in a log, in health, in an error, or in the headers that are ours",
    () =>
      Effect.gen(function* () {
        const marker = "SECRET-4711"
        const secret = bytes(marker)
        class Leaky extends Boom {
          override readonly message = `cannot read ${marker}`
          readonly detail = marker
        }
        const letters = new Letters({ always: retriable })
        const lines: Array<string> = []
        const all = Logger.make<unknown, void>((log) => {
          lines.push(JSON.stringify([log.message, log.fiber.getRef(References.CurrentLogAnnotations)]))
          lines.push(String(Cause.pretty(log.cause)))
        })
        const answers: ReadonlyArray<Decision> = [
          { _tag: "DeadLetter", topic: "dead", then: { _tag: "Skip" } },
          { _tag: "Skip" },
          { _tag: "Park", then: { _tag: "Skip" } },
          { _tag: "Retry", after: 100_000 },
          { _tag: "Stop" }
        ]
        const s = yield* opened(
          { letters, logger: all, policy: FailurePolicy.make(({ record }) => answers[Number(record.offset)]!) },
          answers.map((_, offset) => ({
            ...recordAt(0, offset),
            key: secret,
            value: secret,
            headers: [["h", secret]] as const
          }))
        ).pipe(Effect.provideService(References.MinimumLogLevel, "All"))
        for (let offset = 0; offset < 4; offset++) yield* s.desk.end(0, offset, Exit.fail(new Leaky()))
        yield* pass(1_000)
        letters.always = refused
        const show = (value: unknown) =>
          JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? String(each) : each))
        const shown = [show(yield* s.consumer.snapshot), show(yield* s.consumer.health)]
        yield* pass(5_000)
        yield* s.desk.end(0, 4, Exit.die(new Leaky()))
        const error = yield* errorOf(s)
        shown.push(error.message, show(yield* s.consumer.health), ...lines, ...s.logs)
        for (const what of shown) assert.notInclude(what, marker)
        assert.isAbove(lines.length, 2)
        assert.isTrue(lines.some((line) => line.includes('"offset":"1"')))

        const { headers = [], key, value } = letters.sends[0]!.record
        assert.deepStrictEqual([text(key), text(value)], [marker, marker])
        assert.deepStrictEqual(headers[0], ["h", secret])
        for (const [name, content] of headers.slice(1)) {
          assert.isTrue(name.startsWith("x-dead-letter-"))
          assert.notInclude(text(content) ?? "", marker)
        }
        assert.strictEqual(text(headers.find(([name]) => name === "x-dead-letter-error")?.[1]), "Boom")
      })
  )
})

import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ConsumerError } from "../src/ConsumerError.ts"
import type { CommitOutcome } from "../src/ConsumerSession.ts"
import { type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { KafkaClientError } from "../src/KafkaClient.ts"
import { Boom, Desk, type Member, pass, turns, world, ended } from "./harness.ts"
import { Letters, taken } from "./letters.ts"
import { at, given, outcomes, type Scripted, scripted } from "./script.ts"

const explode = (): never => {
  throw new Error("a getter of a foreign error")
}

const errorOf = (member: Member | Scripted) =>
  Effect.map(Fiber.await(member.fiber()), (exit) => {
    assert.isTrue(Exit.isFailure(exit), "it has failed")
    return Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError
  })

describe("failures", () => {
  it.effect("I9: a failing handler, typed or a defect, does not end the consumer when the policy says skip", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.produce(30)
      const kinds: Array<string> = []
      const a = yield* w.member("a", {
        handler: Handler.make("t", (record) => {
          switch (Number(record.offset) % 5) {
            case 0:
              return Effect.fail(new Boom())
            case 1:
              return Effect.die(new TypeError("a bug"))
            case 2:
              throw new Error("thrown before there is an effect")
            case 3:
              return Effect.andThen(Effect.sleep(5), Effect.fail(new Boom()))
            default:
              return Effect.void
          }
        }),
        policy: FailurePolicy.make((failure: Failure<Boom>) => {
          kinds.push(`${failure.kind} ${failure.error._tag}`)
          assert.strictEqual(failure.attempt, 1)
          assert.strictEqual(failure.record.topic, "t")
          return { _tag: "Skip" }
        })
      })
      yield* pass(10_000)
      assert.strictEqual(w.committed(), 30)
      assert.deepStrictEqual((yield* a.consumer.snapshot).outcomes, ended({ handled: 6, skipped: 24 }))
      assert.strictEqual(kinds.filter((k) => k === "error Some").length, 12)
      assert.strictEqual(kinds.filter((k) => k === "defect None").length, 12)
      assert.isUndefined(a.fiber().pollUnsafe())
      // I10: each is logged, without a word of the record
      assert.strictEqual(a.logs.filter((line) => line.includes("skipped a record")).length, 24)
      assert.isFalse(a.logs.some((line) => line.includes("v0") || line.includes("a bug")))
    })
  )

  for (const [title, thrown] of [
    ["an Error whose message is none", Object.assign(new Error("x"), { message: undefined })],
    ["an Error whose message is an object", Object.assign(new Error("x"), { message: { code: 1 } })],
    ["an Error without a stack", Object.assign(new Error("x"), { stack: null })],
    ["an Error whose name throws", Object.defineProperty(new Error("x"), "name", { get: explode })],
    ["an object whose _tag throws", Object.defineProperty({}, "_tag", { get: explode })],
    ["what answers no question", new Proxy({}, { get: explode, has: explode, getPrototypeOf: explode })],
    ["null", null],
    ["a text", "x"],
    ["a symbol", Symbol("x")],
    ["an object without prototype", Object.create(null)]
  ] as const) {
    for (const how of ["fails", "dies"] as const) {
      it.effect(`I9: a handler that ${how} with ${title} costs its record, and not the consumer`, () =>
        Effect.gen(function* () {
          const letters = new Letters({ always: taken })
          const s = yield* given([2], {
            batchSize: 1,
            producer: letters.producer,
            policy: FailurePolicy.make(({ record }) =>
              record.offset === 0n ? { _tag: "Skip" } : { _tag: "DeadLetter", topic: "dead" }
            ),
            handler: Handler.make("t", (): Effect.Effect<void, Boom> =>
              how === "dies" ? Effect.die(thrown) : Effect.fail(thrown as unknown as Boom)
            )
          })
          yield* pass(1_000)
          assert.isUndefined(s.fiber().pollUnsafe())
          assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ skipped: 1, deadLettered: 1 }))
          assert.strictEqual(s.session.commits.at(-1), "0=2")
        })
      )
    }
  }

  it.effect("a policy may take its time and use effects; the permit and the lane are kept meanwhile", () =>
    Effect.gen(function* () {
      const s = yield* given([2], {
        concurrency: 1,
        policy: FailurePolicy.make(() => Effect.as(Effect.sleep(100), { _tag: "Skip" as const }))
      })
      yield* s.desk.end(0, 0, Exit.fail(new Boom()))
      yield* pass(99)
      assert.deepStrictEqual(s.desk.running, [])
      assert.strictEqual((yield* s.consumer.snapshot).permits.used, 1)
      yield* pass(1)
      assert.deepStrictEqual(s.desk.running, ["0:1"])
    })
  )

  it.effect(
    "stop ends the consumer with the failure: the record stays uncommitted, what is done is committed, the group is left",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(5)
        const a = yield* w.member("a")
        yield* a.desk.finish(0, 0, 1, 3)
        const boom = new Boom()
        yield* a.desk.end(0, 2, Exit.fail(boom))
        const error = yield* errorOf(a)
        assert.strictEqual(error._tag, "ConsumerError")
        assert.deepInclude(error.reason, { _tag: "Stopped", topic: "t", partition: 0, offset: 2n, cause: boom })
        assert.include(error.message, "t/0 offset 2")
        assert.strictEqual(w.committed(), 2)
        assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
        assert.deepStrictEqual(a.desk.running, [])
        // and it is told to who asks
        const failure = yield* Effect.exit(a.consumer.failure)
        assert.strictEqual(Cause.squash((failure as Exit.Failure<never, unknown>).cause), error)
        const again = yield* Effect.exit(a.consumer.run(Handler.make("t", () => Effect.void)))
        assert.deepInclude((Cause.squash((again as Exit.Failure<void, unknown>).cause) as ConsumerError).reason, {
          _tag: "Ended"
        })
      })
  )

  it.effect("a defect without a policy stops the consumer: the handler said that it cannot fail", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(2)
      const a = yield* w.member("a", { policy: "none" })
      yield* a.desk.end(0, 1, Exit.die(new TypeError("bug")))
      assert.deepInclude((yield* errorOf(a)).reason, { _tag: "Stopped", offset: 1n })
    })
  )

  it.effect(
    "D14: stop in one partition by drain: the others in flight finish and are committed, then the group is left",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 3 })
        for (let p = 0; p < 3; p++) yield* w.produce(2, p)
        const a = yield* w.member("a", { shutdown: "drain" })
        assert.strictEqual(a.desk.running.length, 6)
        yield* a.desk.end(1, 0, Exit.fail(new Boom()))
        yield* a.desk.finish(0, 0, 1)
        yield* a.desk.finish(2, 0)
        assert.isUndefined(a.fiber().pollUnsafe())
        yield* w.produce(1, 0)
        yield* a.desk.finish(2, 1)
        yield* a.desk.finish(1, 1)
        assert.deepInclude((yield* errorOf(a)).reason, { _tag: "Stopped", partition: 1, offset: 0n })
        assert.deepStrictEqual(
          [0, 1, 2].map((p) => w.committed(p)),
          [2, 0, 2]
        )
        assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
        assert.deepStrictEqual(a.desk.interrupted, [])
        // no record started after the stop
        assert.strictEqual(a.desk.attempts.length, 6)
      })
  )

  it.effect("D14: stop by interrupt interrupts the others; a second stop meanwhile is added to the cause", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(2, p)
      const a = yield* w.member("a", { shutdown: "drain" })
      yield* a.desk.end(0, 0, Exit.fail(new Boom()))
      yield* a.desk.end(1, 1, Exit.fail(new Boom()))
      yield* a.desk.finishAll()
      const exit = yield* Fiber.await(a.fiber())
      const offsets = (exit as Exit.Failure<void, ConsumerError>).cause.reasons.map(
        (reason) =>
          reason._tag === "Fail" && reason.error.reason._tag === "Stopped" && Number(reason.error.reason.offset)
      )
      assert.deepStrictEqual(offsets, [0, 1])

      const b = yield* w.member("b", { groupId: "other" })
      yield* b.desk.end(0, 0, Exit.fail(new Boom()))
      assert.deepStrictEqual([...b.desk.interrupted].sort(), ["0:1", "1:0", "1:1"])
      yield* errorOf(b)
    })
  )

  it.effect("D14: the next owner meets the record that was stopped at", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(3)
      const a = yield* w.member("a")
      yield* a.desk.finish(0, 0)
      yield* a.desk.end(0, 1, Exit.fail(new Boom()))
      yield* errorOf(a)
      const b = yield* w.member("b")
      assert.deepStrictEqual(b.desk.running, ["0:1", "0:2"])
    })
  )

  for (const [title, policy] of [
    [
      "throws",
      FailurePolicy.make(() => {
        throw new Error("policy")
      })
    ],
    ["dies", FailurePolicy.make(() => Effect.die(new Error("policy")))],
    ["dies later", FailurePolicy.make(() => Effect.andThen(Effect.sleep(10), Effect.die(new Error("policy"))))],
    ["interrupts itself", FailurePolicy.make(() => Effect.interrupt)]
  ] as ReadonlyArray<readonly [string, FailurePolicy<Boom, never>]>) {
    it.effect(`D54: a policy that ${title} counts as stop, with both causes`, () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(2)
        const a = yield* w.member("a", { policy })
        const boom = new Boom("of the record")
        yield* a.desk.end(0, 0, Exit.fail(boom))
        yield* pass(10)
        const { reason } = yield* errorOf(a)
        if (reason._tag !== "Stopped" || !(reason.cause instanceof AggregateError)) assert.fail(reason._tag)
        assert.strictEqual(reason.offset, 0n)
        const [own, ofRecord]: ReadonlyArray<unknown> = reason.cause.errors
        assert.include(String(own), title === "interrupts itself" ? "interrupted" : "policy")
        assert.strictEqual(ofRecord, boom)
        assert.strictEqual(w.committed(), 0)
      })
    )
  }

  it.effect("D54: a header filter that throws is a failure of that record only", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.produce(6)
      const failures: Array<Failure<Boom>> = []
      const a = yield* w.member("a", {
        desk: new Desk({ auto: true }),
        headerFilter: (record) => {
          if (record.offset === 2n) throw new Error("filter")
          return record.offset !== 4n
        },
        policy: FailurePolicy.make((failure: Failure<Boom>) => {
          failures.push(failure)
          return { _tag: "Skip" }
        })
      })
      yield* pass(10_000)
      assert.deepStrictEqual(a.desk.started, ["0:0", "0:1", "0:3", "0:5"])
      assert.strictEqual(failures.length, 1)
      assert.strictEqual(failures[0]!.kind, "defect")
      assert.strictEqual(Number(failures[0]!.record.offset), 2)
      assert.strictEqual(w.committed(), 6)
      assert.deepStrictEqual((yield* a.consumer.snapshot).outcomes, ended({ handled: 4, skipped: 1, filtered: 1 }))
    })
  )

  it.effect("D54: wrap that throws is a failure of that record", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.produce(3)
      const a = yield* w.member("a", {
        desk: new Desk({ auto: true }),
        wrap: (effect, record) => {
          if (record.offset === 1n) throw new Error("wrap")
          return effect
        },
        policy: FailurePolicy.skip
      })
      yield* pass(10_000)
      assert.deepStrictEqual((yield* a.consumer.snapshot).outcomes, ended({ handled: 2, skipped: 1 }))
    })
  )

  it.effect("a commit that is refused for good ends the consumer, typed, after the others were committed", () =>
    Effect.gen(function* () {
      for (const code of ["NOT_AUTHORIZED", "INVALID_GROUP_ID"] as const) {
        const s = yield* given([1, 2], { batchSize: 2 })
        s.session.answers.push((entries) =>
          entries.map(({ epoch, partition, topic }): CommitOutcome =>
            partition === 0
              ? { topic, partition, epoch, outcome: "rejected", code }
              : { topic, partition, epoch, outcome: "committed" }
          )
        )
        yield* s.desk.finish(0, 0)
        yield* s.desk.finish(1, 0)
        const error = yield* errorOf(s)
        assert.deepInclude(error.reason, { _tag: "CommitRefused", code })
        assert.include(error.message, code)
        assert.deepStrictEqual(s.session.commits, ["0=1", "1=1"])
        assert.strictEqual(s.session.leaves, 1)
      }
    })
  )

  it.effect(
    "D36: an instance id that is used twice ends the session with a typed error, from a commit and from the client",
    () =>
      Effect.gen(function* () {
        const s = yield* given([1], { batchSize: 1 })
        s.session.answers.push(outcomes("stale", "FENCED_INSTANCE_ID"))
        yield* s.desk.finish(0, 0)
        assert.deepInclude((yield* errorOf(s)).reason, { _tag: "CommitRefused", code: "FENCED_INSTANCE_ID" })

        const w = yield* world()
        yield* w.produce(1)
        const a = yield* w.member("a")
        yield* a.session().end("FencedInstance")
        yield* turns
        const { reason } = yield* errorOf(a)
        assert.strictEqual(reason._tag === "Client" && reason.error.reason, "FencedInstance")
      })
  )

  for (const reason of ["Authentication", "Authorization", "MissingCodec", "CorruptData"] as const) {
    it.effect(
      `a client that gives up with ${reason} ends the consumer; what was done is committed where that is possible`,
      () =>
        Effect.gen(function* () {
          const w = yield* world()
          yield* w.produce(2)
          const a = yield* w.member("a")
          yield* a.desk.finish(0, 0)
          yield* a.session().end(reason)
          yield* turns
          const error = yield* errorOf(a)
          assert.strictEqual(error.reason._tag === "Client" && error.reason.error.reason, reason)
          assert.include(error.message, reason)
          assert.deepStrictEqual(a.desk.interrupted, ["0:1"])
        })
    )
  }

  it.effect("a join that fails ends run with it", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ idle: true })
      s.session.onJoin = Effect.fail(new KafkaClientError({ reason: "Authorization", detail: "no" }))
      yield* s.run
      const { reason } = yield* errorOf(s)
      assert.strictEqual(reason._tag === "Client" && reason.error.reason, "Authorization")
    })
  )

  it.effect("a session that is closed under a running consumer ends it", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(1)
      const a = yield* w.member("a")
      yield* a.session().crash
      yield* turns
      const { reason } = yield* errorOf(a)
      assert.strictEqual(reason._tag === "Client" && reason.error.reason, "Closed")
    })
  )

  it.effect("a committer that dies fails the consumer without a commit, and who waits for a flush is told", () =>
    Effect.gen(function* () {
      const s = yield* given([3], { batchSize: 1 })
      s.session.answers.push(() => {
        throw new Error("the driver broke its word")
      })
      yield* s.desk.finish(0, 0)
      const error = yield* errorOf(s)
      assert.strictEqual(error._tag as string, "CommitterDied")
      assert.deepStrictEqual(s.desk.interrupted, ["0:1", "0:2"])
      assert.strictEqual(s.session.sent.length, 1)
      assert.strictEqual(s.session.leaves, 1)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(s.consumer.flush)))
      assert.deepStrictEqual(
        (yield* s.consumer.health).reasons.map((r) => r.code),
        ["committerDead"]
      )
    })
  )

  it.effect("a fault of the engine ends the consumer hard: nothing more is committed, the group is left", () =>
    Effect.gen(function* () {
      const s = yield* given([3])
      yield* s.desk.finish(0, 0)
      // a chunk that no driver may send
      yield* s.session.signal({ _tag: "Chunk", ...at(0, 1), records: [undefined as never], nextOffset: 4n, end: 4n })
      const { reason } = yield* errorOf(s)
      assert.strictEqual(reason._tag, "Defect")
      assert.deepStrictEqual(s.session.commits, [])
      assert.strictEqual(s.session.leaves, 1)
      assert.deepStrictEqual(s.desk.interrupted, ["0:1", "0:2"])
    })
  )

  it.effect(
    "I10: every record that is done is counted under one outcome, every attempt, skip, release and fence is counted",
    () =>
      Effect.gen(function* () {
        const s = yield* given([8], {
          policy: FailurePolicy.skip,
          headerFilter: (record) => record.offset !== 1n,
          concurrency: 4
        })
        yield* s.desk.finish(0, 0)
        yield* s.desk.end(0, 2, Exit.fail(new Boom()))
        yield* s.session.lost(at(0, 1))
        yield* s.session.chunk(0, 1, 8, 10)
        const snapshot = yield* s.consumer.snapshot
        assert.deepStrictEqual(snapshot.outcomes, ended({ handled: 1, skipped: 1, filtered: 1 }))
        assert.deepInclude(snapshot, { attempts: 6, interrupted: 4, released: 5, fenced: 2 })
        const { filtered, handled, skipped } = snapshot.outcomes
        assert.strictEqual(handled + skipped + filtered + snapshot.released, 8)
      })
  )
})

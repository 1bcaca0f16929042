import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { BatchCommitter } from "../src/BatchCommitter.ts"
import { ConcurrentConsumer } from "../src/ConcurrentConsumer.ts"
import { ConsumerError } from "../src/ConsumerError.ts"
import { ConsumerSession } from "../src/ConsumerSession.ts"
import { Directive } from "../src/Directive.ts"
import { type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { InvalidOptions } from "../src/InvalidOptions.ts"
import { Boom, Desk, ended, pass, turns, whileTimePasses, world } from "./harness.ts"
import { at, given, played, recordAt, type Scripted, type scripted, type ScriptOptions } from "./script.ts"

const failure = Exit.fail(new Boom())
const again = (after: number) => FailurePolicy.make(() => ({ _tag: "Retry", after }))
const stubborn = () => new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })

const opened = (
  options: ScriptOptions,
  records: number
): Effect.Effect<Scripted, never, Effect.Services<ReturnType<typeof scripted>>> =>
  Effect.gen(function* () {
    const s = yield* given([records], { batchSize: 1, minCommitInterval: 0, ...options })
    return s
  })

const seenOf = (s: Scripted) =>
  Effect.map(s.consumer.snapshot, ({ attempts, held, partitions, permits, released, retries }) => ({
    attempts,
    retries,
    released,
    used: permits.used,
    held: held.records,
    waiting: partitions.reduce((n, { waiting }) => n + waiting, 0)
  }))

describe("a retry", () => {
  it.effect("R9: attempts are counted and seen by handler and policy; the time of the first failure stays", () =>
    Effect.gen(function* () {
      const failures: Array<Failure<Boom>> = []
      const s = yield* opened(
        {
          policy: FailurePolicy.make((failed: Failure<Boom>) => {
            failures.push(failed)
            return failed.attempt < 4 ? { _tag: "Retry", after: 100 * failed.attempt } : { _tag: "Skip" }
          })
        },
        1
      )
      for (const wait of [100, 200, 300]) {
        yield* pass(7)
        yield* s.desk.end(0, 0, failure)
        yield* pass(wait - 1)
        assert.deepStrictEqual(s.desk.running, [])
        yield* pass(1)
        assert.deepStrictEqual(s.desk.running, ["0:0"])
      }
      yield* s.desk.end(0, 0, Exit.die("a bug"))
      assert.deepStrictEqual(
        s.desk.attempts.map(({ record }) => record.attempt),
        [1, 2, 3, 4]
      )
      assert.deepStrictEqual(
        failures.map(({ attempt, firstFailedAt, kind, record }) => [attempt, firstFailedAt, kind, record.attempt]),
        [
          [1, 7, "error", 1],
          [2, 7, "error", 2],
          [3, 7, "error", 3],
          [4, 7, "defect", 4]
        ]
      )
      const [first, ...others] = failures.map(({ memory }) => memory)
      for (const other of others) assert.strictEqual(other, first)
      const snapshot = yield* s.consumer.snapshot
      assert.deepInclude(snapshot, { attempts: 4, retries: 3, released: 0, unexpectedTransitions: 0 })
      assert.strictEqual(
        snapshot.failedTime.counts.reduce((a, b) => a + b, 0),
        4
      )
      assert.deepStrictEqual(snapshot.outcomes, ended({ skipped: 1 }))
      assert.strictEqual(snapshot.held.records, 0)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.strictEqual(s.rows.filter((row) => row === "record:R9").length, 3)
    })
  )

  it.effect("a schedule's delays are kept, each record has its own, and when they end the next step is asked", () =>
    Effect.gen(function* () {
      const s = yield* opened(
        {
          concurrency: 2,
          policy: FailurePolicy.retry(Schedule.exponential(100).pipe(Schedule.upTo({ times: 2 }))).pipe(
            FailurePolicy.orSkip
          )
        },
        2
      )
      yield* s.desk.end(0, 0, failure)
      yield* pass(50)
      yield* s.desk.end(0, 1, failure)
      yield* pass(50)
      assert.deepStrictEqual(s.desk.running, ["0:0"])
      yield* pass(50)
      assert.deepStrictEqual(s.desk.running, ["0:0", "0:1"])
      yield* s.desk.end(0, 0, failure)
      yield* pass(199)
      assert.deepStrictEqual(s.desk.running, ["0:1"])
      yield* pass(1)
      yield* s.desk.end(0, 0, failure)
      assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ skipped: 1 }))
      yield* s.desk.finish(0, 1)
      assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ skipped: 1, handled: 1 }))
      assert.strictEqual(s.session.commits.at(-1), "0=2")
    })
  )

  it.effect("R7: an attempt that ended interrupted by somebody else is retried too, and so is a defect", () =>
    Effect.gen(function* () {
      const kinds: Array<string> = []
      const s = yield* opened(
        {
          policy: FailurePolicy.make((failed: Failure<Boom>) => {
            kinds.push(failed.kind)
            return { _tag: "Retry", after: 10 }
          })
        },
        1
      )
      yield* s.desk.end(0, 0, Exit.interrupt())
      yield* pass(10)
      yield* s.desk.end(0, 0, Exit.die("a bug"))
      yield* pass(10)
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(kinds, ["interrupted", "defect"])
      assert.deepStrictEqual(s.session.commits, ["0=1"])
    })
  )

  it.effect("I5: it holds no permit while it waits, not even when its time has come and others run", () =>
    Effect.gen(function* () {
      const s = yield* opened({ concurrency: 1, policy: again(1_000) }, 3)
      yield* s.desk.end(0, 0, failure)
      assert.deepStrictEqual(s.desk.running, ["0:1"])
      assert.deepInclude(yield* seenOf(s), { used: 1, waiting: 1, held: 3 })
      yield* pass(5_000)
      assert.deepStrictEqual(s.desk.running, ["0:1"])
      assert.deepInclude(yield* seenOf(s), { used: 1, waiting: 1 })
      yield* s.desk.finish(0, 1)
      assert.deepStrictEqual(s.desk.running, ["0:0"])
      assert.deepInclude(yield* seenOf(s), { used: 1, waiting: 0, retries: 1 })
      yield* s.desk.finish(0, 0)
      yield* s.desk.finish(0, 2)
      assert.deepInclude(yield* seenOf(s), { used: 0, held: 0, attempts: 4, retries: 1 })
    })
  )

  for (const after of [0, 1_000]) {
    it.effect(`I4: it keeps its lane and comes before what waits in it, after ${after} ms`, () =>
      Effect.gen(function* () {
        const s = yield* opened({ ordering: "partition", concurrency: 5, policy: again(after) }, 3)
        yield* s.desk.end(0, 0, failure)
        if (after > 0) {
          assert.deepStrictEqual(s.desk.running, [])
          yield* s.session.chunk(0, 1, 3, 5)
          assert.deepStrictEqual(s.desk.running, [])
          yield* pass(after)
        }
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:0"])
        yield* s.desk.end(0, 0, failure)
        yield* pass(after)
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:0", "0:0"])
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual(s.desk.running, ["0:1"])
      })
    )
  }

  it.effect("neither starves: retries without delay and new records have every other turn", () =>
    Effect.gen(function* () {
      const s = yield* opened({ concurrency: 1, policy: again(0) }, 40)
      for (let turn = 0; turn < 20; turn++) {
        const [place] = s.desk.running
        const offset = Number(place!.split(":")[1])
        // the first three fail for ever
        yield* s.desk.end(0, offset, offset < 3 ? failure : Exit.void)
      }
      const retries = s.desk.attempts.filter(({ record }) => record.attempt > 1)
      assert.isAtLeast(retries.length, 9)
      assert.isAtLeast(s.desk.attempts.length - retries.length, 9)
      // nor does one of them starve the others
      for (const offset of [0n, 1n, 2n])
        assert.isAtLeast(retries.filter(({ record }) => record.offset === offset).length, 3)
    })
  )

  it.effect("I4: a record that fails for ever without delay does not stop another lane whose retry is due", () =>
    Effect.gen(function* () {
      const s = yield* opened({ concurrency: 1, policy: again(0) }, 2)
      for (let i = 0; i < 8; i++) yield* s.desk.end(0, Number(s.desk.running[0]!.split(":")[1]), failure)
      // the first has its retry at once, before the second was there
      assert.deepStrictEqual(s.desk.started.slice(2), ["0:1", "0:0", "0:1", "0:0", "0:1", "0:0", "0:1"])
    })
  )

  it.effect("goes on when maxUncommitted stops new records: it is what takes the limit away", () =>
    Effect.gen(function* () {
      const s = yield* opened({ concurrency: 10, maxUncommitted: 3, policy: again(1_000) }, 6)
      yield* s.desk.finish(0, 1, 2)
      yield* s.desk.end(0, 0, failure)
      assert.deepStrictEqual((yield* s.consumer.snapshot).partitions[0]!.paused, ["uncommitted"])
      yield* pass(1_000)
      assert.deepStrictEqual(s.desk.running, ["0:0"])
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.desk.running, ["0:3", "0:4", "0:5"])
    })
  )

  it.effect("I6: goes on when the held limit stops the fetching, and counts as held until it is done", () =>
    Effect.gen(function* () {
      const s = yield* opened({ concurrency: 10, maxHeldRecords: 3, policy: again(1_000) }, 3)
      for (const offset of [0, 1, 2]) yield* s.desk.end(0, offset, failure)
      assert.isTrue(s.session.paused.has(0))
      assert.deepInclude(yield* seenOf(s), { waiting: 3, held: 3 })
      yield* pass(1_000)
      assert.deepStrictEqual(s.desk.running, ["0:0", "0:1", "0:2"])
      yield* s.desk.finish(0, 0, 1)
      assert.deepInclude(yield* seenOf(s), { waiting: 0, held: 1 })
      assert.isFalse(s.session.paused.has(0))
      yield* s.desk.finish(0, 2)
    })
  )

  it.effect("an acknowledgement of an attempt that has failed is too late: the record is tried again", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: again(100) }, 1)
      yield* s.desk.end(0, 0, failure)
      yield* s.desk.at(0, 0).record.ack
      assert.deepInclude(yield* s.consumer.snapshot, { fenced: 1 })
      assert.deepInclude(yield* seenOf(s), { waiting: 1 })
      yield* pass(100)
      assert.deepStrictEqual(s.desk.running, ["0:0"])
      // the second one's own counts
      yield* s.desk.at(0, 0).record.ack
      yield* turns
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      yield* s.desk.end(0, 0, failure)
      assert.deepInclude(yield* seenOf(s), { waiting: 0, held: 0, used: 0, attempts: 2 })
    })
  )

  it.effect("waits while the consumer or its partition is paused, and goes on after", () =>
    Effect.gen(function* () {
      for (const partitions of [undefined, [at(0, 1)]]) {
        const s = yield* opened({ policy: again(1_000) }, 1)
        yield* s.desk.end(0, 0, failure)
        yield* s.consumer.pause(partitions)
        yield* pass(10_000)
        assert.deepStrictEqual(s.desk.running, [])
        assert.deepInclude(yield* seenOf(s), { waiting: 1, used: 0 })
        yield* s.consumer.resume(partitions)
        yield* turns
        assert.deepStrictEqual(s.desk.running, ["0:0"])
        // paused before its time, resumed before it too: at its time
        yield* s.desk.end(0, 0, failure)
        yield* s.consumer.pause(partitions)
        yield* pass(500)
        yield* s.consumer.resume(partitions)
        yield* pass(499)
        assert.deepStrictEqual(s.desk.running, [])
        yield* pass(1)
        assert.deepStrictEqual(s.desk.running, ["0:0"])
      }
    })
  )

  it.effect("Directive.retryAfter: without asking the policy, the attempt counts, the schedule's do not", () =>
    Effect.gen(function* () {
      const asked: Array<number> = []
      const seen: Array<number> = []
      const s = yield* opened(
        {
          handler: Handler.make("t", (record) => {
            seen.push(record.attempt)
            return record.attempt < 3
              ? Directive.retryAfter("2 seconds")
              : record.attempt === 3
                ? Effect.fail(new Boom())
                : Effect.void
          }),
          policy: FailurePolicy.make((failed: Failure<Boom>) => {
            asked.push(failed.attempt)
            assert.strictEqual(failed.firstFailedAt, 0)
            return { _tag: "Retry", after: 10 }
          })
        },
        1
      )
      assert.deepInclude(yield* seenOf(s), { waiting: 1, used: 0 })
      yield* pass(1_999)
      assert.deepStrictEqual(seen, [1])
      yield* pass(1)
      yield* pass(2_000)
      assert.deepStrictEqual(seen, [1, 2, 3])
      assert.deepStrictEqual(asked, [3])
      yield* pass(10)
      assert.deepStrictEqual(seen, [1, 2, 3, 4])
      assert.deepInclude(yield* seenOf(s), { attempts: 4, retries: 3, waiting: 0 })
      assert.deepStrictEqual(s.session.commits, ["0=1"])
    })
  )

  it.effect("Directive.retryAfter works where there is no policy, and one that is no duration is a defect", () =>
    Effect.gen(function* () {
      const s = yield* opened(
        {
          policy: "none",
          handler: Handler.make("t", (record) =>
            record.attempt === 1 ? Directive.retryAfter(50) : Directive.retryAfter(Number.NaN)
          )
        },
        1
      )
      yield* pass(50)
      const error = yield* stopOf(s)
      assert.instanceOf(error, InvalidOptions)
    })
  )
})

/** what the consumer stopped with */
const stopOf = (s: Scripted): Effect.Effect<unknown> =>
  Effect.map(Effect.exit(whileTimePasses(s.consumer.failure)), (exit) => {
    assert.isTrue(Exit.isSuccess(exit))
    const failed = Exit.isSuccess(exit) ? exit.value.value : Exit.void
    const error = Exit.isFailure(failed) ? Cause.squash(failed.cause) : undefined
    if (!(error instanceof ConsumerError) || error.reason._tag !== "Stopped")
      assert.fail(`not stopped: ${String(error)}`)
    return error.reason.cause
  })

describe("an answer of a policy that means nothing", () => {
  const answers: ReadonlyArray<readonly [name: string, answer: unknown, says: string]> = [
    ["after: NaN", { _tag: "Retry", after: Number.NaN }, "Retry.after: NaN"],
    ["after: Infinity", { _tag: "Retry", after: "Infinity" }, 'Retry.after: "Infinity"'],
    ["a negative delay", { _tag: "Retry", after: -1 }, "Retry.after: -1"],
    ["a text", { _tag: "Retry", after: "soon" }, 'Retry.after: "soon"'],
    ["null as a delay", { _tag: "Retry", after: null }, "Retry.after: null"],
    ["no delay at all", { _tag: "Retry" }, "Retry.after: undefined"],
    ["an unknown decision", { _tag: "Shrug" }, "Decision: the given object"],
    ["nothing", undefined, "Decision: undefined"],
    ["null", null, "Decision: null"]
  ]
  for (const [name, answer, says] of answers) {
    for (const later of [false, true]) {
      it.effect(`${name}${later ? ", after some time" : ""}: stops, and says why beside the record's failure`, () =>
        Effect.gen(function* () {
          const boom = new Boom("of the record")
          const s = yield* opened(
            {
              policy: {
                ...FailurePolicy.skip,
                decide: () => (later ? Effect.as(Effect.sleep(10), answer) : Effect.succeed(answer))
              } as FailurePolicy<Boom, never>
            },
            1
          )
          yield* s.desk.end(0, 0, Exit.fail(boom))
          yield* pass(10)
          const cause = yield* stopOf(s)
          assert.instanceOf(cause, AggregateError)
          assert.include((cause as AggregateError).message, says)
          assert.strictEqual((cause as AggregateError).errors[1], boom)
          assert.deepStrictEqual(s.session.commits, [])
          assert.deepInclude(yield* s.consumer.snapshot, { unexpectedTransitions: 0, released: 1 })
        })
      )
    }
  }

  it.effect("D54: a policy that dies: both causes, its own first", () =>
    Effect.gen(function* () {
      const boom = new Boom("of the record")
      const own = new TypeError("of the policy")
      const s = yield* opened({ policy: FailurePolicy.make(() => Effect.die(own)) }, 1)
      yield* s.desk.end(0, 0, Exit.fail(boom))
      const cause = yield* stopOf(s)
      assert.deepStrictEqual((cause as AggregateError).errors, [own, boom])
    })
  )
})

describe("a retry when its partition goes away", () => {
  it.effect("D11: at an exact revoke it is released at once, and the drain does not wait for it", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: again(30_000) }, 3)
      yield* s.desk.finish(0, 0)
      yield* s.desk.end(0, 1, failure)
      yield* s.desk.finish(0, 2)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      assert.isTrue(revoke.answered())
      assert.strictEqual(revoke.at(), s.session.now())
      assert.deepInclude(yield* seenOf(s), { released: 1, waiting: 0, held: 0, used: 0 })
      assert.strictEqual(s.session.commits.at(-1), "0=1")
      // its time comes, and nothing of it is left
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 1 }])
      yield* pass(60_000)
      assert.deepStrictEqual(s.desk.running, [])
      // delivered again it begins anew
      yield* s.session.chunk(0, 2, 1, 2)
      assert.strictEqual(s.desk.at(0, 1).record.attempt, 1)
    })
  )

  it.effect("D11: one that is due, and waits for a permit, is released too", () =>
    Effect.gen(function* () {
      const s = yield* opened({ concurrency: 1, policy: again(1_000) }, 2)
      yield* s.desk.end(0, 0, failure)
      yield* pass(1_000)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      assert.deepInclude(yield* seenOf(s), { released: 1, waiting: 0, held: 1, used: 1 })
      yield* s.desk.finish(0, 1)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.desk.started, ["0:0", "0:1"])
      assert.deepInclude(yield* seenOf(s), { held: 0, used: 0 })
    })
  )

  for (const shutdown of ["drain", "interrupt"] as const) {
    it.effect(`C17: at the close, by ${shutdown}, it is released at once, and nobody waits for it`, () =>
      Effect.gen(function* () {
        const s = yield* opened({ shutdown, policy: again(10_000) }, 2)
        yield* s.desk.end(0, 1, failure)
        yield* s.desk.finish(0, 0)
        const closing = yield* Effect.forkChild(s.close)
        yield* turns
        yield* pass(0)
        assert.isDefined(closing.pollUnsafe())
        assert.deepInclude(yield* seenOf(s), { released: 1, held: 0 })
        assert.strictEqual(s.session.commits.at(-1), "0=1")
        assert.strictEqual(s.session.leaves, 1)
      })
    )
  }

  it.effect("R6a: what fails while an exact revoke or the close drains is released, and not tried again", () =>
    Effect.gen(function* () {
      for (const how of ["revoke", "close"] as const) {
        const s = yield* opened({ shutdown: "drain", policy: again(0) }, 2)
        let answered = (): boolean => false
        if (how === "close") {
          const closing = yield* Effect.forkChild(s.close)
          answered = () => closing.pollUnsafe() !== undefined
        } else answered = (yield* s.session.revoking([at(0, 1)], { exact: true })).answered
        yield* turns
        yield* s.desk.end(0, 0, failure)
        assert.isFalse(answered())
        yield* s.desk.finish(0, 1)
        yield* pass(0)
        assert.isTrue(answered())
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:1"])
        assert.include(s.rows, "record:R6a")
        assert.deepInclude(yield* seenOf(s), { released: 1, retries: 0, held: 0 })
      }
    })
  )

  it.effect("R17: another record's stop releases it, and what is done is committed", () =>
    Effect.gen(function* () {
      const s = yield* opened(
        {
          policy: FailurePolicy.make(({ record }) =>
            record.offset === 1n ? { _tag: "Retry", after: 10_000 } : { _tag: "Stop" }
          )
        },
        4
      )
      yield* s.desk.finish(0, 0, 2)
      yield* s.desk.end(0, 1, failure)
      yield* s.desk.end(0, 3, failure)
      assert.instanceOf(yield* stopOf(s), Boom)
      assert.deepInclude(yield* seenOf(s), { released: 2, held: 0, used: 0 })
      assert.strictEqual(s.session.commits.at(-1), "0=1")
    })
  )

  it.effect(
    "R14: a policy that is being asked when the drain clock runs out is interrupted, and its record released",
    () =>
      Effect.gen(function* () {
        let ended = 0
        const s = yield* opened(
          {
            policy: FailurePolicy.make(() =>
              Effect.onExit(Effect.as(Effect.sleep(60_000), { _tag: "Retry" as const, after: 0 }), () =>
                Effect.sync(() => void ended++)
              )
            )
          },
          1
        )
        yield* s.desk.end(0, 0, failure)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
        yield* pass(4_999)
        assert.isFalse(revoke.answered())
        yield* pass(1)
        assert.isTrue(revoke.answered())
        assert.strictEqual(ended, 1)
        assert.deepInclude(yield* seenOf(s), { released: 1, held: 0, used: 0, waiting: 0 })
        yield* pass(120_000)
        assert.strictEqual(s.desk.attempts.length, 1)
      })
  )

  it.effect("lost, sought: released", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: again(1_000) }, 1)
      yield* s.desk.end(0, 0, failure)
      yield* s.session.lost(at(0, 1))
      assert.deepInclude(yield* seenOf(s), { released: 1, held: 0 })
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* s.session.chunk(0, 2, 0, 1)
      yield* s.desk.end(0, 0, failure)
      yield* Effect.forkChild(s.consumer.seek({ topic: "t", partition: 0 }, 5n))
      yield* turns
      assert.deepInclude(yield* seenOf(s), { released: 2, held: 0, waiting: 0 })
      yield* pass(10_000)
      assert.strictEqual(s.desk.attempts.length, 2)
    })
  )

  it.effect(
    "R18: an eager revoke keeps it: it does not start between the generations, and goes on with its count when the partition is retained",
    () =>
      Effect.gen(function* () {
        const failures: Array<Failure<Boom>> = []
        const s = yield* opened(
          {
            ordering: "partition",
            policy: FailurePolicy.make((failed: Failure<Boom>) => {
              failures.push(failed)
              return { _tag: "Retry", after: 1_000 }
            })
          },
          2
        )
        yield* s.desk.end(0, 0, failure)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
        // nothing is in flight: a retry does not hold the drain
        assert.isTrue(revoke.answered())
        assert.deepInclude(yield* seenOf(s), { waiting: 1, released: 0, held: 2 })
        assert.include(s.rows, "record:R18")
        yield* pass(5_000)
        assert.deepStrictEqual(s.desk.running, [])
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:0"])
        yield* s.desk.end(0, 0, failure)
        assert.deepStrictEqual(
          failures.map(({ attempt, firstFailedAt }) => [attempt, firstFailedAt]),
          [
            [1, 0],
            [2, 0]
          ]
        )
        // once more, back before its time: at its time
        yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* pass(500)
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
        yield* pass(499)
        assert.strictEqual(s.desk.attempts.length, 2)
        yield* pass(1)
        assert.strictEqual(s.desk.attempts.length, 3)
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual(s.desk.running, ["0:1"])
        yield* s.desk.finish(0, 1)
        assert.strictEqual(s.session.commits.at(-1), "0=2")
      })
  )

  it.effect(
    "R6a: what fails while an eager revoke drains waits, and is tried again when the partition is retained",
    () =>
      Effect.gen(function* () {
        const s = yield* opened({ policy: again(0) }, 1)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
        assert.isFalse(revoke.answered())
        yield* s.desk.end(0, 0, failure)
        assert.isTrue(revoke.answered())
        assert.deepInclude(yield* seenOf(s), { waiting: 1, released: 0 })
        yield* pass(1_000)
        assert.deepStrictEqual(s.desk.running, [])
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
        assert.deepStrictEqual(s.desk.running, ["0:0"])
        assert.strictEqual(s.desk.at(0, 0).record.attempt, 2)
      })
  )

  it.effect("P14: an eager revoke after which the partition is another member's: released", () =>
    Effect.gen(function* () {
      const s = yield* opened({ policy: again(1_000) }, 1)
      yield* s.desk.end(0, 0, failure)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* s.session.assign([])
      assert.deepInclude(yield* seenOf(s), { released: 1, held: 0 })
      yield* pass(60_000)
      assert.strictEqual(s.desk.attempts.length, 1)
    })
  )

  it.effect("D11: on an in-memory Kafka the next owner handles it, with its attempts counted anew", () =>
    Effect.gen(function* () {
      for (const protocol of ["eager", "incremental"] as const) {
        const w = yield* world({ protocol, partitions: 2 })
        yield* w.produce(3, 0)
        yield* w.produce(3, 1)
        const a = yield* w.member("a", { policy: again(600_000), batchSize: 1 })
        for (const p of [0, 1]) {
          yield* a.desk.finish(p, 0)
          yield* a.desk.end(p, 1, failure)
          yield* a.desk.finish(p, 2)
        }
        const b = yield* w.member("b")
        yield* pass(20_000)
        assert.strictEqual(b.desk.running.length > 0, true)
        const [mine] = b.desk.attempts
        assert.deepInclude(mine!.record, { offset: 1n, attempt: 1 })
        // the retained one still waits for its time
        const kept = 1 - mine!.record.partition
        assert.deepStrictEqual(a.desk.running, [])
        yield* b.desk.finishAll()
        yield* b.desk.finishAll()
        yield* pass(600_000)
        assert.deepStrictEqual(a.desk.running, [`${kept}:1`])
        assert.strictEqual(a.desk.at(kept, 1).record.attempt, 2)
        yield* a.desk.finishAll()
        yield* pass(20_000)
        assert.deepStrictEqual([w.committed(0), w.committed(1)], [3, 3])
      }
    })
  )
})

describe("a retry of an attempt that ignored its interruption", () => {
  const timed = (desk: Desk) =>
    Handler.make("t", desk.handle).pipe(Handler.timeout(1_000)) as unknown as Handler<Boom, never>

  it.effect("C19: starts only when that one has ended, although its time has come", () =>
    Effect.gen(function* () {
      const desk = stubborn()
      const s = yield* opened({ desk, concurrency: 3, handler: timed(desk), policy: again(500) }, 1)
      yield* pass(2_000)
      assert.deepInclude(yield* seenOf(s), { used: 1, waiting: 1 })
      assert.strictEqual((yield* s.consumer.snapshot).permits.byZombies, 1)
      yield* pass(60_000)
      assert.deepStrictEqual(desk.started, ["0:0"])
      const first = desk.at(0, 0)
      first.end(Exit.void)
      yield* turns
      assert.deepStrictEqual(desk.started, ["0:0", "0:0"])
      assert.strictEqual(desk.at(0, 0).record.attempt, 2)
      assert.deepInclude(yield* seenOf(s), { used: 1, waiting: 0, retries: 1 })
      // what the first made of it means nothing
      assert.deepStrictEqual(s.session.commits, [])
      yield* desk.finish(0, 0)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
    })
  )

  it.effect(
    "C19: one that ends before the time of the retry does not bring it forward; a second one is waited for too",
    () =>
      Effect.gen(function* () {
        const desk = stubborn()
        const s = yield* opened({ desk, ordering: "partition", handler: timed(desk), policy: again(5_000) }, 2)
        yield* pass(2_000)
        yield* desk.finish(0, 0)
        yield* pass(4_999)
        assert.deepStrictEqual(desk.started, ["0:0"])
        yield* pass(1)
        assert.deepStrictEqual(desk.started, ["0:0", "0:0"])
        yield* pass(2_000)
        yield* pass(60_000)
        // the lane is the zombie's and the record's
        assert.deepStrictEqual(desk.started, ["0:0", "0:0"])
        yield* desk.finish(0, 0)
        assert.deepStrictEqual(desk.started, ["0:0", "0:0", "0:0"])
        assert.strictEqual(desk.at(0, 0).record.attempt, 3)
        yield* desk.finish(0, 0)
        assert.deepStrictEqual(desk.running, ["0:1"])
        yield* desk.finish(0, 1)
        assert.deepStrictEqual(s.session.commits, ["0=1", "0=2"])
      })
  )

  it.effect("C19: the epoch ends while it waits for the zombie: released, and the zombie's end starts nothing", () =>
    Effect.gen(function* () {
      const desk = stubborn()
      const s = yield* opened({ desk, ordering: "partition", handler: timed(desk), policy: again(0) }, 2)
      yield* pass(2_000)
      yield* s.session.lost(at(0, 1))
      assert.deepInclude(yield* seenOf(s), { held: 0, released: 2 })
      yield* desk.finish(0, 0)
      assert.deepStrictEqual(desk.started, ["0:0"])
      assert.deepInclude((yield* s.consumer.snapshot).permits, { used: 0, byZombies: 0 })
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* s.session.chunk(0, 2, 0, 1)
      assert.deepStrictEqual(desk.running, ["0:0"])
      yield* desk.finish(0, 0)
    })
  )

  it.effect("an attempt that does end in its grace is retried at its time", () =>
    Effect.gen(function* () {
      const desk = new Desk()
      const s = yield* opened({ desk, handler: timed(desk), policy: again(500) }, 1)
      yield* pass(1_499)
      assert.deepStrictEqual(desk.interrupted, ["0:0"])
      assert.strictEqual(desk.attempts.length, 1)
      yield* pass(1)
      assert.strictEqual(desk.attempts.length, 2)
      yield* desk.finish(0, 0)
      assert.deepInclude(yield* seenOf(s), { attempts: 2, retries: 1, used: 0 })
    })
  )
})

describe("many retries", () => {
  const records = 10_000

  it.live("10,000 that wait cost neither a fiber nor a timer each, and little memory", () =>
    Effect.gen(function* () {
      const session = yield* played()
      const all = yield* Deferred.make<void>()
      let attempts = 0
      const handler = Handler.make("t", () => {
        if (++attempts === records) Deferred.doneUnsafe(all, Exit.void)
        return Effect.fail(new Boom())
      })
      const layer = ConcurrentConsumer.layerNoDeps({ concurrency: 50 }).pipe(
        Layer.provide(BatchCommitter.layer({})),
        Layer.provide(Layer.succeed(ConsumerSession, session.session))
      )
      const consumer = Context.get(yield* Layer.build(layer), ConcurrentConsumer)
      yield* Effect.forkScoped(consumer.run(handler, { onFailure: again(3_600_000) }), { startImmediately: true })
      yield* session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length
      const fibers = Effect.map(Metric.snapshot, (metrics) => {
        const active = metrics.find(({ id }) => id === "child_fibers_active")
        return active?.type === "Gauge" ? Number(active.state.value) : assert.fail("fibers are not counted")
      })
      const before = { timers: timers(), fibers: yield* fibers, heap: heapUsed() }
      yield* session.signal({
        _tag: "Chunk",
        ...at(0, 1),
        records: Array.from({ length: records }, (_, i) => recordAt(0, i)),
        nextOffset: BigInt(records),
        end: BigInt(records)
      })
      yield* Deferred.await(all)
      yield* turns
      const { partitions, permits } = yield* consumer.snapshot
      assert.deepInclude(partitions[0]!, { waiting: records, running: 0, buffered: 0 })
      assert.strictEqual(permits.used, 0)
      assert.isAtMost(timers() - before.timers, 2)
      assert.isAtMost((yield* fibers) - before.fibers, 5)
      // the record itself included
      assert.isBelow((heapUsed() - before.heap) / records, 3_000)
    }).pipe(Effect.scoped, Metric.enableRuntimeMetrics, Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})

describe("retries by the clock of the machine", () => {
  it.live("come at their times and not before, although its timers may go off a moment early", () =>
    Effect.gen(function* () {
      const session = yield* played()
      const all = yield* Deferred.make<void>()
      const failedAt = new Map<bigint, number>()
      const early: Array<number> = []
      let done = 0
      const handler = Handler.make("t", ({ attempt, offset }) => {
        if (attempt > 1) early.push(performance.now() - failedAt.get(offset)! - Number(offset % 20n))
        failedAt.set(offset, performance.now())
        if (attempt < 4) return Effect.fail(new Boom())
        if (++done === 200) Deferred.doneUnsafe(all, Exit.void)
        return Effect.void
      })
      const layer = ConcurrentConsumer.layerNoDeps({ concurrency: 5 }).pipe(
        Layer.provide(BatchCommitter.layer({})),
        Layer.provide(Layer.succeed(ConsumerSession, session.session))
      )
      const consumer = Context.get(yield* Layer.build(layer), ConcurrentConsumer)
      const policy = FailurePolicy.make(({ record }: Failure<Boom>) => ({
        _tag: "Retry",
        after: Number(record.offset % 20n)
      }))
      yield* Effect.forkScoped(consumer.run(handler, { onFailure: policy }), { startImmediately: true })
      yield* session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* session.chunk(0, 1, 0, 200)
      yield* Deferred.await(all)
      assert.strictEqual(early.length, 600)
      // times are in whole milliseconds
      assert.isAbove(Math.min(...early), -1.001)
      assert.deepInclude(yield* consumer.snapshot, { attempts: 800, retries: 600 })
    }).pipe(Effect.scoped)
  )
})

const heapUsed = (): number => {
  setFlagsFromString("--expose-gc")
  const gc = runInNewContext("gc") as () => void
  gc()
  gc()
  return process.memoryUsage().heapUsed
}

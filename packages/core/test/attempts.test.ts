import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { Boom, Desk, pass, turns, world, ended } from "./harness.ts"
import { at, given, scripted } from "./script.ts"

const Tenant = Context.Reference<string>("test/Tenant", { defaultValue: () => "nobody" })

describe("the scope of an attempt", () => {
  it.effect(
    "what a handler acquires is released with its attempt, before its outcome counts, not when the layer closes",
    () =>
      Effect.gen(function* () {
        const events: Array<string> = []
        const s = yield* scripted({
          batchSize: 1,
          minCommitInterval: 0,
          concurrency: 1,
          handler: Handler.make("t", (record) =>
            Effect.acquireRelease(
              Effect.sync(() => void events.push(`open ${record.offset}`)),
              (_, exit) =>
                Effect.andThen(
                  Effect.sleep(10),
                  Effect.sync(() => void events.push(`close ${record.offset} ${exit._tag}`))
                )
            )
          )
        })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.chunk(0, 1, 0, 2)
        assert.deepStrictEqual(events, ["open 0"])
        assert.deepStrictEqual(s.session.commits, [])
        assert.strictEqual((yield* s.consumer.snapshot).outcomes.handled, 0)
        yield* pass(10)
        assert.deepStrictEqual(events, ["open 0", "close 0 Success", "open 1"])
        assert.deepStrictEqual(s.session.commits, ["0=1"])
        yield* pass(10)
        assert.deepStrictEqual(s.session.commits, ["0=1", "0=2"])
      })
  )

  it.effect("1,000 records with acquireRelease: nothing is left open", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.produce(1_000)
      let open = 0
      let most = 0
      yield* w.member("a", {
        policy: "none",
        concurrency: 10,
        handler: Handler.make("t", () =>
          Effect.andThen(
            Effect.acquireRelease(
              Effect.sync(() => {
                most = Math.max(most, ++open)
              }),
              () => Effect.sync(() => void open--)
            ),
            Effect.yieldNow
          )
        )
      })
      yield* pass(10_000)
      assert.strictEqual(w.committed(), 1_000)
      assert.strictEqual(open, 0)
      assert.isAtMost(most, 10)
    })
  )

  it.effect(
    "a finalizer that dies after success is a failure of the record; after a failure the handler's own cause counts",
    () =>
      Effect.gen(function* () {
        const causes: Array<string> = []
        const s = yield* scripted({
          handler: Handler.make("t", (record) =>
            Effect.andThen(
              Effect.addFinalizer(() =>
                record.offset === 2n
                  ? Effect.andThen(Effect.sleep(5), Effect.die("late finalizer"))
                  : Effect.die("finalizer")
              ),
              record.offset === 1n ? Effect.fail(new Boom("handler")) : Effect.void
            )
          ),
          policy: FailurePolicy.make((failure) => {
            causes.push(`${failure.record.offset} ${failure.kind}`)
            return { _tag: "Skip" }
          })
        })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.chunk(0, 1, 0, 3)
        yield* pass(5)
        assert.deepStrictEqual(causes, ["0 defect", "1 error", "2 defect"])
        assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ skipped: 3 }))
      })
  )
})

describe("wrap", () => {
  it.effect(
    "runs inside the record's fiber and scope, around each attempt, and gives request services as references",
    () =>
      Effect.gen(function* () {
        const seen: Array<string> = []
        const s = yield* scripted({
          policy: FailurePolicy.skip,
          handler: Handler.make("t", (record) =>
            Effect.gen(function* () {
              seen.push(`${record.offset} ${yield* Tenant}`)
              if (record.offset === 1n) return yield* Effect.fail(new Boom())
            })
          ),
          wrap: (effect, record) =>
            Effect.suspend(() => {
              seen.push(`before ${record.offset}`)
              return Effect.ensuring(
                Effect.provideService(effect, Tenant, `tenant ${record.partition}`),
                Effect.sync(() => void seen.push(`after ${record.offset}`))
              )
            })
        })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.chunk(0, 1, 0, 2)
        assert.deepStrictEqual(seen, ["before 0", "0 tenant 0", "after 0", "before 1", "1 tenant 0", "after 1"])
      })
  )

  it.effect("what it changes of the exit is what counts", () =>
    Effect.gen(function* () {
      const s = yield* given([1], {
        batchSize: 1,
        minCommitInterval: 0,
        policy: FailurePolicy.stop,
        wrap: (effect) => Effect.catchCause(effect, () => Effect.void)
      })
      yield* s.desk.end(0, 0, Exit.die("x"))
      assert.deepStrictEqual(s.session.commits, ["0=1"])
    })
  )
})

describe("record.ack", () => {
  it.effect("from there on the record is done, whatever the exit says; permit and lane stay until the fiber ends", () =>
    Effect.gen(function* () {
      const s = yield* given([3], {
        batchSize: 1,
        minCommitInterval: 0,
        ordering: "partition",
        concurrency: 1,
        desk: new Desk({ around: (attempt, wait) => Effect.andThen(attempt.record.ack, wait) })
      })
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.deepStrictEqual(s.desk.running, ["0:0"])
      assert.strictEqual((yield* s.consumer.snapshot).permits.used, 1)
      assert.strictEqual((yield* s.consumer.snapshot).held.records, 2)
      // a failure afterwards is nobody's business
      yield* s.desk.end(0, 0, Exit.fail(new Boom()))
      assert.deepStrictEqual(s.desk.running, ["0:1"])
      yield* s.desk.end(0, 1, Exit.die("x"))
      yield* s.desk.finish(0, 2)
      assert.isUndefined(s.fiber().pollUnsafe())
      assert.strictEqual(s.session.commits.at(-1), "0=3")
      assert.strictEqual((yield* s.consumer.snapshot).outcomes.handled, 3)
    })
  )

  it.effect("is idempotent", () =>
    Effect.gen(function* () {
      const s = yield* given([2], {
        desk: new Desk({ around: ({ record }) => Effect.andThen(record.ack, Effect.andThen(record.ack, record.ack)) })
      })
      assert.deepInclude(yield* s.consumer.snapshot, { fenced: 0, unexpectedTransitions: 0 })
      assert.strictEqual((yield* s.consumer.snapshot).outcomes.handled, 2)
    })
  )

  it.effect("too late (the epoch is over, or the timeout has decided): fenced, nothing is committed", () =>
    Effect.gen(function* () {
      const s = yield* given([1], {
        batchSize: 1,
        desk: new Desk({ around: ({ record }, wait) => Effect.uninterruptible(Effect.andThen(wait, record.ack)) })
      })
      yield* s.session.lost(at(0, 1))
      yield* pass(1_000)
      yield* s.desk.finish(0, 0)
      yield* pass(1_000)
      assert.deepStrictEqual(s.session.commits, [])
      const snapshot = yield* s.consumer.snapshot
      assert.strictEqual(snapshot.outcomes.handled, 0)
      assert.isAtLeast(snapshot.fenced, 1)
    })
  )

  it.effect(
    "before interruptGrace is over, during a revoke: done and flushed, although the exit is an interruption",
    () =>
      Effect.gen(function* () {
        const s = yield* given([1], {
          desk: new Desk({ around: ({ record }, wait) => Effect.uninterruptible(Effect.andThen(wait, record.ack)) })
        })
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
        yield* pass(5_500)
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual(s.session.commits, ["0=1"])
        assert.isTrue(revoke.answered())
      })
  )

  it.effect("an acknowledged attempt that ignores its interruption becomes a zombie with its permit", () =>
    Effect.gen(function* () {
      const s = yield* given([1], {
        desk: new Desk({ around: ({ record }, wait) => Effect.uninterruptible(Effect.andThen(record.ack, wait)) })
      })
      yield* s.session.lost(at(0, 1))
      yield* pass(1_000)
      assert.deepInclude((yield* s.consumer.snapshot).permits, { used: 1, byZombies: 1 })
      assert.deepInclude(yield* s.consumer.snapshot, { released: 0 })
      yield* s.desk.finish(0, 0)
      assert.deepInclude((yield* s.consumer.snapshot).permits, { used: 0, byZombies: 0 })
      yield* turns
    })
  )
})

import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { ConcurrentConsumer, type GroupOptions } from "../src/ConcurrentConsumer.ts"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { ConsumerRegistry, makeRegistry } from "../src/ConsumerRegistry.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import type { HealthReason } from "../src/Health.ts"
import type { InvalidOptions } from "../src/InvalidOptions.ts"
import { LatencyWindow } from "../src/internal/latencyWindow.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import type { Distribution } from "../src/Snapshot.ts"
import { Boom, Desk, type MemberOptions, pass, turns, whileTimePasses, world } from "./harness.ts"

/** those that run now, and not what starts when they have ended */
const finishRunning = (desk: Desk) => {
  const running = desk.attempts.filter((attempt) => attempt.running)
  for (const attempt of running) attempt.end(Exit.void)
  return turns
}

type World = Effect.Success<ReturnType<typeof world>>

/** a consumer that has its partitions, so many records in each */
const consuming = (
  count: number,
  options: MemberOptions & { readonly partitions?: number; readonly records?: number; readonly commitLatency?: number }
) =>
  Effect.gen(function* () {
    const { commitLatency = 0, partitions = count, records = 3, ...member } = options
    const w = yield* world({ partitions, commitLatency })
    for (let p = 0; p < partitions; p++) yield* w.produce(records, p)
    const a = yield* w.member("a", { members: count, ...member })
    yield* pass(10_000)
    return { w, a }
  })

const assigned = (w: World): ReadonlyArray<ReadonlyArray<number>> =>
  w.kafka.groupUnsafe("g").members.map(({ assignment }) => assignment.map(({ partition }) => partition))

const errorsOf = (exit: Exit.Exit<unknown, unknown> | undefined): ReadonlyArray<ConsumerError["reason"]> =>
  exit !== undefined && Exit.isFailure(exit)
    ? exit.cause.reasons.flatMap((reason) =>
        Cause.isFailReason(reason) ? [(reason.error as ConsumerError).reason] : []
      )
    : assert.fail("it did not fail")

const build = (w: World, options: Partial<GroupOptions>, registry = makeRegistry()) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const exit = yield* Effect.exit(
      Layer.buildWithScope(ConcurrentConsumer.layer({ groupId: "g", ...options, topics: ["t"] }), scope).pipe(
        Effect.provideService(KafkaClient, w.kafka.client()),
        Effect.provideService(ConsumerRegistry, registry)
      )
    )
    return { exit, close: Scope.close(scope, Exit.void) }
  })

const places = (partitions: number) => Array.from({ length: partitions }, (_, p) => `${p}:0`)

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))
/** which of those that run is finished next */
const Choices = Schema.Array(upTo(1_000)).check(Schema.isMaxLength(60))
/** milliseconds, in which window, when */
const Values = Schema.Array(Schema.Struct({ millis: upTo(100_000), window: upTo(2), at: upTo(40_000) }))

describe("members", () => {
  it.effect("each is a session of its own, with its own share of the partitions, permits and commits", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(3, { partitions: 6, concurrency: 2, ordering: "partition", batchSize: 2 })
      assert.deepStrictEqual(
        assigned(w).map((all) => all.length),
        [2, 2, 2]
      )
      assert.sameMembers([...a.desk.running], places(6))
      yield* finishRunning(a.desk)
      yield* pass(1_000)
      // two records of each member: no member has to wait for those of the others
      assert.strictEqual(new Set(w.kafka.commitsUnsafe("g").map(({ memberId }) => memberId)).size, 3)
      for (let p = 0; p < 6; p++) assert.strictEqual(w.committed(p), 1)
    })
  )

  it.effect("concurrency is each one's: setConcurrency too", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(2, { records: 10, concurrency: 3 })
      assert.strictEqual(a.desk.running.length, 6)
      yield* a.consumer.setConcurrency(5)
      yield* turns
      assert.strictEqual(a.desk.running.length, 10)
      assert.deepStrictEqual((yield* a.consumer.snapshot).permits, {
        limit: 10,
        used: 10,
        byZombies: 0,
        waitingForTurn: 0
      })
      const refused = yield* Effect.exit(a.consumer.setConcurrency(0))
      assert.isTrue(Exit.isFailure(refused))
      yield* a.consumer.setConcurrency("unbounded")
      yield* turns
      assert.strictEqual(a.desk.running.length, 20)
      assert.strictEqual((yield* a.consumer.snapshot).permits.limit, "unbounded")
    })
  )

  it.effect.prop(
    "I4: with order by partition records of one run in the order of their offsets, never two at once",
    [Choices],
    ([choices]) =>
      Effect.gen(function* () {
        const { a } = yield* consuming(3, { partitions: 5, records: 6, ordering: "partition" })
        const next = [0, 0, 0, 0, 0]
        for (const choice of choices) {
          const { running } = a.desk
          assert.strictEqual(new Set(running.map((place) => place.split(":")[0])).size, running.length)
          if (running.length === 0) break
          const [partition, offset] = running[choice % running.length]!.split(":").map(Number)
          assert.strictEqual(offset, next[partition!])
          next[partition!]!++
          yield* a.desk.finish(partition!, offset!)
        }
        assert.strictEqual(
          a.desk.running.length + next.reduce((n, done) => n + done),
          next.reduce((n, done) => n + Math.min(6, done + 1), 0)
        )
      }),
    { arbitrary: { runs: 20 } }
  )

  it.effect("more members than partitions: the others stand by, which is right", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(4, { partitions: 2 })
      assert.deepStrictEqual(
        assigned(w)
          .map((all) => all.length)
          .sort((x, y) => x - y),
        [0, 0, 1, 1]
      )
      const { reasons, ...verdict } = yield* a.health
      assert.deepStrictEqual(verdict, { status: "ok", live: true, ready: true })
      assert.deepStrictEqual(
        reasons.map(({ code, count, members }) => ({ code, count, members: members?.length })),
        [{ code: "standby", count: 2, members: 2 }]
      )
      assert.match(reasons[0]!.message, /^2 of 4 members, the longest g\/\d: a member of the group without partitions/)
    })
  )

  it.effect("the partitions of a member whose session is lost go to the others of the process", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(2, { batchInterval: 100, batchSize: 1 })
      yield* finishRunning(a.desk)
      yield* pass(1_000)
      const [one] = w.kafka.sessionsUnsafe()
      yield* one!.disconnect
      yield* pass(60_000)
      assert.deepStrictEqual(assigned(w), [[0, 1]])
      assert.deepStrictEqual(yield* a.codes, ["disconnected"])
      yield* one!.reconnect
      yield* pass(60_000)
      assert.strictEqual(assigned(w).length, 2)
    })
  )
})

describe("members: their end", () => {
  it.effect("closing interrupts, flushes and leaves all of them side by side", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(4, { commitLatency: 1_000, batchSize: 1000, batchInterval: 3_600_000 })
      for (let p = 0; p < 4; p++) yield* a.desk.finish(p, 0)
      const { millis } = yield* whileTimePasses(a.close)
      // one after another it would be four times that
      assert.isAtMost(millis, 1_100)
      for (let p = 0; p < 4; p++) assert.strictEqual(w.committed(p), 1)
      assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(a.fiber())))
      assert.deepStrictEqual(yield* a.registry.consumers, [])
      assert.isFalse(w.kafka.sessionsUnsafe().some((session) => session.isOpenUnsafe()))
    })
  )

  it.effect("by drain: each finishes what it has begun and begins nothing; the slowest decides how long it takes", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(3, { shutdown: "drain", ordering: "partition" })
      const closing = yield* Effect.forkChild(whileTimePasses(a.close))
      yield* pass(1_000)
      assert.strictEqual((yield* a.registry.consumers).length, 1)
      const health = yield* a.health
      assert.isFalse(health.ready)
      assert.strictEqual(health.reasons[0]!.code, "shuttingDown")
      assert.match(health.reasons[0]!.message, /^all 3 members, /)
      yield* a.desk.finish(0, 0)
      yield* a.desk.finish(1, 0)
      yield* pass(4_000)
      yield* a.desk.finish(2, 0)
      const { millis } = yield* Fiber.join(closing)
      assert.isAtMost(millis, 6_000)
      assert.sameMembers([...a.desk.started], places(3))
      assert.deepStrictEqual(a.desk.interrupted, [])
      for (let p = 0; p < 3; p++) assert.strictEqual(w.committed(p), 1)
      assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
    })
  )

  it.effect("I8: handlers that ignore interruption in all of them: one bound for all", () =>
    Effect.gen(function* () {
      const desk = new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
      const { a } = yield* consuming(4, { desk, shutdown: "drain" })
      const { millis } = yield* whileTimePasses(a.close, 100_000)
      assert.isAtMost(millis, 22_000)
      yield* desk.finishAll()
    })
  )

  it.effect("interrupting run ends all of them side by side; it may be called again", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(3, { commitLatency: 1_000, batchSize: 1000, batchInterval: 3_600_000 })
      for (let p = 0; p < 3; p++) yield* a.desk.finish(p, 0)
      const { millis } = yield* whileTimePasses(a.interrupt)
      assert.isAtMost(millis, 1_100)
      for (let p = 0; p < 3; p++) assert.strictEqual(w.committed(p), 1)
      assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
      assert.deepStrictEqual(yield* a.codes, ["idle"])
      yield* a.run
      yield* pass(10_000)
      assert.strictEqual(assigned(w).length, 3)
      assert.strictEqual(a.desk.running.length, 6)
    })
  )

  it.effect("run while one of them still ends is refused, and those that have ended do not join again", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2, trace: true })
      for (let p = 0; p < 2; p++) yield* w.produce(1, p)
      const a = yield* w.member("a", { members: 2, shutdown: "drain" })
      yield* pass(10_000)
      yield* a.desk.finish(0, 0)
      const ending = yield* Effect.forkChild(a.interrupt)
      yield* pass(1_000)
      assert.strictEqual(assigned(w).length, 1)
      const failure = yield* Effect.forkChild(Effect.exit(a.consumer.failure))
      const before = w.kafka.traceUnsafe()
      const again = yield* Effect.exit(a.consumer.run(Handler.make("t", () => Effect.void)))
      assert.deepStrictEqual(errorsOf(again), [{ _tag: "AlreadyRunning" }])
      yield* turns
      assert.deepStrictEqual(w.kafka.traceUnsafe().slice(before.length), [])
      // a refusal is no failure of the consumer: it would end the program that `launch` runs
      assert.isUndefined(failure.pollUnsafe())
      yield* a.desk.finish(1, 0)
      yield* whileTimePasses(Fiber.join(ending))
      assert.deepStrictEqual([w.committed(0), w.committed(1)], [1, 1])
    })
  )

  it.effect("the first that fails ends the others when it begins to, and is what run and failure fail with", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(3, { shutdown: "drain", concurrency: 2 })
      const failure = yield* Effect.forkChild(Effect.exit(a.consumer.failure))
      yield* a.desk.finish(0, 0)
      yield* a.desk.end(1, 0, Exit.fail(new Boom()))
      // that one drains its second record; the others drain too, already now
      const before = a.desk.started.length
      yield* a.desk.finish(0, 1)
      yield* a.desk.finish(2, 0)
      assert.strictEqual(a.desk.started.length, before)
      yield* pass(1_000)
      assert.isUndefined(a.fiber().pollUnsafe())
      yield* a.desk.finish(0, 2)
      yield* a.desk.finish(2, 1)
      yield* a.desk.finish(1, 1)
      yield* pass(1_000)
      const exit = a.fiber().pollUnsafe()
      const [first, ...more] = errorsOf(exit)
      assert.deepInclude(first, { _tag: "Stopped", partition: 1, offset: 0n })
      assert.deepStrictEqual(more, [])
      assert.deepStrictEqual(errorsOf(yield* Fiber.join(failure)), [first!])
      assert.deepStrictEqual([w.committed(0), w.committed(1), w.committed(2)], [3, 0, 2])
      assert.deepStrictEqual(w.kafka.groupUnsafe("g").members, [])
      assert.deepStrictEqual(a.desk.interrupted, [])

      const { reasons, ...verdict } = yield* a.health
      assert.deepStrictEqual(verdict, { status: "down", live: false, ready: false })
      // that the others have no handler any more is said by this one
      assert.deepStrictEqual(
        reasons.map(({ code, count }) => [code, count]),
        [["failed", 1]]
      )
      assert.match(reasons[0]!.message, /^1 of 3 members \(g\/\d\): stopped by the failure of t\/1 offset 0/)
      yield* a.run
      assert.deepStrictEqual(errorsOf(a.fiber().pollUnsafe()), [{ _tag: "Ended" }])
    })
  )

  it.effect("a run that is interrupted while the others end with one that has failed has failed all the same", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(2, { shutdown: "drain", concurrency: 1 })
      const failure = yield* Effect.forkChild(Effect.exit(a.consumer.failure))
      yield* a.desk.end(1, 0, Exit.fail(new Boom()))
      yield* pass(1_000)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(a.fiber()))
      yield* a.desk.finish(0, 0)
      yield* Fiber.join(interrupting)
      yield* turns
      const failed = failure.pollUnsafe()
      assert.isDefined(failed)
      assert.deepInclude(errorsOf(Exit.isSuccess(failed) ? failed.value : failed)[0], {
        _tag: "Stopped",
        partition: 1,
        offset: 0n
      })
      yield* a.run
      assert.deepStrictEqual(errorsOf(a.fiber().pollUnsafe()), [{ _tag: "Ended" }])
    })
  )

  it.effect("a drain after a failure takes one shutdownTimeout for all, not one after another", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(2, { shutdown: "drain", concurrency: 2 })
      yield* a.desk.end(0, 0, Exit.fail(new Boom()))
      const { millis } = yield* whileTimePasses(Fiber.await(a.fiber()), 100_000)
      assert.isAtLeast(millis, 17_000)
      assert.isAtMost(millis, 20_000)
      assert.sameMembers([...a.desk.interrupted], ["0:1", "1:0", "1:1"])
    })
  )

  it.effect("what fails during the end is added to the cause, behind what began it", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(3, { shutdown: "drain", concurrency: 2 })
      yield* a.desk.end(2, 0, Exit.fail(new Boom()))
      yield* a.desk.end(0, 0, Exit.fail(new Boom()))
      yield* finishRunning(a.desk)
      yield* pass(1_000)
      assert.deepStrictEqual(
        errorsOf(a.fiber().pollUnsafe()).map((reason) => (reason._tag === "Stopped" ? reason.partition : reason._tag)),
        [2, 0]
      )
    })
  )

  it.effect("run twice, and run with other topics, are refused and end nobody", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(2, {})
      const again = yield* Effect.exit(a.consumer.run(Handler.make("t", () => Effect.void)))
      assert.deepStrictEqual(errorsOf(again), [{ _tag: "AlreadyRunning" }])
      const other = yield* Effect.exit(a.consumer.run(Handler.make("u", () => Effect.void)))
      assert.deepStrictEqual(errorsOf(other), [{ _tag: "TopicsDiffer", handler: ["u"], session: ["t"] }])
      yield* pass(1_000)
      assert.strictEqual(a.desk.running.length, 6)
      yield* a.close
      const late = yield* Effect.exit(a.consumer.run(Handler.make("t", () => Effect.void)))
      assert.deepStrictEqual(errorsOf(late), [{ _tag: "Ended" }])
    })
  )
})

describe("members: what is seen of them", () => {
  it.effect(
    "one consumer in the registry, under its name; its snapshot is of all together and has each by itself",
    () =>
      Effect.gen(function* () {
        const { a } = yield* consuming(2, { name: "shipping", partitions: 4, records: 4, concurrency: 3 })
        const running = a.desk.running.length
        assert.strictEqual(running, 6)
        yield* pass(1_000)
        yield* finishRunning(a.desk)
        const names = (yield* a.registry.consumers).map(({ name }) => name)
        assert.deepStrictEqual(names, ["shipping"])
        const { members, ...all } = yield* a.consumer.snapshot
        assert.deepStrictEqual(
          members.map(({ name }) => name),
          ["shipping/1", "shipping/2"]
        )
        assert.deepStrictEqual([all.name, all.groupId], ["shipping", "g"])
        assert.sameMembers(
          all.partitions.map(({ partition }) => partition),
          [0, 1, 2, 3]
        )
        assert.deepStrictEqual(
          all.partitions,
          members.flatMap(({ partitions }) => partitions)
        )
        assert.deepStrictEqual([all.outcomes.handled, all.attempts], [6, 12])
        for (const member of members) assert.deepStrictEqual([member.outcomes.handled, member.attempts], [3, 6])
        assert.deepStrictEqual(all.held, {
          records: 10,
          bytes: members.reduce((n, { held }) => n + held.bytes, 0),
          maxRecords: 40_000,
          maxBytes: 64 * 1024 * 1024
        })
        assert.strictEqual(all.generation, Math.max(...members.map(({ generation }) => generation)))
        assert.strictEqual(
          all.commits.ok,
          members.reduce((n, { commits }) => n + commits.ok, 0)
        )
        assert.strictEqual(all.rebalances.length, members.flatMap(({ rebalances }) => rebalances).length)
        assert.deepStrictEqual(
          all.rebalanceCounts.assigned,
          members.reduce((n, { rebalanceCounts }) => n + rebalanceCounts.assigned, 0)
        )
        const total = ({ counts }: Distribution) => counts.reduce((a, b) => a + b, 0)
        assert.strictEqual(total(all.handlerTime.all), 6)
        assert.strictEqual(total(all.commits.time), all.commits.ok + all.commits.failed)
        const times = all.rebalances.map(({ at }) => at)
        assert.deepStrictEqual(
          times,
          times.toSorted((x, y) => x - y)
        )
      })
  )

  it.effect("percentiles are of all values of all members, not of their percentiles", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(2, { records: 100, concurrency: "unbounded" })
      // one is fast and has many, the other is slow and has few
      yield* pass(100)
      for (let offset = 0; offset < 99; offset++) a.desk.at(0, offset).end(Exit.void)
      yield* pass(30_000)
      yield* a.desk.finish(1, 0)
      const { handlerTime, members } = yield* a.consumer.snapshot
      const each = members.map((member) => member.handlerTime.p50).sort((x, y) => x - y)
      assert.isBelow(each[0]! * 2, each[1]!)
      assert.strictEqual(handlerTime.p50, each[0])
      assert.isBelow(handlerTime.p99, each[1]!)
    })
  )

  it.effect.prop("merged latency windows say what one window with all the values would", [Values], ([values]) =>
    Effect.sync(() => {
      const parts = [new LatencyWindow(), new LatencyWindow(), new LatencyWindow()]
      const whole = new LatencyWindow()
      for (const { at, millis, window } of values.toSorted((x, y) => x.at - y.at)) {
        parts[window]!.add(millis, at)
        whole.add(millis, at)
      }
      assert.deepStrictEqual(LatencyWindow.percentilesOf(parts, 40_000), whole.percentiles(40_000))
    })
  )

  it.effect("health: one reason a code, with who has it; the worst status; live and ready only when all are", () =>
    Effect.gen(function* () {
      const desk = new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
      const { a } = yield* consuming(4, { desk, concurrency: 1, stuckAfter: "60 seconds" })
      assert.deepStrictEqual((yield* a.health).reasons, [])
      for (let p = 1; p < 4; p++) yield* a.desk.finish(p, 0)
      yield* pass(45_000)
      for (let p = 1; p < 4; p++) yield* a.desk.finish(p, 1)
      yield* pass(10_000)
      const stuck = yield* a.health
      assert.deepStrictEqual(
        { status: stuck.status, live: stuck.live, ready: stuck.ready },
        { status: "degraded", live: true, ready: true }
      )
      const [reason, ...others] = stuck.reasons as [HealthReason]
      assert.deepStrictEqual(others, [])
      const { members, message, ...where } = reason
      const owner = (yield* a.consumer.snapshot).members.find(({ partitions }) =>
        partitions.some(({ partition }) => partition === 0)
      )!.name
      assert.deepStrictEqual(members, [owner])
      assert.match(message, new RegExp(`^1 of 4 members \\(${owner}\\): an attempt has been running for 6\\d{4} ms`))
      assert.deepInclude(where, { code: "stuck", count: 1, at: { topic: "t", partition: 0, offset: 0n } })
      yield* pass(50_000)
      const both = (yield* a.health).reasons
      assert.deepStrictEqual([both.length, both[0]!.count, both[0]!.members?.length], [1, 4, 4])
      assert.match(both[0]!.message, new RegExp(`^all 4 members, the longest ${owner}: `))
      yield* desk.finishAll()
      yield* turns
      yield* desk.finishAll()
    })
  )

  it.effect("not ready before every one has joined", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      const a = yield* w.member("a", { members: 2, idle: true })
      const { ready, reasons } = yield* a.health
      assert.isFalse(ready)
      assert.deepStrictEqual(
        reasons.map(({ code, members }) => [code, members]),
        [["starting", ["g/1", "g/2"]]]
      )
      yield* a.run
      yield* pass(10_000)
      assert.isTrue((yield* a.health).ready)
    })
  )
})

describe("members: control of them", () => {
  const at = (partition: number) => ({ topic: "t", partition })

  it.effect("pause and resume of all, and of some wherever they are: all of these or none", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(2, { partitions: 4, ordering: "partition" })
      yield* a.consumer.pause()
      yield* finishRunning(a.desk)
      assert.deepStrictEqual(a.desk.running, [])
      yield* a.consumer.resume()
      yield* turns
      assert.strictEqual(a.desk.running.length, 4)

      const refused = yield* Effect.exit(a.consumer.pause([at(0), at(3), at(7)]))
      assert.deepStrictEqual(errorsOf(refused), [{ _tag: "NotOwned", topic: "t", partition: 7 }])
      assert.deepStrictEqual(yield* a.codes, [])
      const all = (yield* a.consumer.snapshot).partitions.map(({ partition }) => at(partition))
      // one of each member
      const some = [all[0]!, all.at(-1)!]
      yield* a.consumer.pause(some)
      yield* finishRunning(a.desk)
      assert.strictEqual(a.desk.running.length, 2)
      assert.deepInclude((yield* a.health).reasons[0], { code: "paused", count: 2 })
      yield* a.consumer.resume(some)
      yield* turns
      assert.strictEqual(a.desk.running.length, 4)
    })
  )

  it.effect("seek goes to the owner", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(3, { concurrency: 1 })
      w.expect("passedOver")
      for (let p = 0; p < 3; p++) yield* a.consumer.seek(at(p), 2n)
      yield* turns
      assert.sameMembers([...a.desk.running], ["0:2", "1:2", "2:2"])
      const refused = yield* Effect.exit(a.consumer.seek(at(9), "start"))
      assert.deepStrictEqual(errorsOf(refused), [{ _tag: "NotOwned", topic: "t", partition: 9 }])
    })
  )

  it.effect("flush commits all of them, side by side, and has the outcomes of all", () =>
    Effect.gen(function* () {
      const { a, w } = yield* consuming(3, { commitLatency: 1_000, batchSize: 1000, batchInterval: 3_600_000 })
      for (let p = 0; p < 3; p++) yield* a.desk.finish(p, 0)
      const { millis, value } = yield* whileTimePasses(a.consumer.flush)
      assert.isAtMost(millis, 1_100)
      const outcomes = Exit.isSuccess(value) ? value.value : []
      assert.sameMembers(
        outcomes.map(({ partition }) => partition),
        [0, 1, 2]
      )
      for (let p = 0; p < 3; p++) assert.strictEqual(w.committed(p), 1)
    })
  )
})

describe("members: layers", () => {
  const refusal = (exit: Exit.Exit<unknown, unknown>) =>
    Exit.isFailure(exit) ? (Cause.squash(exit.cause) as InvalidOptions) : assert.fail("it was built")

  for (const members of [0, -1, 1.5, "2"]) {
    it.effect(`${JSON.stringify(members)} of them are refused, and nothing is connected`, () =>
      Effect.gen(function* () {
        const w = yield* world()
        const { exit } = yield* build(w, { members } as GroupOptions)
        assert.deepInclude(refusal(exit), { _tag: "InvalidOptions", option: "members", value: members })
        assert.include(refusal(exit).accepted, "an integer of at least 1")
        assert.deepStrictEqual(w.kafka.sessionsUnsafe(), [])
      })
    )
  }

  it.effect("one is as if nothing had been said: no numbers in names, nobody beside it", () =>
    Effect.gen(function* () {
      const { a } = yield* consuming(1, {})
      const { members, name } = yield* a.consumer.snapshot
      assert.deepStrictEqual([name, members], ["g", []])
      yield* pass(60_000)
      const [reason] = (yield* a.health).reasons
      assert.isUndefined(reason!.members)
      assert.match(reason!.message, /^an attempt/)
    })
  )

  it.effect("other options are refused as ever, and what was opened before is closed", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const registry = makeRegistry()
      for (const [option, value] of [
        ["name", ""],
        ["concurrency", 0],
        ["batchSize", 0]
      ] as const) {
        const { close, exit } = yield* build(w, { members: 3, [option]: value }, registry)
        assert.deepInclude(refusal(exit), { option, value })
        yield* close
      }
      yield* build(w, { name: "a" }, registry)
      const { close, exit } = yield* build(w, { members: 3, name: "a" }, registry)
      assert.deepInclude(refusal(exit), { option: "name", value: "a" })
      yield* close
      assert.strictEqual(w.kafka.sessionsUnsafe().filter((session) => session.isOpenUnsafe()).length, 1)
    })
  )

  it.effect("two consumers of several members take names as two of one do", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const registry = makeRegistry()
      const first = yield* build(w, { members: 2 }, registry)
      yield* build(w, { members: 2 }, registry)
      assert.deepStrictEqual(
        (yield* registry.consumers).map(({ name }) => name),
        ["g", "g#2"]
      )
      yield* first.close
      assert.strictEqual(w.kafka.sessionsUnsafe().filter((session) => session.isOpenUnsafe()).length, 2)
    })
  )

  it.effect("a broker that is down when the layer is built is a failure of the layer", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.kafka.brokerDown
      const { exit } = yield* build(w, { members: 3 })
      assert.strictEqual(refusal(exit)._tag as string, "KafkaClientError")
    })
  )

  class Shipping extends ConcurrentConsumer.Tag<Shipping>()("test/Shipping") {}

  it.effect("layerHandler, Tag and layerHandlerConfig take them; launch ends with the first failure", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(1, p)
      const registry = makeRegistry()
      const desks = { tag: w.watch(new Desk(), "tag"), config: w.watch(new Desk(), "config") }
      const provided = <A, E>(layer: Layer.Layer<A, E, KafkaClient>) =>
        Layer.provide(layer, Layer.succeed(KafkaClient, w.kafka.client()))
      const scope = yield* Scope.fork(yield* Effect.scope)
      const context = yield* Layer.buildWithScope(
        provided(
          Shipping.layerHandler(Handler.make("t", desks.tag.handle), {
            groupId: "tag",
            members: 2,
            onFailure: FailurePolicy.stop
          })
        ),
        scope
      ).pipe(Effect.provideService(ConsumerRegistry, registry))
      yield* pass(10_000)
      assert.strictEqual((yield* Context.get(context, Shipping).snapshot).members.length, 2)
      assert.strictEqual(w.kafka.groupUnsafe("tag").members.length, 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(w.kafka.groupUnsafe("tag").members.length, 0)

      const launched = yield* Effect.forkChild(
        ConcurrentConsumer.launch(
          provided(
            ConcurrentConsumer.layerHandlerConfig(Handler.make("t", desks.config.handle), {
              groupId: "config",
              members: Config.Int("MEMBERS"),
              onFailure: FailurePolicy.stop
            }).pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ MEMBERS: "2" }))))
          )
        )
      )
      yield* pass(10_000)
      assert.strictEqual(w.kafka.groupUnsafe("config").members.length, 2)
      yield* desks.config.end(1, 0, Exit.fail(new Boom()))
      yield* pass(1_000)
      assert.deepInclude(errorsOf(launched.pollUnsafe())[0], { _tag: "Stopped", partition: 1 })
      assert.strictEqual(w.kafka.groupUnsafe("config").members.length, 0)
    })
  )
})

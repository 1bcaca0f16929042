import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { BatchCommitter, type BatchCommitterOptions, type CommitSource } from "../src/BatchCommitter.ts"
import { type CommitEntry, type CommitOutcome, ConsumerSession, type EpochPartition } from "../src/ConsumerSession.ts"
import { Handler } from "../src/Handler.ts"
import { Desk, pass, turns, world } from "./harness.ts"
import { at, later, outcomes, type Played, played, scripted } from "./script.ts"

/** What a consumer would know: the committable offset of each partition, as numbers. */
class Source implements CommitSource {
  readonly offsets = new Map<number, number>()
  readonly committed = new Map<number, number>()
  readonly outcomes: Array<CommitOutcome> = []
  readonly inFlight = new Map<number, number>()
  metadata = ""
  takes = 0
  take(partitions: ReadonlyArray<EpochPartition> | undefined, repeat: boolean): ReadonlyArray<CommitEntry> {
    this.takes++
    const wanted = partitions?.map((p) => p.partition) ?? [...this.offsets.keys()]
    return wanted.flatMap((p) => {
      const offset = this.offsets.get(p)
      if (offset === undefined || (offset === this.committed.get(p) && !repeat)) return []
      assert.isFalse(this.inFlight.has(p), `partition ${p} is taken while it is in flight`)
      this.inFlight.set(p, offset)
      return [{ ...at(p, 1), offset: BigInt(offset), metadata: this.metadata }]
    })
  }
  settled(all: ReadonlyArray<CommitOutcome>): void {
    this.outcomes.push(...all)
    for (const one of all) {
      const sent = this.inFlight.get(one.partition)
      assert.isTrue(this.inFlight.delete(one.partition), `partition ${one.partition} is settled once`)
      if (one.outcome === "committed") this.committed.set(one.partition, sent!)
    }
  }
}

interface Desktop {
  readonly session: Played
  readonly committer: BatchCommitter["Service"]
  readonly source: Source
  /** a record more is inside the prefix of this partition */
  readonly done: (partition: number, count?: number) => void
  readonly detach: Effect.Effect<void>
  readonly close: Effect.Effect<void>
  /** when requests were sent */
  readonly times: () => ReadonlyArray<number>
}

const committer = (options: BatchCommitterOptions = {}) =>
  Effect.gen(function* () {
    const session = yield* played()
    const scope = yield* Scope.fork(yield* Effect.scope)
    const built = yield* Layer.buildWithScope(
      BatchCommitter.layer(options).pipe(Layer.provide(Layer.succeed(ConsumerSession, session.session))),
      scope
    )
    const service = Context.get(built, BatchCommitter)
    const source = new Source()
    const attached = yield* Scope.make()
    yield* Scope.provide(
      service.attach({ take: (p, r) => source.take(p, r), settled: (all) => source.settled(all) }),
      attached
    )
    const desktop: Desktop = {
      session,
      committer: service,
      source,
      done: (partition, count = 1) => {
        source.offsets.set(partition, (source.offsets.get(partition) ?? 0) + count)
        for (let i = 0; i < count; i++) service.advancedUnsafe(1, 0)
      },
      detach: Scope.close(attached, Exit.void),
      close: Scope.close(scope, Exit.void),
      times: () => session.sent.map((one) => one.at)
    }
    return desktop
  })

/** A flush that waits for the request in front of it, which the broker answers late. */
const waitingFlush = Effect.gen(function* () {
  const c = yield* committer({ batchSize: 1 })
  const late = later()
  c.session.answers.push(late.answer)
  c.done(0)
  yield* turns
  c.done(0)
  const flush = yield* Effect.forkChild(c.committer.flush())
  return { c, flush, late }
})

describe("BatchCommitter", () => {
  it.effect("commits when batchSize records, summed over partitions, have joined the prefix", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 5 })
      c.done(0, 2)
      c.done(1, 2)
      yield* pass(1_000)
      assert.deepStrictEqual(c.session.commits, [])
      c.done(0)
      yield* turns
      assert.deepStrictEqual(c.session.commits, ["0=3", "1=2"])
      assert.strictEqual(c.session.sent.length, 1)
    })
  )

  it.effect("or batchInterval after the first of them, not after the last", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 100, batchInterval: 10_000 })
      yield* pass(3_000)
      c.done(0)
      yield* pass(6_000)
      c.done(0)
      yield* pass(3_999)
      assert.deepStrictEqual(c.times(), [])
      yield* pass(1)
      assert.deepStrictEqual(c.times(), [13_000])
      assert.deepStrictEqual(c.session.commits, ["0=2"])
      // nothing new: nothing is sent
      yield* pass(60_000)
      assert.deepStrictEqual(c.times(), [13_000])
    })
  )

  it.effect("a position that moved without a record (0) arms the interval too", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1, batchInterval: 10_000 })
      c.source.offsets.set(0, 7)
      c.committer.advancedUnsafe(0, 0)
      yield* pass(9_999)
      assert.deepStrictEqual(c.times(), [])
      yield* pass(1)
      assert.deepStrictEqual(c.session.commits, ["0=7"])
    })
  )

  it.effect("two commits follow each other by minCommitInterval at least, and the newest offsets win", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1, minCommitInterval: 50 })
      c.done(0)
      yield* turns
      for (let i = 0; i < 20; i++) {
        c.done(0)
        yield* pass(10)
      }
      yield* pass(50)
      assert.deepStrictEqual(c.times(), [0, 50, 100, 150, 200])
      assert.strictEqual(c.session.commits.at(-1), "0=21")
    })
  )

  it.effect("a flush does not wait for minCommitInterval", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1, minCommitInterval: 1_000 })
      c.done(0)
      yield* turns
      c.done(0)
      yield* pass(10)
      const flushed = yield* c.committer.flush()
      assert.deepStrictEqual(c.times(), [0, 10])
      assert.deepStrictEqual(
        flushed.map((o) => o.outcome),
        ["committed"]
      )
    })
  )

  it.effect("a flush of some partitions sends these and leaves the others to their triggers", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 100, batchInterval: 10_000 })
      c.done(0)
      c.done(1)
      yield* c.committer.flush([at(1, 1)])
      assert.deepStrictEqual(c.session.commits, ["1=1"])
      yield* pass(10_000)
      assert.deepStrictEqual(c.session.commits, ["1=1", "0=1"])
    })
  )

  it.effect("flushes that come together are one request; of some and of all is of all", () =>
    Effect.gen(function* () {
      const c = yield* committer()
      c.done(0)
      c.done(1)
      c.done(2)
      const both = yield* Effect.all([c.committer.flush([at(0, 1)]), c.committer.flush([at(1, 1)])], { concurrency: 2 })
      assert.deepStrictEqual(
        both.map((o) => o.length),
        [2, 2]
      )
      assert.deepStrictEqual(c.session.commits, ["0=1", "1=1"])
      c.done(0)
      yield* Effect.all([c.committer.flush([at(0, 1)]), c.committer.flush()], { concurrency: 2 })
      assert.deepStrictEqual(c.session.commits, ["0=1", "1=1", "0=2", "2=1"])
      assert.strictEqual(c.session.sent.length, 2)
    })
  )

  it.effect("one request in flight: a flush waits for it, and sends what is newest then", () =>
    Effect.gen(function* () {
      const { c, flush, late } = yield* waitingFlush
      yield* pass(5_000)
      assert.deepStrictEqual(c.session.commits, ["0=1"])
      c.done(0)
      yield* late.give()
      yield* Fiber.join(flush)
      assert.deepStrictEqual(c.session.commits, ["0=1", "0=3"])
    })
  )

  it.effect("nothing to commit: a flush answers at once with nothing", () =>
    Effect.gen(function* () {
      const c = yield* committer()
      assert.deepStrictEqual(yield* c.committer.flush(), [])
      assert.deepStrictEqual(c.times(), [])
    })
  )

  it.effect(
    "a retriable failure keeps its urgency: tried again after 100 ms doubling to 5 s with a fifth of jitter, in whole milliseconds",
    () =>
      Effect.gen(function* () {
        const c = yield* committer({ batchSize: 1 })
        c.session.answers.push(...Array.from({ length: 9 }, () => outcomes("retriable", "NOT_COORDINATOR")))
        c.done(0)
        for (let i = 0; i < 600; i++) yield* pass(50)
        const times = c.times()
        assert.strictEqual(times.length, 10)
        const expected = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]
        times.slice(1).forEach((time, i) => {
          const gap = time - times[i]!
          assert.isAtLeast(gap, expected[i]! * 0.8)
          assert.isAtMost(gap, expected[i]! * 1.2 + 50)
          assert.isTrue(Number.isInteger(time))
        })
        // and it was not told to the source as committed before
        assert.strictEqual(c.source.committed.get(0), 1)
        assert.deepStrictEqual(
          c.session.commits,
          Array.from({ length: 10 }, () => "0=1")
        )
      })
  )

  it.effect("each try sends the newest state, and a success ends the backoff", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1, minCommitInterval: 0 })
      c.session.answers.push(outcomes("retriable", "NOT_COORDINATOR"), outcomes("retriable", "NOT_COORDINATOR"))
      c.done(0)
      yield* turns
      c.done(0)
      yield* pass(125)
      c.done(0)
      yield* pass(250)
      assert.deepStrictEqual(c.session.commits, ["0=1", "0=2", "0=3"])
      c.done(0)
      yield* turns
      assert.strictEqual(c.session.commits.at(-1), "0=4")
    })
  )

  it.effect("one partition's failure does not discard another's progress", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 2 })
      c.session.answers.push((entries) => [
        outcomes("retriable", "NOT_COORDINATOR")(entries)[0 as never],
        ...(outcomes("committed")(entries.slice(1)) as ReadonlyArray<CommitOutcome>)
      ])
      c.done(0)
      c.done(1)
      yield* turns
      assert.strictEqual(c.source.committed.get(1), 1)
      assert.isUndefined(c.source.committed.get(0))
      yield* pass(125)
      assert.deepStrictEqual(c.session.commits, ["0=1", "1=1", "0=1"])
    })
  )

  it.effect("deferred: decided again after a heartbeat interval, or when a flush asks (after an assignment)", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1 })
      c.session.answers.push(outcomes("deferred", "STALE_MEMBER_EPOCH"))
      c.done(0)
      yield* pass(2_999)
      assert.deepStrictEqual(c.times(), [0])
      yield* pass(1)
      assert.deepStrictEqual(c.times(), [0, 3_000])
      c.session.answers.push(outcomes("deferred", "REBALANCE_IN_PROGRESS"))
      c.done(0)
      yield* pass(100)
      yield* c.committer.flush()
      assert.deepStrictEqual(c.session.commits, ["0=1", "0=1", "0=2", "0=2"])
    })
  )

  it.effect(
    "one that is deferred holds up no other: what moves elsewhere is committed when it is due, and takes it along",
    () =>
      Effect.gen(function* () {
        const c = yield* committer({ batchSize: 1 })
        const zeroDeferred = (entries: ReadonlyArray<CommitEntry>): ReadonlyArray<CommitOutcome> =>
          entries.map(({ epoch, partition, topic }) =>
            partition === 0
              ? { topic, partition, epoch, outcome: "deferred", code: "REBALANCE_IN_PROGRESS" }
              : { topic, partition, epoch, outcome: "committed" }
          )
        c.session.answers.push(zeroDeferred, zeroDeferred, zeroDeferred)
        c.done(0)
        yield* turns
        c.done(1)
        yield* pass(1_000)
        assert.strictEqual(c.source.committed.get(1), 1)
        c.done(1)
        yield* pass(1_000)
        assert.deepStrictEqual(c.session.commits, ["0=1", "0=1", "1=1", "0=1", "1=2"])
        assert.deepStrictEqual(c.times(), [0, 500, 1_000])
        // with nothing else it is decided again a heartbeat interval after the last time
        yield* pass(1_999)
        assert.strictEqual(c.times().length, 3)
        yield* pass(1)
        assert.deepStrictEqual(c.times(), [0, 500, 1_000, 4_000])
        assert.strictEqual(c.source.committed.get(0), 1)
        yield* pass(60_000)
        assert.strictEqual(c.times().length, 4)
      })
  )

  it.effect("while the group rebalances, what moves is asked for twice a second and no more", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1 })
      for (let i = 0; i < 5; i++) c.session.answers.push(outcomes("deferred", "REBALANCE_IN_PROGRESS"))
      for (let i = 0; i < 19; i++) {
        c.done(i % 2)
        yield* pass(100)
      }
      assert.deepStrictEqual(c.times(), [0, 500, 1_000, 1_500])
      // a flush after the next assignment does not wait
      yield* c.committer.flush()
      assert.strictEqual(c.times().length, 5)
    })
  )

  it.effect("one that is deferred does not shorten the backoff of another that is tried again", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1 })
      c.session.answers.push(outcomes("retriable", "NOT_COORDINATOR"), outcomes("deferred", "REBALANCE_IN_PROGRESS"))
      c.done(0)
      yield* turns
      yield* c.committer.flush([at(0, 1)])
      c.done(1)
      yield* pass(79)
      assert.deepStrictEqual(c.times(), [0, 0])
      yield* pass(46)
      assert.deepStrictEqual(c.session.commits, ["0=1", "0=1", "0=1", "1=1"])
    })
  )

  it.effect("what is stale or rejected is not tried again by itself", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1 })
      for (const answer of [
        outcomes("stale", "EPOCH"),
        outcomes("stale", "UNKNOWN_MEMBER_ID"),
        outcomes("rejected", "NOT_AUTHORIZED"),
        outcomes("rejected", "UNKNOWN_TOPIC_OR_PARTITION")
      ]) {
        c.session.answers.push(answer)
        c.done(0)
        yield* pass(100)
        const sent = c.times().length
        yield* pass(60_000)
        assert.strictEqual(c.times().length, sent)
      }
    })
  )

  it.effect("requests are cut to 256 KiB", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1_000_000 })
      c.source.metadata = "m".repeat(4_000)
      for (let p = 0; p < 300; p++) c.done(p)
      const answer = yield* c.committer.flush()
      assert.strictEqual(answer.length, 300)
      assert.isAbove(c.session.sent.length, 4)
      for (const { entries } of c.session.sent) assert.isAtMost(entries.length * 4_018, 256 * 1024)
      assert.strictEqual(new Set(c.session.commits).size, 300)
    })
  )

  it.effect("a request that is refused whole is halved until it fits: 300 entries", () =>
    Effect.gen(function* () {
      for (const refusal of [
        outcomes("rejected", "REQUEST_TOO_LARGE"),
        outcomes("retriable", "UNKNOWN_SERVER_ERROR")
      ]) {
        const c = yield* committer({ batchSize: 1_000_000 })
        // what counts for UNKNOWN_SERVER_ERROR is 64 KiB
        c.source.metadata = "m".repeat(700)
        c.session.answers.push(
          ...Array.from(
            { length: 100 },
            () => (entries: ReadonlyArray<CommitEntry>) =>
              (entries.length > 80 ? refusal : outcomes("committed"))(entries)
          )
        )
        for (let p = 0; p < 300; p++) c.done(p)
        const answer = yield* c.committer.flush()
        assert.strictEqual(answer.length, 300)
        assert.isTrue(answer.every((o) => o.outcome === "committed"))
        assert.deepStrictEqual(
          c.session.sent.map((s) => s.entries.length),
          [300, 150, 75, 75, 150, 75, 75]
        )
        assert.strictEqual(c.source.committed.size, 300)
      }
    })
  )

  it.effect("a single entry that is too large stays with itself; the others are stored", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1_000_000 })
      const answer = (entries: ReadonlyArray<CommitEntry>) =>
        (entries.some((e) => e.partition === 2) ? outcomes("rejected", "REQUEST_TOO_LARGE") : outcomes("committed"))(
          entries
        )
      c.session.answers.push(...Array.from({ length: 100 }, () => answer))
      for (let p = 0; p < 5; p++) c.done(p)
      yield* c.committer.flush()
      assert.deepStrictEqual(
        [...c.source.committed.keys()].sort((a, b) => a - b),
        [0, 1, 3, 4]
      )
      // that one is tried again with backoff, not for ever at full speed
      const sent = c.session.sent.length
      yield* pass(60_000)
      assert.isAtLeast(c.session.sent.length - sent, 10)
      assert.isAtMost(c.session.sent.length - sent, 25)
    })
  )

  it.effect("UNKNOWN_SERVER_ERROR on a small request is not about its size", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 10 })
      c.session.answers.push(outcomes("retriable", "UNKNOWN_SERVER_ERROR"))
      for (let p = 0; p < 10; p++) c.done(p)
      yield* pass(125)
      assert.deepStrictEqual(
        c.session.sent.map((s) => s.entries.length),
        [10, 10]
      )
    })
  )

  it.effect(
    "D33: an unanswered commit: after the next success the same is sent once more when the request can no longer be alive",
    () =>
      Effect.gen(function* () {
        const c = yield* committer({ batchSize: 1 })
        c.session.answers.push(outcomes("retriable", "NO_ANSWER"))
        c.done(0)
        yield* pass(125)
        assert.deepStrictEqual(c.session.commits, ["0=1", "0=1"])
        const [, second] = c.times()
        yield* pass(60_000)
        assert.strictEqual(c.session.sent.length, 3)
        assert.strictEqual(c.session.commits[2], "0=1")
        assert.isAtLeast(c.times()[2]!, second! + 30_000)
      })
  )

  it.effect("D33: the repeat meets new progress of the same partition: it is sent once, with the newest offset", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 1_000, batchInterval: 60_000 })
      c.session.answers.push(outcomes("retriable", "NO_ANSWER"))
      c.done(0)
      yield* c.committer.flush()
      yield* pass(125)
      assert.deepStrictEqual(c.session.commits, ["0=1", "0=1"])
      const [, second] = c.times()
      // not due by itself when the repeat is
      c.done(0, 999)
      yield* pass(second! + 30_000 - 125 - 1)
      assert.strictEqual(c.session.sent.length, 2)
      yield* pass(1)
      assert.deepStrictEqual(c.session.commits, ["0=1", "0=1", "0=1000"])
    })
  )

  it.effect("D33: a repeat of several partitions is one request", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 3 })
      c.session.answers.push(outcomes("retriable", "NO_ANSWER"))
      for (let p = 0; p < 3; p++) c.done(p)
      yield* pass(125)
      yield* pass(31_000)
      assert.deepStrictEqual(
        c.session.sent.map((s) => s.entries.length),
        [3, 3, 3]
      )
    })
  )

  it.effect("a committer that dies tells everybody who waits on it, and who comes later", () =>
    Effect.gen(function* () {
      const c = yield* committer()
      const late = later()
      c.session.answers.push(late.answer, () => {
        throw new Error("the driver broke its word")
      })
      c.done(0)
      const first = yield* Effect.forkChild(Effect.exit(c.committer.flush()))
      yield* turns
      const second = yield* Effect.forkChild(Effect.exit(c.committer.flush()))
      const died = yield* Effect.forkChild(Effect.exit(c.committer.died))
      yield* turns
      c.done(0)
      yield* late.give()
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(first)))
      for (const exit of [
        yield* Fiber.join(second),
        yield* Fiber.join(died),
        yield* Effect.exit(c.committer.flush())
      ]) {
        assert.isTrue(Exit.isFailure(exit))
        const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause) as { _tag: string; message: string }
        assert.strictEqual(error._tag, "CommitterDied")
        assert.include(error.message, "delivered again")
      }
    })
  )

  it.effect("closing tells who still waits, but died does not end", () =>
    Effect.gen(function* () {
      const c = yield* committer()
      c.session.answers.push(later().answer)
      c.done(0)
      const flush = yield* Effect.forkChild(Effect.exit(c.committer.flush()))
      const died = yield* Effect.forkChild(c.committer.died)
      yield* turns
      yield* c.close
      assert.isTrue(Exit.isFailure(yield* Fiber.join(flush)))
      yield* pass(60_000)
      assert.isUndefined(died.pollUnsafe())
      assert.isTrue(Exit.isFailure(yield* Effect.exit(c.committer.flush())))
    })
  )

  it.effect("detached: nothing is taken, a flush answers with nothing, and what was counted is forgotten", () =>
    Effect.gen(function* () {
      const c = yield* committer({ batchSize: 10 })
      c.done(0, 9)
      yield* turns
      yield* c.detach
      const { takes } = c.source
      c.committer.advancedUnsafe(5, 0)
      yield* pass(60_000)
      assert.deepStrictEqual(yield* c.committer.flush(), [])
      assert.strictEqual(c.source.takes, takes)
      assert.deepStrictEqual(c.session.commits, [])
    })
  )

  it.effect("detached while a flush waits behind a request in flight: the flush is answered, not forgotten", () =>
    Effect.gen(function* () {
      const { c, flush, late } = yield* waitingFlush
      yield* turns
      yield* c.detach
      yield* turns
      yield* late.give()
      assert.isDefined(flush.pollUnsafe())
      assert.deepStrictEqual(yield* Fiber.join(flush), [])
    })
  )
})

describe("commit economy", () => {
  it.effect("1,000 records that arrive singly every 5 ms, handlers of 5 ms, defaults: 50 to 110 commits", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ handler: Handler.make("t", () => Effect.sleep(5)) })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      for (let i = 0; i < 1_000; i++) {
        yield* s.session.chunk(0, 1, i, i + 1)
        yield* pass(5)
      }
      yield* pass(20_000)
      assert.strictEqual(s.session.commits.at(-1), "0=1000")
      assert.isAtLeast(s.session.sent.length, 50)
      assert.isAtMost(s.session.sent.length, 110)
      assert.strictEqual(s.session.sent.length, (yield* s.consumer.snapshot).commits.ok)
    })
  )

  it.effect(
    "12 partitions of 10,000 records, one of which never ends: at most 20 commits a second, and all others are done",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 12 })
        w.expect("passedOver")
        for (let partition = 0; partition < 12; partition++) {
          yield* w.kafka.produceMany({ topic: "t", partition }, 10_000, () => ({ key: null, value: null }))
        }
        let handled = 0
        const a = yield* w.member("a", {
          concurrency: 100,
          desk: new Desk(),
          handler: Handler.make("t", (record) =>
            record.partition === 5 && record.offset === 0n
              ? Effect.never
              : Effect.andThen(
                  Effect.sleep(50),
                  Effect.sync(() => void handled++)
                )
          )
        })
        let seconds = 0
        const counts: Array<number> = []
        while (handled < 119_999 && seconds < 200) {
          const before = w.kafka.commitsUnsafe().length
          yield* pass(1_000)
          counts.push(w.kafka.commitsUnsafe().length - before)
          seconds++
        }
        assert.strictEqual(handled, 119_999)
        // 99 permits and 50 ms: about a minute
        assert.isAtMost(seconds, 65)
        assert.isAtMost(Math.max(...counts), 20)
        yield* pass(10_000)
        for (let partition = 0; partition < 12; partition++) {
          assert.strictEqual(w.committed(partition), partition === 5 ? 0 : 10_000, `partition ${partition}`)
        }
        const snapshot = yield* a.consumer.snapshot
        assert.strictEqual(snapshot.held.records, 1)
        assert.strictEqual(snapshot.permits.used, 1)
      }),
    60_000
  )
})

/**
 * Contract: how a session is a member of its group. Names say the promise; the numbers of partitions are such that both
 * members of a group must get some.
 */
import type { Revoking } from "@concurrent-kafka/core/ConsumerSession"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { assertInOrder, keyOf, range, type Suite } from "./kit.ts"

export const membership = <R>(suite: Suite<R>): void => {
  const { awaitedRevoke, consume, fill, fresh, harness, incremental, it, needs, open, patience, protocol, quiet } =
    suite
  const { read, settings, topic: newTopic, until } = suite
  const timeout = patience * 2
  /** Where a test decides itself when something ends, no time of a member may end it before, however slow the machine is. */
  const unhurried = { sessionTimeout: timeout, revokeTimeout: timeout, rebalanceTimeout: timeout * 2 }

  it.effect(
    "says what it can do",
    () =>
      Effect.gen(function* () {
        const session = yield* open({ groupId: yield* fresh("group"), topics: [yield* fresh("topic")] })
        assert.strictEqual(session.capabilities.incremental, incremental)
        assert.strictEqual(session.capabilities.awaitedRevoke, awaitedRevoke)
        assert.include(session.capabilities.groupProtocols, protocol === "incremental" ? "consumer" : "classic")
        if (protocol === "cooperative") assert.include(session.capabilities.assignors, "cooperative-sticky")
        assert.isTrue(session.capabilities.requestTimeout > 0)
        assert.isTrue(session.enabled)
        assert.strictEqual(session.generationUnsafe(), -1)
      }),
    timeout
  )

  it.effect(
    "a revoke is awaited: commits are taken in the hold, and the partition's next owner starts behind them",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 20)
        const group = { groupId: yield* fresh("group"), topics: [topic], ...unhurried }
        const held: Array<Revoking> = []
        const a = yield* consume(group, { onRevoking: (revoking) => void held.push(revoking) })
        yield* until("a has all", () => a.records().length === 40)
        const b = yield* consume(group)
        yield* until("a is asked", () => held.length === 1)
        const [revoking] = held
        assert.strictEqual(revoking!.exact, incremental)
        assert.strictEqual(revoking!.partitions.length, revoking!.exact ? 1 : 2)
        assert.strictEqual(revoking!.hold, unhurried.revokeTimeout)
        yield* quiet
        assert.strictEqual(b.held.size, 0, "nobody gets what is still held")
        const outcomes = yield* a.session.commit(
          revoking!.partitions.map((partition) => ({ ...partition, offset: 11n, metadata: "in the hold" }))
        )
        for (const one of outcomes) assert.strictEqual(one.outcome, "committed")
        revoking!.acknowledgeUnsafe()
        revoking!.acknowledgeUnsafe()
        yield* until("b has its share", () => b.held.size === 1)
        const [moved] = [...b.held.values()]
        assert.deepStrictEqual(moved!.committed, { offset: 11n, metadata: "in the hold" })
        yield* until("b has the rest", () => b.records().length === 9)
        assert.strictEqual(b.records()[0]!.offset, 11n)
        yield* fill(topic, 0, 20, 25)
        yield* fill(topic, 1, 20, 25)
        yield* until("each goes on with its own", () => a.records().length === 45 && b.records().length === 14)
        for (const one of outcomes.filter((outcome) => keyOf(outcome) === keyOf(moved!))) {
          const [late] = yield* a.session.commit([{ ...one, offset: 20n, metadata: "late" }])
          assert.deepStrictEqual([late!.outcome, "code" in late! ? late.code : ""], ["stale", "EPOCH"])
        }
        assert.deepStrictEqual(yield* harness.committed(group.groupId, topic, moved!.partition), {
          offset: 11n,
          metadata: "in the hold"
        })
        assertInOrder(a)
        assertInOrder(b)
      }),
    needs("awaitedRevoke")
  )

  it.effect(
    "what is retained keeps its epoch and its position: nothing of it comes twice",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(4, 10)
        const group = { groupId: yield* fresh("group"), topics: [topic] }
        const a = yield* consume(group)
        yield* until("a has all", () => a.records().length === 40)
        const epochs = new Map([...a.held].map(([key, partition]) => [key, partition.epoch]))
        const b = yield* consume(group)
        yield* until("both have their share", () => a.held.size === 2 && b.held.size === 2)
        for (const partition of a.held.values()) {
          // Without an eager rebalance there may have been no assignment to say it.
          if (!incremental) assert.isTrue(partition.retained)
          assert.strictEqual(partition.epoch, epochs.get(keyOf(partition)))
        }
        for (const partition of range(0, 4)) yield* fill(topic, partition, 10, 15)
        const kept = [...a.held.values()]
        yield* until("a has what is new", () =>
          kept.every(({ partition }) => a.chunks(topic, partition).at(-1)?.nextOffset === 15n)
        )
        for (const { partition } of kept) {
          const offsets = a.chunks(topic, partition).flatMap((chunk) => chunk.records.map((one) => Number(one.offset)))
          assert.deepStrictEqual(offsets, range(0, 15))
        }
      }),
    timeout
  )

  it.effect(
    "a revoke that nobody answers ends after the hold, and the membership goes on",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 5)
        const group = { groupId: yield* fresh("group"), topics: [topic] }
        const clock = yield* Clock.Clock
        let since = 0
        const a = yield* consume(group, { onRevoking: () => void (since ||= clock.currentTimeMillisUnsafe()) })
        yield* until("a has all", () => a.records().length === 10)
        const b = yield* consume(group)
        yield* until("a is asked", () => a.of("Revoking").length === 1)
        yield* until("both have their share", () => a.held.size === 1 && b.held.size === 1)
        const waited = clock.currentTimeMillisUnsafe() - since
        // The hold began when the group asked, and a busy event loop may have shown that late. What is left is longer than the session timeout:
        // it takes heartbeats to live through it.
        assert.isTrue(waited >= settings.sessionTimeout, `${waited} ms`)
        assert.strictEqual(a.of("Lost").length, 0)
        assert.isTrue([...a.held.values()].every((partition) => partition.retained))
      }),
    needs("awaitedRevoke")
  )

  it.effect(
    "exact revocations: the other partitions keep flowing while one is held",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 5)
        const group = { groupId: yield* fresh("group"), topics: [topic], ...unhurried }
        const held: Array<Revoking> = []
        const a = yield* consume(group, { onRevoking: (revoking) => void held.push(revoking) })
        yield* until("a has all", () => a.records().length === 10)
        const b = yield* consume(group)
        yield* until("a is asked", () => held.length === 1)
        const [gone] = held[0]!.partitions
        const stays = 1 - gone!.partition
        yield* fill(topic, stays, 5, 8)
        yield* until("the other one flows", () => a.chunks(topic, stays).at(-1)?.nextOffset === 8n)
        const [outcome] = yield* a.session.commit([{ ...a.partition(topic, stays), offset: 8n, metadata: "" }])
        assert.strictEqual(outcome!.outcome, "committed")
        held[0]!.acknowledgeUnsafe()
        yield* until("b has it", () => b.held.size === 1)
        assert.strictEqual([...b.held.values()][0]!.partition, gone!.partition)
      }),
    needs("incremental", "awaitedRevoke")
  )

  it.effect(
    "leave gives everything to the others without a signal, and join gives new epochs",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 5)
        // By its session timeout it would be out too late for `until`.
        const group = { groupId: yield* fresh("group"), topics: [topic], ...unhurried }
        const a = yield* consume(group)
        assert.isTrue(a.session.generationUnsafe() >= -1)
        yield* until("a has all", () => a.records().length === 10)
        assert.isTrue(a.session.generationUnsafe() >= 0)
        const before = [...a.held.values()]
        yield* a.session.leave
        yield* a.session.leave
        assert.strictEqual(a.session.generationUnsafe(), -1)
        const signals = a.signals.length
        const late = yield* a.session.commit(before.map((partition) => ({ ...partition, offset: 5n, metadata: "" })))
        for (const one of late) assert.strictEqual(one.outcome, "stale")
        yield* Effect.scoped(
          Effect.gen(function* () {
            const b = yield* consume(group)
            yield* until("b has everything", () => b.held.size === 2)
            assert.strictEqual(a.signals.length, signals)
          })
        )
        yield* a.session.join
        yield* until("a has everything again", () => a.of("Assigned").length >= 2 && a.held.size === 2)
        for (const partition of before) {
          const now = a.partition(topic, partition.partition)
          assert.notStrictEqual(now.epoch, partition.epoch)
          assert.isFalse(now.retained)
        }
        yield* until("they come again", () => a.records().length === 20)
      }),
    timeout
  )

  it.effect(
    "closing the scope leaves the group and ends the inbox",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 5)
        const group = { groupId: yield* fresh("group"), topics: [topic], ...unhurried }
        const scope = yield* Scope.make()
        const session = yield* Scope.provide(open(group), scope)
        const a = yield* read(session)
        yield* session.join
        yield* until("a has all", () => a.records().length === 5)
        yield* Scope.close(scope, Exit.void)
        yield* until("the inbox has ended", () => a.ended !== undefined)
        assert.isTrue(
          Exit.isFailure(a.ended!) && a.ended.cause.reasons.some((r) => r._tag === "Fail" && Cause.isDone(r.error))
        )
        const b = yield* consume(group)
        yield* until("b has it", () => b.held.size === 1)
      }),
    timeout
  )

  it.effect(
    "a member beyond the number of partitions is told that it has none",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 0)
        const group = { groupId: yield* fresh("group"), topics: [topic] }
        const a = yield* consume(group)
        yield* until("a has it", () => a.held.size === 1)
        const b = yield* consume(group)
        yield* until("b is a member", () => b.of("Assigned").length > 0)
        assert.strictEqual(a.held.size + b.held.size, 1)
      }),
    timeout
  )

  it.effect(
    "who is thrown out has lost everything, and comes back with new epochs",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 5)
        const group = { groupId: yield* fresh("group"), topics: [topic] }
        const a = yield* consume(group)
        yield* until("a has all", () => a.records().length === 10)
        const before = [...a.held.values()]
        yield* harness.evict!(a.session)
        yield* until("a knows", () => a.of("Lost").length === 1)
        assert.deepStrictEqual(a.of("Lost")[0]!.partitions.map(keyOf).sort(), before.map(keyOf).sort())
        yield* until("a is back", () => a.held.size === 2)
        for (const partition of before) {
          const now = a.partition(topic, partition.partition)
          assert.isFalse(now.retained)
          assert.notStrictEqual(now.epoch, partition.epoch)
        }
        const late = yield* a.session.commit(before.map((partition) => ({ ...partition, offset: 5n, metadata: "" })))
        for (const one of late) assert.deepStrictEqual([one.outcome, "code" in one ? one.code : ""], ["stale", "EPOCH"])
        assert.isUndefined(yield* harness.committed(group.groupId, topic, 0))
      }),
    needs("evict")
  )

  it.effect(
    "who is thrown out in a hold is told at once that everything is lost, and the hold ends without an answer",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 5)
        // The hold is longer than `until` waits: nothing here can be due to its end.
        const group = { groupId: yield* fresh("group"), topics: [topic], ...unhurried }
        const held: Array<Revoking> = []
        const a = yield* consume(group, { onRevoking: (revoking) => void held.push(revoking) })
        yield* until("a has all", () => a.records().length === 10)
        const b = yield* consume(group)
        yield* until("a is asked", () => held.length === 1)
        a.onRevoking = (revoking) => revoking.acknowledgeUnsafe()
        yield* harness.evict!(a.session)
        yield* until("a has lost it", () => a.of("Lost").length === 1)
        const lost = a.of("Lost")[0]!.partitions
        assert.strictEqual(lost.length, 2)
        yield* until("a is back", () => a.held.size === 1 && b.held.size === 1)
        for (const partition of a.held.values()) assert.isFalse(partition.retained)
        const late = yield* a.session.commit(lost.map((partition) => ({ ...partition, offset: 5n, metadata: "" })))
        for (const one of late) assert.deepStrictEqual([one.outcome, "code" in one ? one.code : ""], ["stale", "EPOCH"])
      }),
    needs("awaitedRevoke", "evict")
  )

  it.effect(
    "a missed generation retains nothing, and between JoinGroup and Assigned commits are deferred",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(12, 10)
        const group = { groupId: yield* fresh("group"), topics: [topic], ...unhurried }
        // The first member leads; it is another one that is held, or nobody would be assigned anything.
        const leader = yield* consume(group)
        yield* until("it has all", () => leader.held.size === 12)
        const a = yield* consume(group)
        yield* until("both have their share", () => a.held.size === 6 && leader.held.size === 6)
        const before = [...a.held.values()]
        const [asked, assigned] = [a.of("Revoking").length, a.of("Assigned").length]
        const release = yield* harness.holdSync!(a.session)
        const scope = yield* Scope.make()
        const session = yield* Scope.provide(open(group), scope)
        const b = yield* read(session)
        yield* session.join
        yield* until("a is asked", () => a.of("Revoking").length > asked)
        yield* until("the others go on without a", () => b.held.size === 4 && leader.held.size === 4)
        const deferred = yield* a.session.commit(
          before.map((partition) => ({ ...partition, offset: 1n, metadata: "" }))
        )
        for (const one of deferred) assert.strictEqual(one.outcome, "deferred")
        const taken = [...b.held.values()].filter((partition) => before.some((own) => keyOf(own) === keyOf(partition)))
        yield* session.commit(taken.map((partition) => ({ ...partition, offset: 8n, metadata: "by b" })))
        const rebalances = leader.of("Revoking").length
        yield* Scope.close(scope, Exit.void)
        // From here on the generation that a has not seen is over, whenever its SyncGroup comes.
        yield* until("the group rebalances again", () => leader.of("Revoking").length > rebalances)
        yield* release
        yield* until("a has its share again", () => a.of("Assigned").length > assigned && a.held.size === 6)
        for (const partition of a.held.values()) {
          assert.isFalse(partition.retained, keyOf(partition))
          const own = before.find((one) => keyOf(one) === keyOf(partition))
          assert.notStrictEqual(partition.epoch, own?.epoch)
        }
        for (const partition of taken.filter((one) => a.held.has(keyOf(one)))) {
          assert.deepStrictEqual(a.partition(topic, partition.partition).committed, { offset: 8n, metadata: "by b" })
        }
      }),
    needs("eager", "holdSync")
  )

  it.effect(
    "a broken connection heals by itself, and nothing comes twice",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 5)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("all have come", () => reader.records().length === 5)
        for (const i of range(1, 4)) {
          yield* harness.breakConnections!(reader.session)
          yield* fill(topic, 0, i * 5, i * 5 + 5)
          yield* until("all have come", () => reader.records().length === i * 5 + 5)
        }
        const { epoch } = reader.partition(topic, 0)
        assert.isTrue(reader.of("Chunk").every((chunk) => chunk.epoch === epoch))
        assert.isUndefined(reader.ended)
      }),
    needs("breakConnections")
  )
}

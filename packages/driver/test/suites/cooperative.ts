/** Suite: cooperative rebalances under the classic protocol (KIP-429). */
import { ConcurrentConsumer, FailurePolicy, Handler } from "@concurrent-kafka/core"
import type { Revoking, SessionSettings } from "@concurrent-kafka/core/ConsumerSession"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { inject } from "vitest"
import { type Client, evict, instrumented, skipping, suiteOf } from "../client.ts"
import { controlOf, holdSync } from "../instrumented.ts"
import { assertOnceEach, heldBy, join, type Member, numbers, settingsOf, unique, until } from "../members.ts"
import { world } from "../operator.ts"

const settingsFor = (groupId: string, topics: ReadonlyArray<string>, rest: Partial<SessionSettings> = {}) =>
  settingsOf(groupId, topics, { assignor: "cooperative-sticky", ...rest })

const epochsOf = (member: Member) => new Map(member.owned.map(({ epoch, partition }) => [partition, epoch]))

const recordsOf = (member: Member, partition: number) => member.records.filter((one) => one.partition === partition)

/** Commits, where a round may still be under way. */
const committing = (member: Member, partition: number, offset: bigint, metadata = ""): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (;;) {
      const result = yield* member.commit(partition, offset, metadata)
      if (result.outcome === "committed") return
      assert.strictEqual(result.outcome, "deferred")
      yield* Effect.sleep(50)
    }
  })

export const cooperative = (client: Client): void => {
  const brokers = inject("brokers")

  suiteOf(client, "cooperative", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })("on a real broker", (it) => {
      it.effect("says that its revocations are exact", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const a = yield* join(settingsFor(unique("group"), [yield* kafka.topic(1)]))
          assert.isTrue(a.session.capabilities.incremental)
          assert.include(a.session.capabilities.assignors, "cooperative-sticky")
        })
      )

      it.effect(
        "only what moves is revoked, exactly, and nothing comes twice: what stays is read and committed all the time",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(4)
            const groupId = unique("group")
            let sent = 0
            const send = Effect.gen(function* () {
              for (const partition of [0, 1, 2, 3]) yield* kafka.send(topic, partition, numbers(sent, sent + 10))
              sent += 10
            })
            const held: Array<Revoking> = []
            const a = yield* join(settingsFor(groupId, [topic]), { onRevoking: (signal) => void held.push(signal) })
            yield* send
            yield* until("a has all", () => a.records.length === 40)
            const epochs = epochsOf(a)

            const release = yield* holdSync(a.session)
            const syncs = () => controlOf(a.session).requests.filter((name) => name === "syncGroup").length
            const before = syncs()
            const scope = yield* Scope.make()
            const b = yield* Scope.provide(join(settingsFor(groupId, [topic])), scope)
            // not the last request for long: it goes on fetching
            yield* until("a joins again", () => syncs() > before)
            yield* send
            yield* until("all flow while the group rebalances", () => a.records.length === 80)
            assert.strictEqual(a.of("Revoking").length, 0)
            assert.deepInclude(yield* a.commit(0, 20n), { outcome: "deferred", code: "REBALANCE_IN_PROGRESS" })
            yield* release

            yield* until("a is asked", () => held.length === 1)
            assert.isTrue(held[0]!.exact)
            const going = held[0]!.partitions.map(({ partition }) => partition)
            assert.strictEqual(going.length, 2)
            const [stays, other] = [0, 1, 2, 3].filter((partition) => !going.includes(partition))
            yield* until("b is a member", () => b.of("Assigned").length > 0)
            yield* send
            yield* until("what stays flows on", () =>
              [stays!, other!].every((partition) => recordsOf(a, partition).length === 30)
            )
            assert.deepInclude(yield* a.commit(stays!, 30n), { outcome: "committed" })
            for (const partition of going) {
              const at = BigInt(recordsOf(a, partition).length)
              assert.deepInclude(yield* a.commit(partition, at, "in the hold"), { outcome: "committed" })
            }
            yield* Effect.sleep(500)
            assert.deepStrictEqual(heldBy(b), [], "nobody gets what is still held")
            const at = new Map(going.map((partition) => [partition, recordsOf(a, partition).length]))
            held[0]!.acknowledgeUnsafe()

            yield* until("b has what a gave up", () => heldBy(b).length === 2)
            assert.deepStrictEqual(
              heldBy(b),
              going.toSorted((x, y) => x - y)
            )
            yield* send
            yield* until("both have the rest", () => a.records.length + b.records.length === 160)
            for (const partition of going) {
              assert.strictEqual(Number(recordsOf(b, partition)[0]!.offset), at.get(partition))
            }
            yield* until("a has heard that the second round is over", () => heldBy(a).length === 2)
            for (const { epoch, partition, retained } of a.owned) {
              assert.isTrue(retained)
              assert.strictEqual(epoch, epochs.get(partition))
            }
            for (const partition of going) assert.deepInclude(yield* b.commit(partition, 40n), { outcome: "committed" })

            yield* Scope.close(scope, Exit.void)
            yield* until("a has all again", () => heldBy(a).length === 4)
            yield* send
            yield* until("the rest", () => a.records.length + b.records.length === 200)
            assert.strictEqual(held.length, 1)
            assert.strictEqual(a.of("Lost").length + b.of("Lost").length + b.of("Revoking").length, 0)
            for (const partition of [stays!, other!]) {
              assert.strictEqual(a.owned.find((one) => one.partition === partition)?.epoch, epochs.get(partition))
            }
            for (const partition of going) {
              assert.isAbove(a.owned.find((one) => one.partition === partition)!.epoch, epochs.get(partition)!)
            }
            const seen = [...a.records, ...b.records].map(({ offset, partition }) => `${partition}/${offset}`)
            assert.strictEqual(new Set(seen).size, 200)
            assertOnceEach(b, b.records.length)
          })
      )

      it.effect("what comes is read before what goes is given up", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const [topic, other] = [yield* kafka.topic(4), yield* kafka.topic(2)]
          const groupId = unique("group")
          for (const partition of [0, 1]) yield* kafka.send(other, partition, numbers(0, 5))
          const scope = yield* Scope.make()
          const b = yield* Scope.provide(join(settingsFor(groupId, [other])), scope)
          yield* until("b has its topic", () => heldBy(b).length === 2)
          const held: Array<Revoking> = []
          // it hears late of rebalances: in one generation b has gone, and c has come
          const a = yield* join(settingsFor(groupId, [topic, other], { heartbeatInterval: 2000 }), {
            onRevoking: (signal) => void held.push(signal)
          })
          yield* until("a has the rest", () => a.owned.filter((one) => one.topic === topic).length === 4)
          yield* Scope.close(scope, Exit.void)
          const c = yield* join(settingsFor(groupId, [topic]))
          yield* until("a is asked", () => held.length > 0)
          assert.isTrue(held.every(({ exact, partitions }) => exact && partitions.every((p) => p.topic === topic)))
          yield* until("a reads the other topic", () => a.records.filter((one) => one.topic === other).length === 10)
          assert.deepStrictEqual(heldBy(c), [])
          for (const one of held) one.acknowledgeUnsafe()
          yield* until("c has its share", () => heldBy(c).length === 3)
        })
      )

      it.effect("a missed generation retains nothing, and nobody else has had anything of it", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(12)
          const groupId = unique("group")
          const leader = yield* join(settingsFor(groupId, [topic]))
          yield* until("it has all", () => heldBy(leader).length === 12)
          const a = yield* join(settingsFor(groupId, [topic]))
          yield* until("both have six", () => heldBy(a).length === 6 && heldBy(leader).length === 6)
          const before = epochsOf(a)
          const [assigned, led] = [a.of("Assigned").length, leader.of("Assigned").length]
          const release = yield* holdSync(a.session)
          const b = yield* join(settingsFor(groupId, [topic]))
          // the leader gives up two at once, and joins again: the generation that a has joined is over before it has heard of it
          yield* until("the leader has given up two", () => heldBy(leader).length === 4)
          yield* until("b has heard that it joins again", () => controlOf(b.session).requests.at(-1) === "joinGroup")
          yield* release
          yield* until("all have four", () => [a, b, leader].every((member) => heldBy(member).length === 4))
          const [next] = a.of("Assigned").slice(assigned)
          assert.isTrue(next!.all.every(({ retained }) => !retained))
          for (const { epoch, partition } of a.owned) assert.isAbove(epoch, before.get(partition) ?? 0)
          // the leader has got nothing of it, and b what a has joined without
          const foreign = leader
            .of("Assigned")
            .slice(led)
            .flatMap(({ all }) => all.filter((one) => before.has(one.partition)))
          assert.deepStrictEqual(foreign, [])
          assert.isTrue(heldBy(a).every((partition) => before.has(partition)))
          const all = [a, b, leader].flatMap(heldBy).toSorted((x, y) => x - y)
          assert.deepStrictEqual(
            all,
            Array.from({ length: 12 }, (_, i) => i)
          )
        })
      )

      it.effect("who is thrown out while it gives something up has lost everything, and comes back", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(4)
          const groupId = unique("group")
          const held: Array<Revoking> = []
          const a = yield* join(settingsFor(groupId, [topic]), {
            onRevoking: (signal) => (held.length === 0 ? void held.push(signal) : signal.acknowledgeUnsafe())
          })
          yield* until("a has all", () => heldBy(a).length === 4)
          const before = epochsOf(a)
          const b = yield* join(settingsFor(groupId, [topic]))
          yield* until("a is asked", () => held.length === 1)
          yield* evict(client, brokers, a.session)
          yield* until("a has lost all", () => a.of("Lost").length === 1)
          assert.strictEqual(a.of("Lost")[0]!.partitions.length, 4)
          yield* until("both have two", () => heldBy(a).length === 2 && heldBy(b).length === 2)
          for (const { epoch, partition } of a.owned) assert.isAbove(epoch, before.get(partition)!)
        })
      )

      it.effect("partitions that are added are given out, and none is revoked for it", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const groupId = unique("group")
          const a = yield* join(settingsFor(groupId, [topic]))
          yield* until("a has all", () => heldBy(a).length === 2)
          const b = yield* join(settingsFor(groupId, [topic]))
          yield* until("both have one", () => heldBy(a).length === 1 && heldBy(b).length === 1)
          const revoked = a.of("Revoking").length
          const own = [epochsOf(a), epochsOf(b)]
          yield* kafka.promise(() => kafka.admin.createPartitions({ topicPartitions: [{ topic, count: 6 }] }))
          yield* until("both have three", () => heldBy(a).length === 3 && heldBy(b).length === 3)
          assert.strictEqual(a.of("Revoking").length, revoked)
          assert.strictEqual(b.of("Revoking").length, 0)
          ;[a, b].forEach((member, i) => {
            for (const [partition, epoch] of own[i]!) assert.strictEqual(epochsOf(member).get(partition), epoch)
          })
        })
      )

      it.effect("what a static member should have given up before it went is given out", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(4)
          const groupId = unique("group")
          const as = (instanceId: string) =>
            settingsFor(groupId, [topic], { instanceId, sessionTimeout: 30_000, revokeTimeout: 2000 })
          const scope = yield* Scope.make()
          const held: Array<Revoking> = []
          const a = yield* Scope.provide(join(as("pod-a"), { onRevoking: (signal) => void held.push(signal) }), scope)
          yield* until("a has all", () => heldBy(a).length === 4)
          const b = yield* join(as("pod-b"))
          yield* until("a is asked", () => held.length === 1)
          yield* Scope.close(scope, Exit.void)
          const again = yield* join(as("pod-a"))
          yield* until("both have two", () => heldBy(again).length === 2 && heldBy(b).length === 2)
          assert.deepStrictEqual(
            [...heldBy(again), ...heldBy(b)].toSorted((x, y) => x - y),
            [0, 1, 2, 3]
          )
        })
      )

      it.effect("a group changes from eager to cooperative members, and back, one by one", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(4)
          const groupId = unique("group")
          let committed = 0n
          let scope = yield* Scope.make()
          let there = yield* Scope.provide(join(settingsOf(groupId, [topic])), scope)
          yield* until("the first has all", () => heldBy(there).length === 4)
          for (const assignor of ["cooperative-sticky", "sticky", "cooperative-sticky"] as const) {
            committed++
            for (const partition of heldBy(there)) yield* committing(there, partition, committed, assignor)
            const nextScope = yield* Scope.make()
            const next = yield* Scope.provide(join(settingsOf(groupId, [topic], { assignor })), nextScope)
            yield* until("both have two", () => there.owned.length === 2 && heldBy(next).length === 2)
            const [stay, come] = [heldBy(there), heldBy(next)]
            assert.deepStrictEqual(
              [...stay, ...come].toSorted((x, y) => x - y),
              [0, 1, 2, 3]
            )
            for (const { committed: found, partition } of next.owned) {
              assert.deepStrictEqual(found, { offset: committed, metadata: assignor }, `partition ${partition}`)
            }
            committed++
            for (const partition of stay) {
              yield* committing(there, partition, committed)
            }
            for (const partition of come) {
              yield* committing(next, partition, committed)
            }
            yield* Scope.close(scope, Exit.void)
            yield* until("the other has all", () => heldBy(next).length === 4)
            assert.strictEqual(next.of("Lost").length + next.of("Connection").length, 0)
            scope = nextScope
            there = next
          }
          yield* Scope.close(scope, Exit.void)
        })
      )

      it.effect(
        "members under KIP-848 share a group with cooperative ones while it changes from one to the other, and back",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(4)
            const groupId = unique("group")
            const of = {
              classic: settingsFor(groupId, [topic]),
              consumer: settingsOf(groupId, [topic], { groupProtocol: "consumer" })
            }
            let scope = yield* Scope.make()
            let there = yield* Scope.provide(join(of.classic), scope)
            yield* until("the first has all", () => heldBy(there).length === 4)
            for (const protocol of ["consumer", "classic", "consumer"] as const) {
              const stayed = epochsOf(there)
              const nextScope = yield* Scope.make()
              const next = yield* Scope.provide(join(of[protocol]), nextScope)
              yield* until("both have two", () => heldBy(there).length === 2 && heldBy(next).length === 2)
              const [stay, come] = [heldBy(there), heldBy(next)]
              assert.deepStrictEqual(
                [...stay, ...come].toSorted((x, y) => x - y),
                [0, 1, 2, 3]
              )
              assert.isTrue(there.of("Revoking").every(({ exact }) => exact))
              assert.strictEqual(there.of("Lost").length, 0)
              for (const partition of stay) {
                assert.strictEqual(epochsOf(there).get(partition), stayed.get(partition))
                yield* committing(there, partition, 1n)
              }
              for (const partition of come) yield* committing(next, partition, 1n)
              yield* Scope.close(scope, Exit.void)
              yield* until("the other has all", () => heldBy(next).length === 4)
              assert.strictEqual(next.of("Lost").length + next.of("Connection").length, 0)
              scope = nextScope
              there = next
            }
            yield* Scope.close(scope, Exit.void)
          }),
        skipping(client.classicOnly)
      )

      it.effect(
        "I11: of a consumer only what goes is drained; the rest is handled and committed, and nothing runs twice",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(4)
            const groupId = unique("group")
            const release = Deferred.makeUnsafe<void>()
            const handled: Array<string> = []
            let interrupted = 0
            let waiting = 0
            /** the first record of each partition waits; the others are done at once */
            const handler = Handler.make(topic, (record) => {
              const done = Effect.sync(() => void handled.push(`${record.partition}/${record.offset}`))
              if (record.offset > 0n) return done
              waiting++
              return Effect.andThen(Deferred.await(release), done).pipe(
                Effect.onInterrupt(() => Effect.sync(() => void interrupted++))
              )
            })
            const consumer = (name: string) =>
              ConcurrentConsumer.layerHandler(handler, {
                name,
                groupId,
                assignor: "cooperative-sticky",
                heartbeatInterval: 300,
                batchSize: 1,
                minCommitInterval: 0,
                onFailure: FailurePolicy.stop
              })
            for (const partition of [0, 1, 2, 3]) yield* kafka.send(topic, partition, numbers(0, 10))
            yield* Layer.build(consumer("a"))
            yield* until("all but four are handled", () => handled.length === 36 && waiting === 4)
            yield* Layer.build(consumer("b"))
            // two partitions are in their drain: of the others what is new is handled
            yield* Effect.sleep(1500)
            for (const partition of [0, 1, 2, 3]) yield* kafka.send(topic, partition, numbers(10, 20))
            const fresh = () => handled.filter((one) => Number(one.split("/")[1]) >= 10)
            yield* until("those that stay go on", () => fresh().length === 20)
            assert.strictEqual(new Set(fresh().map((one) => one.split("/")[0])).size, 2)
            assert.strictEqual(waiting, 4)
            Deferred.doneUnsafe(release, Effect.void)
            yield* until("all are handled", () => handled.length >= 80)
            yield* Effect.sleep(300)
            assert.strictEqual(new Set(handled).size, 80)
            assert.strictEqual(handled.length, 80)
            assert.strictEqual(interrupted, 0)
            for (const partition of [0, 1, 2, 3]) {
              for (;;) {
                if ((yield* kafka.committed(groupId, { topic, partition }))?.offset === "20") break
                yield* Effect.sleep(20)
              }
            }
          })
      )

      it.effect("I8: a consumer that closes while another member holds back its second join commits what is done", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(6)
          const groupId = unique("group")
          let handled = 0
          const scope = yield* Scope.make()
          const consumer = yield* Effect.map(
            Scope.provide(
              Layer.build(
                ConcurrentConsumer.layer({
                  groupId,
                  topics: [topic],
                  assignor: "cooperative-sticky",
                  heartbeatInterval: 300,
                  batchSize: 1,
                  minCommitInterval: 0,
                  flushReserve: 1000
                })
              ),
              scope
            ),
            Context.get(ConcurrentConsumer)
          )
          yield* Effect.forkScoped(consumer.run(Handler.make(topic, () => Effect.sync(() => void handled++))))
          const held: Array<Revoking> = []
          const b = yield* join(settingsFor(groupId, [topic]), { onRevoking: (signal) => void held.push(signal) })
          yield* until("both have three", () => heldBy(b).length === 3)
          const c = yield* join(settingsFor(groupId, [topic]))
          yield* until("b is asked for one", () => held.length === 1)
          const owned = Effect.map(consumer.snapshot, ({ partitions }) => partitions)
          while ((yield* owned).length !== 2) yield* Effect.sleep(20)

          // its second JoinGroup is under way now, or soon: from then on its commits are put off
          const { partition } = (yield* owned)[0]!
          let sent = 0
          while ((yield* consumer.snapshot).commits.entries.deferred === 0) {
            yield* kafka.send(topic, partition, [String(sent++)])
            yield* until("it is handled", () => handled === sent)
            yield* Effect.sleep(20)
          }
          const committed = Effect.map(kafka.committed(groupId, { topic, partition }), (found) => Number(found?.offset))
          const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
          yield* Effect.sleep(1500)
          assert.isUndefined(closing.pollUnsafe())
          assert.isBelow(yield* committed, sent)
          held[0]!.acknowledgeUnsafe()
          yield* Fiber.join(closing)
          assert.strictEqual(yield* committed, sent)
          yield* until("the others have all", () => heldBy(b).length + heldBy(c).length === 6)
        })
      )
    })
  })
}

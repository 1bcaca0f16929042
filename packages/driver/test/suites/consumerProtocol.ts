/** Suite: members of the consumer protocol (KIP-848) on a real broker. */
import { ConcurrentConsumer, FailurePolicy, Handler } from "@concurrent-kafka/core"
import type { SessionSettings } from "@concurrent-kafka/core/ConsumerSession"
import { assert, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { inject } from "vitest"
import * as Kafka from "../../../../test/kafka/kafka.ts"
import { type Client, instrumented, ownSuiteOf, suiteOf } from "../client.ts"
import { controlOf } from "../instrumented.ts"
import { assertOnceEach, heldBy, join, numbers, settingsOf, unique, until } from "../members.ts"
import { world } from "../operator.ts"

/** A gate that is closed. */
const hold = (): { readonly gate: Promise<void>; readonly open: () => void } => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { gate: promise, open: resolve }
}

export const consumerProtocol = (client: Client): void => {
  const brokers = inject("brokers")

  const settingsFor = (groupId: string, topics: ReadonlyArray<string>, rest: Partial<SessionSettings> = {}) =>
    settingsOf(groupId, topics, { groupProtocol: "consumer", ...rest })

  suiteOf(
    client,
    "the consumer protocol",
    () => {
      layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })("on a real broker", (it) => {
        it.effect(
          "D46: the epoch of a member moves without an assignment, and its commits are those of the new epoch",
          () =>
            Effect.gen(function* () {
              const kafka = yield* world(brokers)
              const [topic, other] = [yield* kafka.topic(2), yield* kafka.topic(1)]
              const groupId = unique("group")
              const a = yield* join(settingsFor(groupId, [topic]))
              yield* until("a has all", () => a.owned.length === 2)
              const control = controlOf(a.session)
              const assigned = a.of("Assigned").length
              const before = a.session.generationUnsafe()
              /** what the broker says to a commit of the epoch before, past the session */
              const codeOf = (offset: bigint) =>
                Effect.map(
                  kafka.promise(() =>
                    control.coordinator!.offsetCommit({
                      groupId,
                      groupGenerationId: before,
                      memberId: control.memberId,
                      groupProtocol: "consumer",
                      topics: [{ topic, partitions: [{ partition: 0, offset, metadata: "" }] }]
                    })
                  ),
                  (answer) => answer.responses[0]!.partitions[0]!.errorCode
                )
              const commits = () => control.requests.filter((name) => name === "offsetCommit").length
              const late = hold()
              const first = control.beats.length
              control.beatGate = late.gate
              yield* until("a heartbeat is under way", () => control.beats.length > first)
              const b = yield* join(settingsFor(groupId, [other]))
              yield* until("b is a member", () => b.owned.length === 1)
              const later = hold()
              control.beatGate = later.gate
              const beats = control.beats.length
              late.open()
              yield* until("the heartbeat that moves the epoch is under way", () => control.beats.length > beats)
              for (let code = 0; code !== 113;) code = yield* codeOf(1n)
              const sent = commits()
              const committing = yield* Effect.forkChild(a.commit(0, 5n, "waits"), { startImmediately: true })
              yield* Effect.sleep(300)
              assert.strictEqual(commits(), sent)
              assert.strictEqual(a.session.generationUnsafe(), before)
              control.beatGate = undefined
              later.open()
              assert.deepInclude(yield* Fiber.join(committing), { outcome: "committed" })
              assert.isAbove(a.session.generationUnsafe(), before)
              assert.deepInclude(yield* a.commit(1, 6n), { outcome: "committed" })
              assert.strictEqual(a.of("Assigned").length, assigned)
              assert.strictEqual(a.of("Revoking").length + a.of("Lost").length, 0)
              assert.deepStrictEqual(yield* kafka.committed(groupId, { topic, partition: 0 }), {
                offset: "5",
                metadata: "waits"
              })
            })
        )

        it.effect(
          "D46: a commit that is refused for its epoch is deferred, and decided again by the next heartbeat",
          () =>
            Effect.gen(function* () {
              const kafka = yield* world(brokers)
              const topic = yield* kafka.topic(1)
              const groupId = unique("group")
              const a = yield* join(settingsFor(groupId, [topic]))
              yield* until("a has it", () => a.owned.length === 1)
              const control = controlOf(a.session)
              const signals = a.signals.length
              control.commitAnswer = 113
              const beats = control.beats.length
              assert.deepInclude(yield* a.commit(0, 5n), { outcome: "deferred", code: "STALE_MEMBER_EPOCH" })
              yield* until("it asks at once", () => control.beats.length > beats, 150)
              assert.deepInclude(yield* a.commit(0, 6n), { outcome: "committed" })
              assert.strictEqual(a.signals.length, signals)
            })
        )

        it.effect("D46: what the consumer has done is committed, however often the epoch moves", () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const [topic, other] = [yield* kafka.topic(2), yield* kafka.topic(1)]
            const groupId = unique("group")
            const handled: Array<string> = []
            const handler = Handler.make(topic, (record) =>
              Effect.map(Effect.sleep(1), () => void handled.push(`${record.partition}/${record.offset}`))
            )
            yield* Layer.build(
              ConcurrentConsumer.layerHandler(handler, {
                groupId,
                groupProtocol: "consumer",
                batchSize: 1,
                minCommitInterval: 0,
                onFailure: FailurePolicy.stop
              })
            )
            for (let round = 0; round < 5; round++) {
              yield* Effect.scoped(
                Effect.gen(function* () {
                  const b = yield* join(settingsFor(groupId, [other]))
                  for (const partition of [0, 1]) yield* kafka.send(topic, partition, numbers(0, 100))
                  yield* until("b is a member", () => b.owned.length === 1)
                })
              )
            }
            yield* until("all are handled", () => handled.length >= 1000)
            for (const partition of [0, 1]) {
              for (;;) {
                if ((yield* kafka.committed(groupId, { topic, partition }))?.offset === "500") break
                yield* Effect.sleep(20)
              }
            }
            assert.strictEqual(new Set(handled).size, 1000)
            assert.strictEqual(handled.length, 1000)
          })
        )

        it.effect("D47, I11: only what goes is drained; the others handle and commit, and nothing comes twice", () =>
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
            const consumer = (instance: string) =>
              ConcurrentConsumer.layerHandler(handler, {
                name: instance,
                groupId,
                groupProtocol: "consumer",
                batchSize: 1,
                minCommitInterval: 0,
                onFailure: FailurePolicy.stop
              })
            for (const partition of [0, 1, 2, 3]) yield* kafka.send(topic, partition, numbers(0, 10))
            yield* Layer.build(consumer("a"))
            yield* until("all but four are handled", () => handled.length === 36 && waiting === 4)
            yield* Layer.build(consumer("b"))
            // two partitions are in their drain: of the others what is new is handled
            yield* Effect.sleep(1000)
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

        it.effect("members of both protocols share a group while it changes from one to the other, and back", () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(2)
            const groupId = unique("group")
            const of = { classic: settingsOf(groupId, [topic]), consumer: settingsFor(groupId, [topic]) }
            let committed = 0n
            let scope = yield* Scope.make()
            let there = yield* Scope.provide(join(of.classic), scope)
            yield* until("the first has all", () => there.owned.length === 2)
            for (const protocol of ["consumer", "classic", "consumer"] as const) {
              committed++
              for (const partition of [0, 1]) yield* there.commit(partition, committed, protocol)
              const nextScope = yield* Scope.make()
              const next = yield* Scope.provide(join(of[protocol]), nextScope)
              yield* until("both have one", () => heldBy(there).length === 1 && heldBy(next).length === 1)
              const [stays, comes] = [heldBy(there)[0]!, heldBy(next)[0]!]
              assert.strictEqual(stays + comes, 1)
              const { committed: found } = next.owned.find(({ partition }) => partition === comes)!
              assert.deepStrictEqual(found, { offset: committed, metadata: protocol })
              committed++
              assert.deepInclude(yield* there.commit(stays, committed), { outcome: "committed" })
              assert.deepInclude(yield* next.commit(comes, committed), { outcome: "committed" })
              yield* Scope.close(scope, Exit.void)
              yield* until("the other has all", () => heldBy(next).length === 2)
              assert.strictEqual(next.of("Lost").length + next.of("Connection").length, 0)
              scope = nextScope
              there = next
            }
            yield* Scope.close(scope, Exit.void)
          })
        )
      })
    },
    client.classicOnly
  )

  ownSuiteOf(
    client,
    "the consumer protocol, with a Kafka that goes away",
    () => {
      it.live("SIGKILL and restart: everything is kept, and nothing comes twice", () =>
        Effect.gen(function* () {
          const kafka = yield* Kafka.start({ own: true })
          yield* Effect.gen(function* () {
            const before = yield* world(kafka.brokers)
            const topic = yield* before.topic(3)
            for (const partition of [0, 1, 2]) yield* before.send(topic, partition, numbers(0, 100))
            const member = yield* join(settingsFor(unique("group"), [topic]))
            yield* until("the records", () => member.records.length === 300)
            for (const partition of [0, 1, 2]) yield* member.commit(partition, 50n, "before")
            const epochs = member.owned.map(({ epoch }) => epoch)
            yield* kafka.kill(0)
            yield* until("it is told", () => member.of("Connection").at(-1)?.state === "down")
            assert.strictEqual((yield* member.commit(0, 60n)).outcome, "retriable")
            yield* kafka.restart(0)
            yield* until("it is told again", () => member.of("Connection").at(-1)!.state === "up")
            while ((yield* member.commit(0, 70n, "after")).outcome !== "committed") yield* Effect.sleep(50)
            const after = yield* world(kafka.brokers)
            for (const partition of [0, 1, 2]) yield* after.send(topic, partition, numbers(100, 110))
            yield* until("the new records", () => member.records.length >= 330)
            assertOnceEach(member, 330)
            assert.strictEqual(member.of("Lost").length + member.of("Revoking").length, 0)
            assert.deepStrictEqual(
              member.owned.map(({ epoch }) => epoch),
              epochs
            )
          }).pipe(Effect.provide(instrumented(client, kafka.brokers)))
        }).pipe(Effect.scoped)
      )
    },
    client.classicOnly
  )

  ownSuiteOf(
    client,
    "a broker without the consumer protocol",
    () => {
      it.live("ends the session, and says what to do", () =>
        Effect.gen(function* () {
          const properties = { "group.coordinator.rebalance.protocols": "classic" }
          const kafka = yield* Kafka.start({ own: true, properties })
          const topic = yield* (yield* world(kafka.brokers)).topic(1)
          const member = yield* Effect.provide(
            join(settingsFor(unique("group"), [topic])),
            instrumented(client, kafka.brokers)
          )
          yield* until("it has ended", () => member.ended !== undefined)
          if (member.ended === "done" || member.ended === undefined) return assert.fail("without an error")
          assert.strictEqual(member.ended.reason, "UnsupportedClient")
          assert.include(member.ended.detail, 'use groupProtocol "classic"')
        }).pipe(Effect.scoped)
      )
    },
    client.classicOnly
  )
}

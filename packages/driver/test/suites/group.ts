/** Suite: how a session is a member of its group on a real broker. */
import type { Revoking } from "@concurrent-kafka/core/ConsumerSession"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { inject } from "vitest"
import { type Client, evict, type GroupProtocol, instrumented, noGenerations, skipping, suiteIn } from "../client.ts"
import { controlOf, holdSync } from "../instrumented.ts"
import { heldBy, join, numbers, settingsOf, unique, until } from "../members.ts"
import { alone, world } from "../operator.ts"

export const group = (client: Client, groupProtocol: GroupProtocol = "classic"): void => {
  const brokers = inject("brokers")
  const isConsumer = groupProtocol === "consumer"
  /** Under the consumer protocol it is the broker's to say. */
  const sessionOf = (classic: number) => (isConsumer ? 6000 : classic)

  suiteIn(client, groupProtocol, "a group on a real broker", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("a hold outlives the session timeout, and nobody is assigned anything before it is acknowledged", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(4)
          const sessionTimeout = sessionOf(3000)
          const settings = settingsOf(unique("group"), [topic], { groupProtocol, sessionTimeout, revokeTimeout: 9000 })
          let asked: Revoking | undefined
          const a = yield* join(settings, { onRevoking: (signal) => (asked = signal) })
          yield* until("a has all", () => a.owned.length === 4)
          const before = new Map(a.owned.map(({ epoch, partition }) => [partition, epoch]))
          const b = yield* join(settings)
          yield* until("a is asked", () => asked !== undefined)
          yield* Effect.sleep(sessionTimeout + 500)
          assert.deepStrictEqual(heldBy(b), [])
          const { partition: goes } = asked!.exact ? asked!.partitions[0]! : a.partition(3)
          assert.strictEqual((yield* a.commit(goes, 7n, "late")).outcome, "committed")
          asked!.acknowledgeUnsafe()
          yield* until("b has its share", () => heldBy(b).length === 2)
          yield* until("a has its share", () => heldBy(a).length === 2)
          assert.strictEqual(a.of("Lost").length, 0)
          for (const partition of heldBy(a)) assert.strictEqual(a.partition(partition).epoch, before.get(partition))
          assert.deepStrictEqual(b.owned.find(({ partition }) => partition === goes)?.committed, {
            offset: 7n,
            metadata: "late"
          })
        })
      )

      it.effect("heartbeats have a clock of their own: a rebalance is noticed while a long poll waits", () =>
        Effect.gen(function* () {
          const { a, settings } = yield* alone(brokers, 2, { groupProtocol, maxWait: 8000, heartbeatInterval: 300 })
          const began = performance.now()
          const b = yield* join(settings)
          yield* until("both have one", () => heldBy(a).length === 1 && heldBy(b).length === 1)
          assert.isBelow(performance.now() - began, 3000)
        })
      )

      it.effect(
        "a missed generation gives new epochs, whatever the member claims (a SyncGroup is late)",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(12)
            for (let partition = 0; partition < 12; partition++) yield* kafka.send(topic, partition, numbers(0, 100))
            const settings = settingsOf(unique("group"), [topic], { sessionTimeout: 60_000, rebalanceTimeout: 60_000 })
            const leader = yield* join(settings)
            yield* until("the leader has all", () => leader.owned.length === 12)
            const a = yield* join(settings)
            yield* until("a has six", () => a.owned.length === 6)
            const before = new Map(a.owned.map(({ epoch, partition }) => [partition, epoch]))
            const release = yield* holdSync(a.session)
            const scope = yield* Scope.make()
            const d = yield* Scope.provide(join(settings), scope)
            yield* until("d has four", () => d.owned.length === 4)
            const taken = d.partitions().filter((partition) => before.has(partition))
            assert.isAbove(taken.length, 0)
            for (const partition of d.partitions()) {
              assert.strictEqual((yield* d.commit(partition, 60n, "by d")).outcome, "committed")
            }
            const rebalances = leader.of("Revoking").length
            yield* Scope.close(scope, Exit.void)
            yield* until("the group rebalances again", () => leader.of("Revoking").length > rebalances)
            yield* release
            yield* until("a has its share again", () => a.of("Assigned").length >= 2 && a.owned.length === 6)
            for (const owned of a.owned) {
              assert.isFalse(owned.retained)
              assert.notStrictEqual(owned.epoch, before.get(owned.partition))
            }
            for (const partition of taken.filter((p) => a.partitions().includes(p))) {
              const stale = { topic, partition, epoch: before.get(partition)!, offset: 10n, metadata: "" }
              assert.deepInclude((yield* a.session.commit([stale]))[0]!, { outcome: "stale", code: "EPOCH" })
              assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition }), {
                offset: "60",
                metadata: "by d"
              })
            }
            // the leader has missed nothing
            assert.isTrue(
              leader.owned.filter(({ partition }) => !taken.includes(partition)).some(({ retained }) => retained)
            )
          }),
        skipping(isConsumer ? noGenerations : undefined)
      )

      it.effect(
        "a committed offset, or map beside it, that is not ours any more makes a new epoch of a retained partition",
        () =>
          Effect.gen(function* () {
            const { a, kafka, settings, topic } = yield* alone(brokers, 4)
            const before = new Map(a.owned.map(({ epoch, partition }) => [partition, epoch]))
            for (const partition of [0, 1, 2, 3]) yield* a.commit(partition, 10n, "ours")
            // somebody commits for partitions 0 and 1 with our own membership, behind the driver's back
            const control = controlOf(a.session)
            yield* kafka.promise(() =>
              control.coordinator!.offsetCommit({
                groupId: settings.groupId,
                groupGenerationId: control.generation,
                memberId: control.memberId,
                topics: [
                  {
                    topic,
                    partitions: [
                      { partition: 0, offset: 4n, metadata: "foreign" },
                      // the same place, and another map beside it
                      { partition: 1, offset: 10n, metadata: "foreign" }
                    ]
                  }
                ]
              })
            )
            const b = yield* join({ ...settings, topics: [yield* kafka.topic(1)] })
            yield* until("assigned again", () => a.of("Assigned").length >= 2 && b.owned.length === 1)
            for (const [number, offset] of [
              [0, 4n],
              [1, 10n]
            ] as const) {
              const other = a.owned.find(({ partition }) => partition === number)!
              assert.isFalse(other.retained)
              assert.notStrictEqual(other.epoch, before.get(number))
              assert.deepStrictEqual(other.committed, { offset, metadata: "foreign" })
            }
            for (const owned of a.owned.filter(({ partition }) => partition > 1)) {
              assert.isTrue(owned.retained)
              assert.strictEqual(owned.epoch, before.get(owned.partition))
            }
          }),
        skipping(isConsumer ? noGenerations : undefined)
      )

      it.effect("an eviction while nothing is held: everything is lost, and the next commit is not sent", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const settings = settingsOf(unique("group"), [topic], { groupProtocol, heartbeatInterval: 3000 })
          const a = yield* join(settings, { start: () => undefined })
          yield* until("a has all", () => a.owned.length === 2)
          const old = { ...a.partition(0), offset: 1n, metadata: "" }
          yield* evict(client, brokers, a.session)
          // the commit finds out first, and the heartbeat follows at once: long before it is due
          const began = performance.now()
          const [found] = yield* a.session.commit([old])
          if (isConsumer) {
            // unless that was first: the broker wants five of them a second
            assert.strictEqual(found!.outcome, "stale")
            assert.include(["UNKNOWN_MEMBER_ID", "EPOCH"], (found as { code?: string }).code)
          } else assert.deepInclude(found!, { outcome: "stale", code: "UNKNOWN_MEMBER_ID" })
          yield* until("lost", () => a.of("Lost").length === 1)
          assert.isBelow(performance.now() - began, 1500)
          yield* until("back", () => a.owned.length === 2)
          assert.deepInclude((yield* a.session.commit([old]))[0]!, { code: "EPOCH" })
        })
      )

      it.effect("an event loop that stands still for longer than the session: lost, and then new epochs", () =>
        Effect.gen(function* () {
          const sessionTimeout = sessionOf(1500)
          const { a, kafka, topic } = yield* alone(brokers, 2, {
            groupProtocol,
            sessionTimeout,
            heartbeatInterval: 300
          })
          const before = a.owned.map(({ epoch }) => epoch)
          const stale = { ...a.partition(0), offset: 1n, metadata: "" }
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, sessionTimeout + 1500)
          const [late] = yield* a.session.commit([stale])
          assert.strictEqual(late!.outcome, "stale")
          assert.include(["EPOCH", "UNKNOWN_MEMBER_ID"], (late as { code?: string }).code)
          yield* until("lost", () => a.of("Lost").length === 1)
          yield* until("back", () => a.owned.length === 2)
          for (const { epoch, retained } of a.owned) {
            assert.isFalse(retained)
            assert.notInclude(before, epoch)
          }
          assert.isUndefined(yield* kafka.committed(a.session.settings.groupId, { topic, partition: 0 }))
        })
      )
    })
  })
}

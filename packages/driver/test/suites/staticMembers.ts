/** Suite: static members, which keep their partitions over a restart (KIP-345). */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { inject } from "vitest"
import { type Client, evict, type GroupProtocol, instrumented, suiteIn } from "../client.ts"
import { controlOf } from "../instrumented.ts"
import { heldBy, join, type Member, numbers, settingsOf, unique, until } from "../members.ts"
import { world } from "../operator.ts"

/** The broker's own session timeout for the consumer protocol is that of the tests' settings. */
const sessionOf = (protocol: GroupProtocol) => (protocol === "consumer" ? 6000 : 2500)

const rebalances = (member: Member) => member.signals.filter(({ _tag }) => _tag !== "Chunk").length

export const staticMembers = (client: Client, groupProtocol: GroupProtocol): void => {
  const brokers = inject("brokers")
  const settingsFor = (groupId: string, topic: string, instanceId: string) =>
    settingsOf(groupId, [topic], {
      groupProtocol,
      instanceId,
      sessionTimeout: sessionOf(groupProtocol),
      revokeTimeout: 2000
    })

  suiteIn(client, groupProtocol, "static members", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })("on a real broker", (it) => {
      it.effect("D45: one that restarts in time: no rebalance for the others, and its partitions wait for it", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(4)
          const groupId = unique("group")
          const a = yield* join(settingsFor(groupId, topic, "pod-a"))
          yield* until("a has all", () => a.owned.length === 4)
          const scope = yield* Scope.make()
          const b = yield* Scope.provide(join(settingsFor(groupId, topic, "pod-b")), scope)
          yield* until("both have two", () => heldBy(a).length === 2 && heldBy(b).length === 2)
          const before = b.partitions()
          const [first] = before
          assert.strictEqual((yield* b.commit(first!, 3n, "by b")).outcome, "committed")
          const calm = rebalances(a)
          yield* Scope.close(scope, Exit.void)
          for (const partition of [0, 1, 2, 3]) yield* kafka.send(topic, partition, numbers(0, 10))
          yield* until("a goes on with its own", () => a.records.length === 20)
          yield* Effect.sleep(500)
          assert.strictEqual(rebalances(a), calm)
          assert.strictEqual(a.records.length, 20)
          const again = yield* join(settingsFor(groupId, topic, "pod-b"))
          yield* until("b is back", () => again.owned.length === 2)
          assert.deepStrictEqual(again.partitions(), before)
          assert.deepStrictEqual(again.owned.find(({ partition }) => partition === first)?.committed, {
            offset: 3n,
            metadata: "by b"
          })
          yield* until("it has what was waiting", () => again.records.length === 17)
          assert.strictEqual(rebalances(a), calm)
          assert.strictEqual(a.of("Lost").length, 0)
          for (const member of [a, again]) {
            assert.strictEqual((yield* member.commit(heldBy(member)[0]!, 10n)).outcome, "committed")
          }
        })
      )

      it.effect(
        "one that does not come back in time: the others get its partitions when its session has timed out",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(2)
            const groupId = unique("group")
            const a = yield* join(settingsFor(groupId, topic, "pod-a"))
            const scope = yield* Scope.make()
            const b = yield* Scope.provide(join(settingsFor(groupId, topic, "pod-b")), scope)
            yield* until("both have one", () => heldBy(a).length === 1 && heldBy(b).length === 1)
            const began = performance.now()
            yield* Scope.close(scope, Exit.void)
            yield* until("a has both", () => heldBy(a).length === 2)
            assert.isAbove(performance.now() - began, sessionOf(groupProtocol) * 0.7)
          })
      )

      it.effect("partitions that are added are given out, also when the member that led has restarted", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const groupId = unique("group")
          const scope = yield* Scope.make()
          const leader = yield* Scope.provide(join(settingsFor(groupId, topic, "pod-a")), scope)
          yield* until("it has all", () => heldBy(leader).length === 2)
          const b = yield* join(settingsFor(groupId, topic, "pod-b"))
          yield* until("both have one", () => heldBy(leader).length === 1 && heldBy(b).length === 1)
          yield* Scope.close(scope, Exit.void)
          const again = yield* join(settingsFor(groupId, topic, "pod-a"))
          yield* until("it is back", () => heldBy(again).length === 1)
          yield* kafka.promise(() => kafka.admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] }))
          yield* until("both have two", () => heldBy(again).length === 2 && heldBy(b).length === 2)
          assert.deepStrictEqual(
            [...heldBy(again), ...heldBy(b)].toSorted((x, y) => x - y),
            [0, 1, 2, 3]
          )
        })
      )

      it.effect("leaves nothing behind when it leaves and joins again by itself", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const a = yield* join(settingsFor(unique("group"), topic, "pod-a"))
          yield* until("a has all", () => a.owned.length === 2)
          const [old] = a.owned
          const assigned = a.of("Assigned").length
          yield* a.session.leave
          assert.notInclude(controlOf(a.session).requests, "leaveGroup")
          const began = performance.now()
          yield* a.session.join
          yield* until("a has all again", () => a.of("Assigned").length > assigned && a.owned.length === 2)
          assert.isBelow(performance.now() - began, 2000)
          assert.isTrue(a.owned.every(({ epoch, retained }) => !retained && epoch > old!.epoch))
        })
      )

      it.effect("one that is thrown out has lost everything, and gets its place again", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const a = yield* join(settingsFor(unique("group"), topic, "pod-a"))
          yield* until("a has all", () => a.owned.length === 2)
          yield* evict(client, brokers, a.session)
          yield* until("it is told", () => a.of("Lost").length === 1)
          yield* until("a is back", () => a.owned.length === 2)
          assert.isTrue(a.owned.every(({ retained }) => !retained))
          assert.strictEqual((yield* a.commit(0, 1n)).outcome, "committed")
        })
      )

      if (groupProtocol === "classic") {
        it.effect("D36: an instance id that is used twice: the first one ends, typed, and does not take it back", () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(2)
            const groupId = unique("group")
            const a = yield* join(settingsFor(groupId, topic, "pod-a"))
            yield* until("a has all", () => a.owned.length === 2)
            const stale = { ...a.partition(0), offset: 7n, metadata: "" }
            const b = yield* join(settingsFor(groupId, topic, "pod-a"))
            yield* until("b has all", () => b.owned.length === 2)
            const [late] = yield* a.session.commit([stale])
            assert.strictEqual(late!.outcome, "stale")
            yield* until("a has ended", () => a.ended !== undefined)
            assert.deepInclude(a.ended, { reason: "FencedInstance" })
            assert.include(String(a.ended), "pod-a")
            yield* Effect.sleep(1000)
            assert.strictEqual(b.of("Lost").length + b.of("Revoking").length, 0)
            assert.strictEqual((yield* b.commit(0, 1n)).outcome, "committed")
            assert.strictEqual((yield* kafka.committed(groupId, { topic, partition: 0 }))?.offset, "1")
          })
        )
      } else {
        it.effect("D36: an instance id that is used twice: the second one waits, and says for what", () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(2)
            const groupId = unique("group")
            const scope = yield* Scope.make()
            const a = yield* Scope.provide(join(settingsFor(groupId, topic, "pod-a")), scope)
            yield* until("a has all", () => a.owned.length === 2)
            const calm = rebalances(a)
            const b = yield* join(settingsFor(groupId, topic, "pod-a"))
            yield* until("b is told", () => b.of("Connection").length > 0)
            const cause = Option.getOrThrow(b.of("Connection")[0]!.cause)
            assert.strictEqual(cause.reason, "FencedInstance")
            assert.include(cause.detail, "pod-a")
            yield* Effect.sleep(1000)
            assert.strictEqual((yield* a.commit(0, 1n)).outcome, "committed")
            assert.strictEqual(rebalances(a), calm)
            assert.isUndefined(b.ended)
            yield* Scope.close(scope, Exit.void)
            yield* until("b has all", () => b.owned.length === 2)
            assert.strictEqual(b.of("Connection").at(-1)!.state, "up")
          })
        )
      }
    })
  })
}

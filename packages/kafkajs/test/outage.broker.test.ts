import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { inject } from "vitest"
import * as Kafka from "../../../test/kafka/kafka.ts"
import { KafkaJs } from "../src/index.ts"
import type { Adapted } from "../src/internal/connector.ts"
import { controlOf, instrumented } from "./instrumented.ts"
import { join, type Member, settingsOf, unique, until, world } from "./support.ts"

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => String(from + i))

const onceEach = (member: Member, count: number) => {
  const seen = member.records.map(({ offset, partition }) => `${partition}/${offset}`)
  assert.strictEqual(new Set(seen).size, seen.length, "nothing comes twice")
  assert.strictEqual(seen.length, count)
}

describe.skipIf(!inject("own"))("a Kafka that goes away", () => {
  it.live(
    "SIGKILL and restart: it recovers within seconds, with everything retained and nothing twice",
    () =>
      Effect.gen(function* () {
        const kafka = yield* Kafka.start({ own: true })
        yield* Effect.gen(function* () {
          const broker = yield* world(kafka.brokers)
          const topic = yield* broker.topic(3)
          for (const partition of [0, 1, 2]) yield* broker.send(topic, partition, numbers(0, 100))
          const member = yield* join(settingsOf(unique("group"), [topic], { sessionTimeout: 3000 }))
          yield* until("the records", () => member.records.length === 300)
          for (const partition of [0, 1, 2]) yield* member.commit(partition, 50n, "before")
          const epochs = new Map(member.owned.map(({ epoch, partition }) => [partition, epoch]))

          // a loaded machine may have had trouble before
          const before = member.of("Connection").length
          yield* kafka.kill(0)
          yield* until("it is told", () => member.of("Connection").length > before)
          const down = member.of("Connection")[before]
          assert.strictEqual(down!.state, "down")
          assert.include(["Connection", "Timeout"], Option.getOrThrow(down!.cause).reason)
          const during = yield* member.commit(0, 60n)
          assert.strictEqual(during.outcome, "retriable")
          // longer than the session
          yield* Effect.sleep(3500)
          yield* kafka.restart(0)
          const began = performance.now()
          yield* until("it is told again", () => member.of("Connection").at(-1)!.state === "up")
          let outcome = yield* member.commit(0, 70n, "after")
          while (outcome.outcome !== "committed" && performance.now() - began < 15_000) {
            yield* Effect.sleep(50)
            outcome = yield* member.commit(0, 70n, "after")
          }
          assert.strictEqual(outcome.outcome, "committed")
          const again = yield* world(kafka.brokers)
          for (const partition of [0, 1, 2]) yield* again.send(topic, partition, numbers(100, 110))
          yield* until("the new records", () => member.records.length === 330)
          assert.strictEqual(member.of("Lost").length, 0)
          for (const { epoch, partition } of member.owned) assert.strictEqual(epoch, epochs.get(partition))
          assert.isBelow(performance.now() - began, 15_000)
          onceEach(member, 330)
          assert.isUndefined(member.ended)
        }).pipe(Effect.provide(KafkaJs.layer({ brokers: kafka.brokers })))
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "one that is away when a session joins is waited for; an away one when the layer is built is waited for with waitForBroker",
    () =>
      Effect.gen(function* () {
        const kafka = yield* Kafka.start({ own: true })
        const broker = yield* world(kafka.brokers)
        const topic = yield* broker.topic(1)
        yield* broker.send(topic, 0, ["a"])
        yield* Effect.gen(function* () {
          yield* kafka.kill(0)
          const settings = settingsOf(unique("group"), [topic], { topicTimeout: 1000 })
          const joining = yield* Effect.forkScoped(join(settings))
          const layered = yield* Effect.forkScoped(
            Layer.build(KafkaJs.layer({ brokers: kafka.brokers, waitForBroker: true, connectTimeout: 500 }))
          )
          yield* Effect.sleep(2500)
          assert.isUndefined(joining.pollUnsafe())
          assert.isUndefined(layered.pollUnsafe())
          yield* kafka.restart(0)
          yield* until("the layer is there", () => layered.pollUnsafe()?._tag === "Success")
          yield* until("it has joined", () => joining.pollUnsafe()?._tag === "Success")
        }).pipe(Effect.provide(KafkaJs.layer({ brokers: kafka.brokers })))
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "a commit without an answer: nobody knows, its connection is closed, and the next one is taken",
    () =>
      Effect.gen(function* () {
        const kafka = yield* Kafka.start({ own: true, proxy: true })
        const proxy = kafka.nodes[0]!.proxy!
        yield* Effect.gen(function* () {
          const broker = yield* world(kafka.brokers)
          const topic = yield* broker.topic(2)
          // a request is given up after a third of it
          const settings = settingsOf(unique("group"), [topic], { sessionTimeout: 9000 })
          const member = yield* join(settings)
          yield* until("assigned", () => member.owned.length === 2)
          assert.strictEqual((yield* member.commit(0, 1n)).outcome, "committed")
          const before = controlOf(member.session).coordinator
          yield* proxy.blackhole("answers")
          const began = performance.now()
          const outcome = yield* member.commit(0, 2n, "in doubt")
          assert.deepInclude(outcome, { outcome: "retriable", code: "NO_ANSWER" })
          const waited = performance.now() - began
          assert.isBelow(waited, member.session.capabilities.requestTimeout + 1500)
          assert.isTrue(
            (before as Adapted).connectionPool.pool.every(({ socket }) => socket === undefined || socket.destroyed)
          )
          // the broker has it: nobody could know
          assert.deepStrictEqual(yield* broker.committed(settings.groupId, { topic, partition: 0 }), {
            offset: "2",
            metadata: "in doubt"
          })
          yield* proxy.heal
          let next = yield* member.commit(0, 3n, "after")
          while (next.outcome !== "committed" && performance.now() - began < 30_000) {
            yield* Effect.sleep(50)
            next = yield* member.commit(0, 3n, "after")
          }
          assert.strictEqual(next.outcome, "committed")
          assert.notStrictEqual(controlOf(member.session).coordinator, before)
          assert.strictEqual(member.of("Lost").length, 0)
          // a rebalance later the partitions are still ours as they were, though one commit was in doubt
          const epochs = member.owned.map(({ epoch }) => epoch)
          const other = yield* join({ ...settings, topics: [yield* broker.topic(1)] })
          yield* until("assigned again", () => other.owned.length === 1 && member.of("Assigned").length >= 2)
          assert.deepStrictEqual(
            member.owned.map(({ epoch, retained }) => [epoch, retained]),
            epochs.map((epoch) => [epoch, true])
          )
        }).pipe(Effect.provide(instrumented(kafka.proxied)))
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "a rolling restart of three brokers: no rebalance where only leaders move, nothing lost, nothing twice",
    () =>
      Effect.gen(function* () {
        const kafka = yield* Kafka.start({ own: true, nodes: 3 })
        yield* Effect.gen(function* () {
          const broker = yield* world(kafka.brokers)
          const topic = yield* broker.topic(6)
          const member = yield* join(
            settingsOf(unique("group"), [topic], { sessionTimeout: 20_000, metadataMaxAge: 2000 })
          )
          yield* until("assigned", () => member.owned.length === 6)
          const epochs = member.owned.map(({ epoch }) => epoch)
          let count = 0
          const write = Effect.gen(function* () {
            for (let partition = 0; partition < 6; partition++)
              yield* broker.send(topic, partition, numbers(count, count + 10))
            count += 10
          })
          yield* write
          yield* until("the records", () => member.records.length === count * 6)
          for (const node of [0, 1, 2]) {
            yield* kafka.stop(node)
            yield* write
            yield* until(`the records without node ${node}`, () => member.records.length === count * 6, 30_000)
            yield* kafka.restart(node)
            yield* write
            yield* until(`the records with node ${node}`, () => member.records.length === count * 6, 30_000)
          }
          assert.strictEqual(member.of("Lost").length, 0)
          assert.strictEqual(member.of("Revoking").length, 0)
          assert.deepStrictEqual(
            member.owned.map(({ epoch }) => epoch),
            epochs
          )
          onceEach(member, count * 6)
          assert.strictEqual((yield* member.commit(0, 20n)).outcome, "committed")
          yield* until("it is well", () => (member.of("Connection").at(-1)?.state ?? "up") === "up")
        }).pipe(Effect.provide(KafkaJs.layer({ brokers: kafka.brokers })))
      }).pipe(Effect.scoped),
    180_000
  )
})

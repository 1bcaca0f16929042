/**
 * Suite: sessions and producers of a Kafka that goes away, is silent, and comes back. It takes long: there is a member for each group
 * protocol that the client has.
 */
import { KafkaProducer, type ProducerRecord, type PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Kafka from "../../../../test/kafka/kafka.ts"
import { checkOptions, makeProducer, producerSettings } from "../../src/Driver.ts"
import { besideOf, type Client, instrumented, protocolsOf } from "../client.ts"
import { controlOf } from "../instrumented.ts"
import { logOf } from "../logs.ts"
import { assertOnceEach, join, type Member, numbers, range, settingsOf, unique, until } from "../members.ts"
import { type World, world } from "../operator.ts"

class Own extends Context.Service<Own, Kafka.Kafka>()("test/outage/Own") {
  /** One for the tests of a suite: each leaves it as it was. */
  static readonly layer = Layer.effect(Own, Kafka.start({ own: true, proxy: true }))
}

const utf8 = new TextEncoder()

const end = (broker: World, topic: string) =>
  broker.promise(async () => {
    const offsets = await broker.admin.fetchTopicOffsets(topic)
    return offsets.reduce((sum, { high }) => sum + Number(high), 0)
  })

export const outage = (client: Client): void => {
  besideOf(client, "a Kafka that goes away", () => {
    layer(Own.layer, { excludeTestServices: true, timeout: 90_000 })((it) => {
      it.effect(
        "SIGKILL and a restart 30 seconds later: it recovers within seconds, with everything retained and nothing twice",
        () =>
          Effect.gen(function* () {
            const kafka = yield* Own
            yield* Effect.gen(function* () {
              const broker = yield* world(kafka.brokers)
              const topic = yield* broker.topic(3)
              for (const partition of [0, 1, 2]) yield* broker.send(topic, partition, numbers(0, 100))
              const members = yield* Effect.forEach(protocolsOf(client), (groupProtocol) =>
                join(settingsOf(unique("group"), [topic], { groupProtocol, sessionTimeout: 3000 }))
              )
              const each = <A>(f: (member: Member, i: number) => Effect.Effect<A>) =>
                Effect.forEach(members, f, { concurrency: "unbounded" })
              yield* each((member) => until("the records", () => member.records.length === 300))
              yield* each((member) => Effect.forEach([0, 1, 2], (partition) => member.commit(partition, 50n, "before")))
              const epochs = members.map((member) => new Map(member.owned.map((p) => [p.partition, p.epoch])))

              // a loaded machine may have had trouble before
              const before = members.map((member) => member.of("Connection").length)
              yield* kafka.kill(0)
              const killed = performance.now()
              yield* each((member, i) => until("it is told", () => member.of("Connection").length > before[i]!))
              for (const [i, member] of members.entries()) {
                const down = member.of("Connection")[before[i]!]
                assert.strictEqual(down!.state, "down")
                assert.include(["Connection", "Timeout"], Option.getOrThrow(down!.cause).reason)
                const during = yield* member.commit(0, 60n)
                assert.strictEqual(during.outcome, "retriable")
              }
              // ten times as long as the session of the classic protocol
              yield* Effect.sleep(30_000 - (performance.now() - killed))
              yield* kafka.restart(0)
              const began = performance.now()
              yield* each((member) => until("it is told again", () => member.of("Connection").at(-1)!.state === "up"))
              yield* each((member) =>
                Effect.gen(function* () {
                  let outcome = yield* member.commit(0, 70n, "after")
                  while (outcome.outcome !== "committed" && performance.now() - began < 15_000) {
                    yield* Effect.sleep(50)
                    outcome = yield* member.commit(0, 70n, "after")
                  }
                  assert.strictEqual(outcome.outcome, "committed")
                })
              )
              const again = yield* world(kafka.brokers)
              for (const partition of [0, 1, 2]) yield* again.send(topic, partition, numbers(100, 110))
              yield* each((member) => until("the new records", () => member.records.length === 330))
              assert.isBelow(performance.now() - began, 15_000)
              for (const [i, member] of members.entries()) {
                assert.strictEqual(member.of("Lost").length, 0)
                assert.strictEqual(member.owned.length, 3)
                for (const { epoch, partition } of member.owned) assert.strictEqual(epoch, epochs[i]!.get(partition))
                assertOnceEach(member, 330)
                assert.isUndefined(member.ended)
              }
            }).pipe(Effect.provide(client.layer({ brokers: kafka.brokers })))
          }),
        90_000
      )
    })
  })

  besideOf(client, "a Kafka that is away, or silent", () => {
    layer(Own.layer, { excludeTestServices: true, timeout: 90_000 })((it) => {
      it.effect(
        "one that is away when a session joins is waited for; an away one when the layer is built is waited for with waitForBroker",
        () =>
          Effect.gen(function* () {
            const kafka = yield* Own
            const broker = yield* world(kafka.brokers)
            const topic = yield* broker.topic(1)
            yield* broker.send(topic, 0, ["a"])
            yield* Effect.gen(function* () {
              yield* kafka.kill(0)
              const joining = yield* Effect.forEach(protocolsOf(client), (groupProtocol) =>
                Effect.forkScoped(join(settingsOf(unique("group"), [topic], { groupProtocol, topicTimeout: 1000 })))
              )
              const layered = yield* Effect.forkScoped(
                Layer.build(client.layer({ brokers: kafka.brokers, waitForBroker: true, connectTimeout: 500 }))
              )
              yield* Effect.sleep(1500)
              for (const one of joining) assert.isUndefined(one.pollUnsafe())
              assert.isUndefined(layered.pollUnsafe())
              yield* kafka.restart(0)
              yield* until("the layer is there", () => layered.pollUnsafe()?._tag === "Success")
              yield* until("all have joined", () => joining.every((one) => one.pollUnsafe()?._tag === "Success"))
              const members = yield* Effect.forEach(joining, Fiber.join)
              yield* until("and have the record", () => members.every((member) => member.records.length === 1))
            }).pipe(Effect.provide(client.layer({ brokers: kafka.brokers })))
          }),
        90_000
      )

      it.effect.each(protocolsOf(client))(
        "a commit without an answer: nobody knows, its connection is closed, and the next one is taken (%s protocol)",
        (groupProtocol) =>
          Effect.gen(function* () {
            const kafka = yield* Own
            const proxy = kafka.nodes[0]!.proxy!
            yield* Effect.gen(function* () {
              const broker = yield* world(kafka.brokers)
              const topic = yield* broker.topic(2)
              // a request is given up after a third of it
              const settings = settingsOf(unique("group"), [topic], { groupProtocol, sessionTimeout: 9000 })
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
              assert.isTrue(client.socketsOf(before!).every(({ destroyed }) => destroyed))
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
              yield* until("the other has its topic", () => other.owned.length === 1)
              if (groupProtocol === "classic") {
                yield* until("assigned again", () => member.of("Assigned").length >= 2)
                assert.isTrue(member.owned.every(({ retained }) => retained))
              }
              assert.deepStrictEqual(
                member.owned.map(({ epoch }) => epoch),
                epochs
              )
              assert.strictEqual((yield* member.commit(0, 4n)).outcome, "committed")
            }).pipe(Effect.provide(instrumented(client, kafka.proxied)))
          }),
        90_000
      )

      it.effect(
        "answers that never arrive: what the broker has already is stored once, the rest is sent again, all in order",
        () =>
          Effect.gen(function* () {
            const kafka = yield* Own
            const proxy = kafka.nodes[0]!.proxy!
            const broker = yield* world(kafka.brokers)
            const topic = yield* broker.topic(2)
            const open = client.library.open(checkOptions({ brokers: kafka.proxied }), yield* Effect.context<never>())
            const settings = { ...producerSettings(60_000), requestTimeout: 2000 }
            const { send } = yield* makeProducer(() => open(2000, 0), settings)
            const value = (i: number): ProducerRecord => ({ topic, partition: i % 2, value: utf8.encode(`${i}`) })
            const sendAll = (from: number, to: number) =>
              Effect.forkChild(
                Effect.forEach(range(to - from), (i) => send([value(from + i)]), { concurrency: "unbounded" }),
                { startImmediately: true }
              )
            const stored = (count: number) =>
              Effect.gen(function* () {
                while ((yield* end(broker, topic)) < count) yield* Effect.sleep(10)
              })
            yield* Effect.flatMap(sendAll(0, 10), Fiber.join)
            // the connection is reset while the answer is on its way
            yield* proxy.blackhole("answers")
            const cut = yield* sendAll(10, 60)
            yield* stored(60)
            assert.isUndefined(cut.pollUnsafe())
            yield* proxy.cut
            yield* proxy.heal
            yield* Fiber.join(cut)
            // nothing is reset: the request times out
            yield* proxy.blackhole("answers")
            const silent = yield* sendAll(60, 120)
            yield* stored(120)
            yield* Effect.sleep(3500)
            assert.isUndefined(silent.pollUnsafe())
            yield* proxy.heal
            yield* Fiber.join(silent)
            // requests do not arrive
            yield* proxy.refuse
            const refused = yield* sendAll(120, 160)
            yield* Effect.sleep(500)
            yield* proxy.heal
            yield* Fiber.join(refused)
            yield* Effect.flatMap(sendAll(160, 200), Fiber.join)
            const logs = yield* Effect.provide(logOf(topic, 2, 200), client.layer({ brokers: kafka.brokers }))
            assert.deepStrictEqual(logs, [range(100).map((i) => `${i * 2}`), range(100).map((i) => `${i * 2 + 1}`)])
          }),
        90_000
      )

      it.effect(
        "a broker that stays away: a send fails with retriable after the delivery timeout, and nothing is left of the next when it closes",
        () =>
          Effect.gen(function* () {
            const kafka = yield* Own
            const broker = yield* world(kafka.brokers)
            const topic = yield* broker.topic(1)
            const producing = Effect.gen(function* () {
              const { send } = yield* KafkaProducer
              assert.isTrue(yield* send([{ topic, value: utf8.encode("before") }]))
              yield* kafka.kill(0)
              const began = performance.now()
              const error: PublishError = yield* Effect.flip(send([{ topic, value: utf8.encode("never") }]))
              assert.deepInclude(error, { reason: "retriable", isRetryable: true })
              const waited = performance.now() - began
              assert.isTrue(waited >= 2000 && waited < 8000, `${waited} ms`)
              return yield* Effect.forkDetach(Effect.flip(send([{ topic, value: utf8.encode("under way") }])), {
                startImmediately: true
              })
            })
            const left = yield* Effect.provide(
              producing,
              client.layer({ brokers: kafka.brokers, deliveryTimeout: "2 seconds" })
            )
            const error = yield* Fiber.join(left)
            assert.include(["closed", "retriable"], error.reason)
            yield* kafka.restart(0)
            const logs = yield* Effect.provide(logOf(topic, 1, 1), client.layer({ brokers: kafka.brokers }))
            assert.deepStrictEqual(logs, [["before"]])
          }),
        90_000
      )
    })
  })
}

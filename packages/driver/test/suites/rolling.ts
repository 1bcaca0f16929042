/**
 * Suite: sessions and producers of three brokers of which one goes and comes back: leaders and coordinators move. A rolling restart takes
 * long: there is one for a member of each group protocol that the client has.
 */
import { KafkaProducer, type ProducerRecord } from "@concurrent-kafka/core/KafkaProducer"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Kafka from "../../../../test/kafka/kafka.ts"
import { type Client, besideOf, protocolsOf } from "../client.ts"
import { logOf } from "../logs.ts"
import { assertOnceEach, join, type Member, numbers, range, settingsOf, unique, until } from "../members.ts"
import { world } from "../operator.ts"

class Own extends Context.Service<Own, Kafka.Kafka>()("test/rolling/Own") {
  /** One for all: each test leaves it as it was. */
  static readonly layer = Layer.effect(Own, Kafka.start({ own: true, nodes: 3 }))
}

const utf8 = new TextEncoder()

export const rolling = (client: Client): void => {
  besideOf(client, "three brokers of which one goes", () => {
    layer(Own.layer, { excludeTestServices: true, timeout: 90_000 })((it) => {
      it.effect(
        "a rolling restart of three brokers: no rebalance where only leaders move, nothing lost, nothing twice",
        () =>
          Effect.gen(function* () {
            const kafka = yield* Own
            yield* Effect.gen(function* () {
              const broker = yield* world(kafka.brokers)
              const topic = yield* broker.topic(6)
              const members = yield* Effect.forEach(protocolsOf(client), (groupProtocol) =>
                join(
                  settingsOf(unique("group"), [topic], { groupProtocol, sessionTimeout: 20_000, metadataMaxAge: 2000 })
                )
              )
              const all = (what: string, is: (member: Member) => boolean) =>
                Effect.forEach(members, (member) =>
                  until(`${what} (${member.session.settings.groupProtocol})`, () => is(member), 30_000)
                )
              yield* all("assigned", (member) => member.owned.length === 6)
              const epochs = members.map((member) => member.owned.map(({ epoch }) => epoch))
              let count = 0
              const write = Effect.gen(function* () {
                for (let partition = 0; partition < 6; partition++)
                  yield* broker.send(topic, partition, numbers(count, count + 10))
                count += 10
              })
              const written = (member: Member) => member.records.length === count * 6
              yield* write
              yield* all("the records", written)
              for (const node of [0, 1, 2]) {
                yield* kafka.stop(node)
                yield* write
                yield* all(`the records without node ${node}`, written)
                yield* kafka.restart(node)
                yield* write
                yield* all(`the records with node ${node}`, written)
              }
              for (const [i, member] of members.entries()) {
                assert.strictEqual(member.of("Lost").length, 0)
                assert.strictEqual(member.of("Revoking").length, 0)
                assert.deepStrictEqual(
                  member.owned.map(({ epoch }) => epoch),
                  epochs[i]
                )
                assertOnceEach(member, count * 6)
                assert.strictEqual((yield* member.commit(0, 20n)).outcome, "committed")
              }
              yield* all("it is well", (member) => (member.of("Connection").at(-1)?.state ?? "up") === "up")
            }).pipe(Effect.provide(client.layer({ brokers: kafka.brokers })))
          }),
        180_000
      )

      it.effect(
        "SIGKILL of one of three brokers and its return under constant sends: everything is confirmed, and in the log once and in order",
        () =>
          Effect.gen(function* () {
            const kafka = yield* Own
            yield* Effect.gen(function* () {
              const broker = yield* world(kafka.brokers)
              const topic = yield* broker.topic(6, { "min.insync.replicas": "2" })
              const strict = yield* broker.topic(1, { "min.insync.replicas": "3" })
              const { send } = yield* KafkaProducer
              let confirmed = 0
              let stop = false
              // several sends of each partition are always under way
              const writers = yield* Effect.forEach(range(6), (partition) =>
                Effect.forkChild(
                  Effect.gen(function* () {
                    let next = 0
                    yield* Effect.forEach(
                      range(20),
                      () =>
                        Effect.gen(function* () {
                          while (!stop) {
                            const records = range(1 + (next % 3)).map((): ProducerRecord => ({
                              topic,
                              partition,
                              value: utf8.encode(`${next++}`)
                            }))
                            yield* send(records)
                            confirmed += records.length
                            yield* Effect.sleep(2)
                          }
                        }),
                      { concurrency: "unbounded" }
                    )
                    return next
                  })
                )
              )
              const more = (count: number) => {
                const before = confirmed
                return until(`${count} more records are confirmed`, () => confirmed >= before + count, 60_000)
              }
              yield* more(3000)
              yield* kafka.kill(1)
              yield* more(3000)
              // fewer replicas than this topic wants: they wait
              const waiting = yield* Effect.forkChild(
                Effect.forEach(range(20), (i) => send([{ topic: strict, value: utf8.encode(`${i}`) }]), {
                  concurrency: "unbounded"
                })
              )
              yield* more(3000)
              assert.isUndefined(waiting.pollUnsafe())
              yield* kafka.restart(1)
              yield* more(3000)
              yield* Fiber.join(waiting)
              stop = true
              const counts = yield* Effect.forEach(writers, Fiber.join)
              const logs = yield* logOf(topic, 6, confirmed)
              logs.forEach((log, partition) => {
                assert.deepStrictEqual(
                  log,
                  range(counts[partition]!).map(String),
                  `partition ${partition} of ${counts[partition]} records`
                )
              })
              assert.deepStrictEqual(yield* logOf(strict, 1, 20), [range(20).map(String)])
            }).pipe(Effect.provide(client.layer({ brokers: kafka.brokers })))
          }),
        180_000
      )
    })
  })
}

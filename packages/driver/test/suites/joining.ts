/** Suite: how a session joins and leaves a group on a real broker. */
import type { Revoking } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { inject } from "vitest"
import { type Client, instrumented, protocolsOf, suiteOf } from "../client.ts"
import { controlOf } from "../instrumented.ts"
import { attend, join, settingsOf, unique, until } from "../members.ts"
import { createTopic, world } from "../operator.ts"

export const joining = (client: Client): void => {
  const brokers = inject("brokers")

  suiteOf(client, "joining and leaving on a real broker", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("a session says which group protocols its client has", () =>
        Effect.gen(function* () {
          const session = yield* (yield* KafkaClient).openSession(settingsOf(unique("group"), [unique("topic")]))
          assert.deepStrictEqual([...session.capabilities.groupProtocols].sort(), [...protocolsOf(client)].sort())
        })
      )

      it.effect("what is left goes to the others at once", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const settings = settingsOf(unique("group"), [topic])
          const a = yield* join(settings)
          const b = yield* join(settings)
          yield* until("both have one", () => a.owned.length === 1 && b.owned.length === 1)
          const asked = a.of("Revoking").length
          const began = performance.now()
          yield* a.session.leave
          assert.isBelow(performance.now() - began, 1000)
          yield* until("b has all", () => b.owned.length === 2)
          assert.isBelow(performance.now() - began, 2500)
          assert.strictEqual(a.of("Revoking").length, asked)
        })
      )

      it.effect("a leave while JoinGroup waits for others leaves no ghost behind", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const settings = settingsOf(unique("group"), [topic], { revokeTimeout: 8000, sessionTimeout: 10_000 })
          let asked: Revoking | undefined
          const a = yield* join(settings, { onRevoking: (signal) => (asked = signal) })
          yield* until("a has all", () => a.owned.length === 2)
          const b = yield* attend(
            yield* Effect.flatMap(KafkaClient, (kafkaClient) => kafkaClient.openSession(settings))
          )
          yield* b.session.join
          yield* until(
            "b's JoinGroup waits for a",
            () => asked !== undefined && controlOf(b.session).requests.includes("joinGroup")
          )
          const began = performance.now()
          yield* b.session.leave
          assert.isBelow(performance.now() - began, 2500)
          asked!.acknowledgeUnsafe()
          // a ghost would hold up the group until its session ends
          yield* until("a goes on", () => a.of("Assigned").length >= 2)
          assert.isBelow(performance.now() - began, 5000)
          assert.isTrue(a.owned.every(({ retained }) => retained))
        })
      )

      it.effect("a join that waits for a topic does not start once it was left", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const name = unique("late")
          const a = yield* attend(
            yield* Effect.flatMap(KafkaClient, (kafkaClient) =>
              kafkaClient.openSession(settingsOf(unique("group"), [name]))
            )
          )
          const joining = yield* Effect.forkScoped(a.session.join)
          yield* until("it waits", () => a.of("Connection").length > 0)
          yield* a.session.leave
          yield* kafka.promise(() => createTopic(kafka.admin, name, 1))
          yield* Fiber.await(joining)
          yield* Effect.sleep(500)
          assert.strictEqual(a.of("Assigned").length, 0)
          // it never creates a topic by asking for it
          const missing = unique("missing")
          yield* Effect.forkScoped(join(settingsOf(unique("group"), [missing])))
          yield* Effect.sleep(800)
          assert.notInclude(yield* kafka.promise(() => kafka.admin.listTopics()), missing)
        })
      )

      it.effect("a coordinator that forgets every member at once is not asked without a pause", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(1)
          const a = yield* attend(
            yield* Effect.flatMap(KafkaClient, (kafkaClient) =>
              kafkaClient.openSession(settingsOf(unique("group"), [topic]))
            )
          )
          const control = controlOf(a.session)
          control.joinAnswer = 25
          yield* a.session.join
          yield* Effect.sleep(1000)
          assert.isBelow(control.requests.filter((name) => name === "joinGroup").length, 12)
          control.joinAnswer = 0
          yield* until("a has joined", () => a.owned.length === 1)
        })
      )
    })
  })
}

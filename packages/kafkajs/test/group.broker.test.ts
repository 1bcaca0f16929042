import type { Revoking } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import kafkajs from "kafkajs"
import { inject } from "vitest"
import { controlOf, evict, holdSync, instrumented } from "./instrumented.ts"
import { attend, createTopic, join, settingsOf, unique, until, world } from "./support.ts"

const brokers = inject("brokers")
const clientOf = Effect.service(KafkaClient)
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => String(from + i))

layer(instrumented(brokers), { excludeTestServices: true, timeout: 60_000 })("a group on a real broker", (it) => {
  it.effect("a hold outlives the session timeout, and nobody is assigned anything before it is acknowledged", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(4)
      const settings = settingsOf(unique("group"), [topic], { sessionTimeout: 3000, revokeTimeout: 9000 })
      let asked: Revoking | undefined
      const a = yield* join(settings, { onRevoking: (signal) => (asked = signal) })
      yield* until("a has all", () => a.owned.length === 4)
      const b = yield* join(settings)
      yield* until("a is asked", () => asked !== undefined)
      yield* Effect.sleep(5000)
      assert.strictEqual(b.of("Assigned").length, 0)
      assert.strictEqual((yield* a.commit(3, 7n, "late")).outcome, "committed")
      asked!.acknowledgeUnsafe()
      yield* until("b has its share", () => b.owned.length === 2)
      yield* until("a has its share", () => a.owned.length === 2)
      assert.strictEqual(a.of("Lost").length, 0)
      assert.isTrue(a.owned.every(({ retained }) => retained))
      assert.deepStrictEqual(b.owned.find(({ partition }) => partition === 3)?.committed, {
        offset: 7n,
        metadata: "late"
      })
    })
  )

  it.effect("heartbeats have a clock of their own: a rebalance is noticed while a long poll waits", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(2)
      const settings = settingsOf(unique("group"), [topic], { maxWait: 8000, heartbeatInterval: 300 })
      const a = yield* join(settings)
      yield* until("a has all", () => a.owned.length === 2)
      const began = performance.now()
      const b = yield* join(settings)
      yield* until("both have one", () => a.owned.length === 1 && b.owned.length === 1)
      assert.isBelow(performance.now() - began, 3000)
    })
  )

  it.effect("commits between JoinGroup and Assigned are deferred and not sent", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(2)
      const settings = settingsOf(unique("group"), [topic])
      const leader = yield* join(settings)
      yield* until("the leader has all", () => leader.owned.length === 2)
      const a = yield* join(settings)
      yield* until("both have one", () => a.owned.length === 1 && leader.owned.length === 1)
      const { partition } = a.owned[0]!
      const control = controlOf(a.session)
      const release = yield* holdSync(a.session)
      const count = (request: string) => control.requests.filter((name) => name === request).length
      const [joins, syncs] = [count("joinGroup"), count("syncGroup")]
      yield* Effect.forkScoped(join(settings))
      yield* until("a's JoinGroup was sent", () => count("joinGroup") > joins)
      const sent = count("offsetCommit")
      assert.deepInclude(yield* a.commit(partition, 1n), { outcome: "deferred", code: "REBALANCE_IN_PROGRESS" })
      yield* until("a's SyncGroup is held", () => count("syncGroup") > syncs)
      assert.deepInclude(yield* a.commit(partition, 1n), { outcome: "deferred", code: "REBALANCE_IN_PROGRESS" })
      assert.strictEqual(count("offsetCommit"), sent)
      yield* release
      yield* until("a is assigned again", () => a.of("Assigned").length === 2)
      assert.isUndefined(yield* kafka.committed(settings.groupId, { topic, partition }))
    })
  )

  it.effect("a missed generation gives new epochs, whatever the member claims (a SyncGroup is late)", () =>
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
      assert.isTrue(leader.owned.filter(({ partition }) => !taken.includes(partition)).some(({ retained }) => retained))
    })
  )

  it.effect(
    "a committed offset, or map beside it, that is not ours any more makes a new epoch of a retained partition",
    () =>
      Effect.gen(function* () {
        const kafka = yield* world(brokers)
        const topic = yield* kafka.topic(4)
        const settings = settingsOf(unique("group"), [topic])
        const a = yield* join(settings)
        yield* until("a has all", () => a.owned.length === 4)
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
      })
  )

  it.effect("an eviction while nothing is held: everything is lost, and the next commit is not sent", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(2)
      const a = yield* join(settingsOf(unique("group"), [topic], { heartbeatInterval: 3000 }), {
        start: () => undefined
      })
      yield* until("a has all", () => a.owned.length === 2)
      const old = a.partition(0)
      yield* evict(brokers, a.session)
      // the commit finds out first, and the heartbeat follows at once: long before it is due
      const began = performance.now()
      assert.deepInclude(yield* a.commit(0, 1n), { outcome: "stale", code: "UNKNOWN_MEMBER_ID" })
      yield* until("lost", () => a.of("Lost").length === 1)
      assert.isBelow(performance.now() - began, 1500)
      yield* until("back", () => a.owned.length === 2)
      assert.deepInclude((yield* a.session.commit([{ ...old, offset: 1n, metadata: "" }]))[0]!, { code: "EPOCH" })
    })
  )

  it.effect.each([
    [15, "COORDINATOR_NOT_AVAILABLE"],
    [16, "NOT_COORDINATOR"]
  ] as const)("a commit that is answered with %d is retriable, and the coordinator is looked up anew", ([code, name]) =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(1)
      const a = yield* join(settingsOf(unique("group"), [topic]))
      yield* until("a has all", () => a.owned.length === 1)
      const control = controlOf(a.session)
      const before = control.coordinator
      control.commitAnswer = code
      assert.deepInclude(yield* a.commit(0, 1n), { outcome: "retriable", code: name })
      assert.deepInclude(yield* a.commit(0, 2n), { outcome: "committed" })
      assert.notStrictEqual(control.coordinator, before)
      assert.strictEqual(a.of("Lost").length + a.of("Revoking").length, 0)
    })
  )

  it.effect("an event loop that stands still for longer than the session: lost, and then new epochs", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(2)
      const a = yield* join(settingsOf(unique("group"), [topic], { sessionTimeout: 1500, heartbeatInterval: 300 }))
      yield* until("a has all", () => a.owned.length === 2)
      const before = a.owned.map(({ epoch }) => epoch)
      const stale = { ...a.partition(0), offset: 1n, metadata: "" }
      const end = performance.now() + 3000
      while (performance.now() < end) JSON.stringify(before)
      assert.include(["EPOCH", "UNKNOWN_MEMBER_ID"], ((yield* a.session.commit([stale]))[0] as { code?: string }).code)
      yield* until("lost", () => a.of("Lost").length === 1)
      yield* until("back", () => a.of("Assigned").length === 2 && a.owned.length === 2)
      for (const { epoch, retained } of a.owned) {
        assert.isFalse(retained)
        assert.notInclude(before, epoch)
      }
      assert.isUndefined(yield* kafka.committed(a.session.settings.groupId, { topic, partition: 0 }))
    })
  )

  it.effect("a hundred entries with their own results in one request", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(100)
      const settings = settingsOf(unique("group"), [topic])
      const a = yield* join(settings)
      yield* until("a has all", () => a.owned.length === 100)
      const control = controlOf(a.session)
      const sent = control.requests.filter((name) => name === "offsetCommit").length
      const outcomes = yield* a.session.commit(
        a.owned.map(({ epoch, partition }) => ({
          topic,
          partition,
          epoch,
          offset: BigInt(partition + 1),
          metadata: partition % 10 === 3 ? "x".repeat(5000) : partition === 50 ? "y".repeat(40_000) : `m${partition}`
        }))
      )
      assert.strictEqual(control.requests.filter((name) => name === "offsetCommit").length, sent + 1)
      for (const [i, { partition }] of a.owned.entries()) {
        const refused = partition % 10 === 3 || partition === 50
        assert.deepInclude(
          outcomes[i]!,
          refused ? { outcome: "rejected", code: "OFFSET_METADATA_TOO_LARGE" } : { outcome: "committed" }
        )
      }
      assert.isUndefined(yield* kafka.committed(settings.groupId, { topic, partition: 13 }))
      assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition: 99 }), {
        offset: "100",
        metadata: "m99"
      })
    })
  )

  it.effect("a plain kafkajs consumer shares the group: every partition has one owner", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(4)
      const settings = settingsOf(unique("group"), [topic])
      const a = yield* join(settings)
      yield* until("a has all", () => a.owned.length === 4)
      let theirs: ReadonlyArray<number> = []
      const consumer = yield* Effect.acquireRelease(
        Effect.sync(() =>
          kafka.kafka.consumer({ groupId: settings.groupId, heartbeatInterval: 300, sessionTimeout: 10_000 })
        ),
        (made) => Effect.promise(() => made.disconnect())
      )
      yield* kafka.promise(async () => {
        consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
          theirs = payload.memberAssignment[topic] ?? []
        })
        await consumer.connect()
        await consumer.subscribe({ topic, fromBeginning: true })
        await consumer.run({ autoCommit: false, eachMessage: async () => undefined })
      })
      yield* until("both have two", () => a.owned.length === 2 && theirs.length === 2)
      assert.deepStrictEqual(
        [...a.partitions(), ...theirs].sort((x, y) => x - y),
        [0, 1, 2, 3]
      )
      // the sticky assigner is not theirs: it is not used, and nothing is lost when they go
      yield* kafka.promise(() => consumer.disconnect())
      yield* until("a has all again", () => a.owned.length === 4)
      assert.strictEqual(a.of("Lost").length, 0)
    })
  )

  it.effect("a group with another assigner is waited for, and the signal names group and assigners", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(2)
      const settings = settingsOf(unique("group"), [topic])
      const consumer = kafka.kafka.consumer({
        groupId: settings.groupId,
        partitionAssigners: [(config) => ({ ...kafkajs.PartitionAssigners.roundRobin(config), name: "somebody-elses" })]
      })
      let joined = false
      yield* kafka.promise(async () => {
        consumer.on(consumer.events.GROUP_JOIN, () => {
          joined = true
        })
        await consumer.connect()
        await consumer.subscribe({ topic })
        await consumer.run({ eachMessage: async () => undefined })
      })
      yield* until("they have joined", () => joined)
      const a = yield* join(settings)
      yield* until("it is told", () => a.of("Connection").length > 0)
      const [down] = a.of("Connection")
      const cause = Option.getOrThrow(down!.cause)
      assert.deepInclude(cause, { reason: "ProtocolMismatch" })
      for (const name of [settings.groupId, "concurrent-kafka-sticky", "RoundRobinAssigner"])
        assert.include(cause.detail, name)
      yield* kafka.promise(() => consumer.disconnect())
      yield* until("a has all", () => a.owned.length === 2)
      assert.strictEqual(a.of("Connection").at(-1)!.state, "up")
      assert.isUndefined(a.ended)
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
      const b = yield* attend(yield* Effect.flatMap(clientOf, (client) => client.openSession(settings)))
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
        yield* Effect.flatMap(clientOf, (client) => client.openSession(settingsOf(unique("group"), [name])))
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

  it.effect("a commit that is retriable may have been stored: found by the next assignment, it is our own", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(1)
      const settings = settingsOf(unique("group"), [topic])
      const a = yield* join(settings)
      yield* until("a has all", () => a.owned.length === 1)
      const { epoch } = a.partition(0)
      // the replicas of the offsets are late; the broker has written all the same
      controlOf(a.session).commitAnswer = 15
      assert.deepInclude(yield* a.commit(0, 7n), { outcome: "retriable", code: "COORDINATOR_NOT_AVAILABLE" })
      assert.strictEqual((yield* kafka.committed(settings.groupId, { topic, partition: 0 }))?.offset, "7")
      yield* join({ ...settings, topics: [yield* kafka.topic(1)] })
      yield* until("assigned again", () => a.of("Assigned").length === 2)
      assert.deepInclude(a.owned[0], { epoch, retained: true })
    })
  )

  it.effect("a coordinator that forgets every member at once is not asked without a pause", () =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(1)
      const a = yield* attend(
        yield* Effect.flatMap(clientOf, (client) => client.openSession(settingsOf(unique("group"), [topic])))
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

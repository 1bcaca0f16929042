/** Suite: what a real broker makes of commits. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { inject } from "vitest"
import { type Client, type GroupProtocol, instrumented, noGenerations, skipping, suiteIn } from "../client.ts"
import { controlOf, holdSync } from "../instrumented.ts"
import { heldBy, join, settingsOf, unique, until } from "../members.ts"
import { alone, world } from "../operator.ts"

export const commits = (client: Client, groupProtocol: GroupProtocol = "classic"): void => {
  const brokers = inject("brokers")
  const classicAlone = skipping(groupProtocol === "consumer" ? noGenerations : undefined)

  suiteIn(client, groupProtocol, "commits on a real broker", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect(
        "commits between JoinGroup and Assigned are deferred and not sent",
        () =>
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
          }),
        classicAlone
      )

      it.effect.each([
        [15, "COORDINATOR_NOT_AVAILABLE"],
        [16, "NOT_COORDINATOR"]
      ] as const)(
        "a commit that is answered with %d is retriable, and the coordinator is looked up anew",
        ([code, name]) =>
          Effect.gen(function* () {
            const { a } = yield* alone(brokers, 1, { groupProtocol })
            const control = controlOf(a.session)
            const before = control.coordinator
            control.commitAnswer = code
            assert.deepInclude(yield* a.commit(0, 1n), { outcome: "retriable", code: name })
            assert.deepInclude(yield* a.commit(0, 2n), { outcome: "committed" })
            assert.notStrictEqual(control.coordinator, before)
            assert.strictEqual(a.of("Lost").length + a.of("Revoking").length, 0)
          })
      )

      it.effect("a hundred entries with their own results in one request", () =>
        Effect.gen(function* () {
          const { a, kafka, settings, topic } = yield* alone(brokers, 100, { groupProtocol })
          const control = controlOf(a.session)
          const sent = control.requests.filter((name) => name === "offsetCommit").length
          const outcomes = yield* a.session.commit(
            a.owned.map(({ epoch, partition }) => ({
              topic,
              partition,
              epoch,
              offset: BigInt(partition + 1),
              metadata:
                partition % 10 === 3 ? "x".repeat(5000) : partition === 50 ? "y".repeat(40_000) : `m${partition}`
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

      it.effect(
        "a commit that is retriable may have been stored: found by the next assignment, it is our own",
        () =>
          Effect.gen(function* () {
            const { a, kafka, settings, topic } = yield* alone(brokers, 1, { groupProtocol })
            const { epoch } = a.partition(0)
            // the replicas of the offsets are late; the broker has written all the same
            controlOf(a.session).commitAnswer = 15
            assert.deepInclude(yield* a.commit(0, 7n), { outcome: "retriable", code: "COORDINATOR_NOT_AVAILABLE" })
            assert.strictEqual((yield* kafka.committed(settings.groupId, { topic, partition: 0 }))?.offset, "7")
            yield* join({ ...settings, topics: [yield* kafka.topic(1)] })
            yield* until("assigned again", () => a.of("Assigned").length === 2)
            assert.deepInclude(a.owned[0], { epoch, retained: true })
          }),
        classicAlone
      )

      it.effect("an offset that a transaction is about to replace is waited for, and then told", () =>
        Effect.gen(function* () {
          const { a, kafka, settings, topic } = yield* alone(brokers, 1, { groupProtocol })
          assert.deepInclude(yield* a.commit(0, 1n), { outcome: "committed" })
          yield* a.session.leave
          const producer = yield* kafka.producer({
            transactionalId: unique("id"),
            maxInFlightRequests: 1,
            idempotent: true
          })
          const transaction = yield* kafka.promise(async () => {
            const begun = await producer.transaction()
            await begun.sendOffsets({
              consumerGroupId: settings.groupId,
              topics: [{ topic, partitions: [{ partition: 0, offset: "7" }] }]
            })
            return begun
          })
          const next = yield* join(settings)
          yield* until("it is said what is waited for", () =>
            next.of("Connection").some(({ cause }) => {
              const error = Option.getOrUndefined(cause)
              return error?.detail.endsWith("UNSTABLE_OFFSET_COMMIT") === true
            })
          )
          assert.strictEqual(next.owned.length, 0)
          yield* kafka.promise(() => transaction.commit())
          yield* until("assigned", () => next.owned.length === 1)
          assert.strictEqual(next.owned[0]!.committed?.offset, 7n)
          assert.strictEqual(next.of("Connection").at(-1)!.state, "up")
        })
      )

      it.effect("a transaction for a partition holds up no other, of no member", () =>
        Effect.gen(function* () {
          const { a, kafka, settings, topic } = yield* alone(brokers, 2, { groupProtocol })
          yield* a.session.leave
          const producer = yield* kafka.producer({
            transactionalId: unique("id"),
            maxInFlightRequests: 1,
            idempotent: true
          })
          const transaction = yield* kafka.promise(async () => {
            const begun = await producer.transaction()
            await begun.sendOffsets({
              consumerGroupId: settings.groupId,
              topics: [{ topic, partitions: [{ partition: 0, offset: "7" }] }]
            })
            return begun
          })
          // what else its member has goes on
          const first = yield* join(settings)
          yield* until("it has the other partition", () => heldBy(first).join() === "1")
          assert.deepInclude(yield* first.commit(1, 3n), { outcome: "committed" })
          const members = [first, yield* join(settings)]
          yield* until("one has the other partition", () => members.some((m) => heldBy(m).join() === "1"))
          const [own] = members.flatMap(({ owned }) => owned)
          assert.deepInclude(own, { partition: 1, topicCommitted: true })
          assert.isFalse(members.some((m) => heldBy(m).includes(0)))
          yield* kafka.promise(() => transaction.commit())
          const held = () => members.map((m) => heldBy(m).join()).toSorted()
          yield* until("each has its own", () => held().join(" ") === "0 1")
          const all = members.flatMap(({ owned }) => owned)
          assert.strictEqual(all.find(({ partition }) => partition === 0)!.committed?.offset, 7n)
        })
      )

      it.effect("what a coordinator answers to a commit is its outcome, and the session goes on", () =>
        Effect.gen(function* () {
          const { a } = yield* alone(brokers, 1, { groupProtocol })
          const { epoch } = a.partition(0)
          const answers = [
            [-1, "retriable", "UNKNOWN_SERVER_ERROR"],
            [7, "retriable", "REQUEST_TIMED_OUT"],
            [14, "retriable", "COORDINATOR_LOAD_IN_PROGRESS"],
            [27, "deferred", "REBALANCE_IN_PROGRESS"],
            [12, "rejected", "OFFSET_METADATA_TOO_LARGE"],
            [24, "rejected", "INVALID_GROUP_ID"],
            [28, "rejected", "REQUEST_TOO_LARGE"],
            [29, "rejected", "NOT_AUTHORIZED"],
            [30, "rejected", "NOT_AUTHORIZED"]
          ] as const
          for (const [answer, outcome, code] of answers) {
            controlOf(a.session).commitAnswer = answer
            const told: object = yield* a.commit(0, 1n)
            assert.deepInclude(told, { outcome, code })
          }
          assert.deepInclude(yield* a.commit(0, 2n), { outcome: "committed" })
          assert.strictEqual(a.partition(0).epoch, epoch)
          assert.isUndefined(a.ended)
        })
      )
    })
  })
}

/** A group of members on different clients, as while a deployment goes from one to the other (C23). */
import type { Revoking } from "@concurrent-kafka/core/ConsumerSession"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { inject } from "vitest"
import { client as kafkajs } from "../../kafkajs/test/client.ts"
import { client as platformatic } from "../../platformatic/test/client.ts"
import { type Client, nameOf, suiteOf } from "./client.ts"
import { join, type Member, numbers, range, settingsOf, unique, until } from "./members.ts"
import { world } from "./operator.ts"

const brokers = inject("brokers")
const perPartition = 50
const partitions = 6

const both: ReadonlyArray<readonly [first: Client, second: Client]> = [
  [kafkajs, platformatic],
  [platformatic, kafkajs]
]

for (const [first, second] of both) {
  suiteOf(
    first,
    "one group of two clients",
    () => {
      it.live(
        `partitions are split, handed over to ${nameOf(second)} and back, and nothing is lost or handled twice`,
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(partitions)
            let count = 0
            const write = Effect.gen(function* () {
              for (const partition of range(partitions))
                yield* kafka.send(topic, partition, numbers(count, count + perPartition))
              count += perPartition
            })
            const settings = settingsOf(unique("group"), [topic])
            /** Commits all that it has been given, with a word about who it was: also when its partitions are taken. */
            const commitAll = (client: Client, member: Member) =>
              Effect.forEach(member.owned, (own) => {
                const offset = member.position.get(`${topic}/${own.partition}`)
                return offset === undefined ? Effect.void : member.commit(own.partition, offset, nameOf(client))
              })
            const open = (client: Client, scope: Scope.Scope) =>
              Effect.gen(function* () {
                const context = yield* Layer.buildWithScope(client.layer({ brokers }), scope)
                const run = Effect.runForkWith(yield* Effect.context<never>())
                const onRevoking = (revoking: Revoking, member: Member) =>
                  void run(Effect.andThen(commitAll(client, member), Effect.sync(revoking.acknowledgeUnsafe)))
                return yield* join(settings, { onRevoking }).pipe(Effect.provide(context), Scope.provide(scope))
              })
            const [scopeA, scopeB] = [yield* Scope.fork(yield* Effect.scope), yield* Scope.fork(yield* Effect.scope)]
            const a = yield* open(first, scopeA)
            yield* write
            yield* until("a has all records", () => a.records.length === count * partitions)

            // to the other
            const b = yield* open(second, scopeB)
            yield* until("both have their share", () => a.owned.length === 3 && b.owned.length === 3)
            assert.deepStrictEqual(
              [...a.partitions(), ...b.partitions()].sort((x, y) => x - y),
              range(partitions)
            )
            assert.isTrue(a.owned.every(({ retained }) => retained))
            for (const own of b.owned)
              assert.deepStrictEqual(own.committed, { offset: BigInt(count), metadata: nameOf(first) })
            yield* write
            yield* until("both have their records", () => a.records.length + b.records.length === count * partitions)

            // and back
            const taken = b.partitions()
            yield* commitAll(second, b)
            yield* Scope.close(scopeB, Exit.void)
            yield* until("a has all again", () => a.owned.length === partitions)
            for (const own of a.owned) {
              assert.strictEqual(own.retained, !taken.includes(own.partition))
              if (!own.retained)
                assert.deepStrictEqual(own.committed, { offset: BigInt(count), metadata: nameOf(second) })
            }
            yield* write
            yield* until("a has the rest", () => a.records.length + b.records.length === count * partitions)
            yield* commitAll(first, a)
            const seen = [...a.records, ...b.records].map(({ offset, partition }) => `${partition}/${offset}`)
            assert.strictEqual(new Set(seen).size, seen.length, "nothing comes twice")
            for (const partition of range(partitions)) {
              assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition }), {
                offset: `${count}`,
                metadata: nameOf(first)
              })
            }
            assert.strictEqual(a.of("Lost").length + b.of("Lost").length, 0)
          }),
        60_000
      )
    },
    second.unsupported
  )
}

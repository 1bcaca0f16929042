/**
 * Order by key over everything that may come between: random latencies, failures with retries, handlers that ignore their timeout,
 * rebalances. What each handler does is looked at when it starts and when it ends, against the definition of a lane.
 *
 * `ORDERING_SEED` plays another history.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { TestClock } from "effect/testing"
import type { ConsumerRecord, Delivery } from "../src/ConsumerRecord.ts"
import { type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { Boom, turns, world } from "./harness.ts"

const firstSeed = Number(process.env["ORDERING_SEED"] ?? 7)

const topics = ["t", "u"] as const
const partitions = 3
const recordsEach = 4_167
const concurrency = 48
const mostAttempts = 5
const timeoutMillis = 300

const chance = (seed: number) => {
  let state = seed
  /** from 0 to n - 1 */
  return (n: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % n
  }
}

const decoder = new TextDecoder()
const keyOf = (record: ConsumerRecord): string | undefined =>
  record.key === null ? undefined : decoder.decode(record.key)

interface Lane {
  /** handlers that run, zombies included */
  running: number
  epoch: number
  /** of the newest record that was started in this epoch */
  offset: bigint
  attempt: number
  /** nothing more of this record is to come */
  decided: boolean
}

for (const [i, [ordering, protocol]] of (
  [
    ["key", "eager"],
    ["key", "incremental"],
    ["function", "eager"],
    ["function", "incremental"]
  ] as const
).entries()) {
  const seed = firstSeed * 1_000 + i

  describe(`order by ${ordering}, ${protocol} rebalances, seed ${seed}`, () => {
    it.effect(
      "I4: 25,000 random records: never two of a lane at once, in offset order in each epoch, retries before the next, every record done",
      () =>
        Effect.gen(function* () {
          const next = chance(seed)
          const w = yield* world({ topics, partitions, protocol })
          w.expect("passedOver")
          const problems: Array<string> = []
          const problem = (text: string): void => {
            if (problems.length < 10) problems.push(text)
          }
          /** an order function dies of some */
          const orderDies = (record: ConsumerRecord): boolean => ordering === "function" && record.offset % 199n === 7n
          const laneOf = (record: ConsumerRecord): string | undefined => {
            if (orderDies(record)) throw new RangeError("no order")
            return ordering === "key" ? keyOf(record) : (keyOf(record) ?? "none").slice(0, 3)
          }

          const place = ({ partition, topic }: { readonly topic: string; readonly partition: number }): string =>
            `${topic}/${partition}`
          const done = new Map<string, Uint8Array>()
          for (const topic of topics) {
            for (let partition = 0; partition < partitions; partition++) {
              yield* w.kafka.produceMany({ topic, partition }, recordsEach, () => {
                const r = next(100)
                const key = r < 10 ? null : r < 30 ? "hot" : r < 60 ? `k${next(10)}` : `key-${next(1_000)}`
                return { key: key === null ? null : new TextEncoder().encode(key), value: null }
              })
              done.set(place({ topic, partition }), new Uint8Array(recordsEach))
            }
          }
          // I1, looked at with each commit
          const committed = new Map<string, number>()
          w.kafka.onCommitUnsafe(({ entries }) => {
            for (const { code, offset, ...p } of entries) {
              if (code !== undefined) continue
              for (let o = committed.get(place(p)) ?? 0; o < Number(offset); o++) {
                if (done.get(place(p))![o] !== 1) problem(`${place(p)} commits ${offset} and ${o} is not done`)
              }
              committed.set(place(p), Number(offset))
            }
          })

          const lanes = new Map<string, Lane>()
          let runningNow = 0
          let most = 0
          let mostWithoutKey = 0
          let withoutKey = 0
          const seen = { attempts: 0, retries: 0, failures: 0, dead: 0, ignored: 0, interrupted: 0, orderless: 0 }

          /** returns what is to be done when it ends */
          const begins = (member: string, record: Delivery): ((exit: Exit.Exit<unknown, unknown>) => void) => {
            seen.attempts++
            if (record.attempt > 1) seen.retries++
            most = Math.max(most, ++runningNow)
            const name = laneOf(record)
            if (name === undefined) mostWithoutKey = Math.max(mostWithoutKey, ++withoutKey)
            const where = `${member} ${place(record)} ${name}`
            let lane = name === undefined ? undefined : lanes.get(where)
            if (name !== undefined) {
              if (lane === undefined) {
                lane = { running: 0, epoch: -1, offset: -1n, attempt: 0, decided: true }
                lanes.set(where, lane)
              }
              if (++lane.running > 1) problem(`two at once: ${where} at ${record.offset}`)
              if (record.epoch < lane.epoch) problem(`${where} goes back to epoch ${record.epoch}`)
              if (record.epoch > lane.epoch) {
                if (record.attempt !== 1)
                  problem(`${where} begins epoch ${record.epoch} with attempt ${record.attempt}`)
              } else if (record.offset === lane.offset) {
                if (record.attempt !== lane.attempt + 1) problem(`${where} ${record.offset}: attempt ${record.attempt}`)
              } else {
                if (record.offset < lane.offset) problem(`${where} goes back from ${lane.offset} to ${record.offset}`)
                if (!lane.decided) problem(`${where} passes ${lane.offset} by ${record.offset}`)
                if (record.attempt !== 1) problem(`${where} ${record.offset} begins with attempt ${record.attempt}`)
              }
              lane.epoch = record.epoch
              lane.offset = record.offset
              lane.attempt = record.attempt
              lane.decided = false
            }
            return (exit) => {
              runningNow--
              if (name === undefined) withoutKey--
              if (lane !== undefined) lane.running--
              if (Exit.isFailure(exit)) return
              done.get(place(record))![Number(record.offset)] = 1
              if (lane !== undefined && lane.offset === record.offset && lane.epoch === record.epoch)
                lane.decided = true
            }
          }

          const handlerOf = (member: string) =>
            Handler.make(topics, (record) =>
              Effect.suspend(() => {
                const ends = begins(member, record)
                const r = next(1_000)
                const work =
                  r < 550
                    ? Effect.void
                    : r < 700
                      ? Effect.yieldNow
                      : r < 930
                        ? Effect.sleep(1 + next(25))
                        : r < 960
                          ? Effect.fail(new Boom())
                          : r < 980
                            ? Effect.andThen(Effect.sleep(1 + next(10)), Effect.fail(new Boom()))
                            : r < 988
                              ? Effect.die("a bug")
                              : r < 993
                                ? Effect.sleep(2 * timeoutMillis)
                                : r < 996
                                  ? Effect.onExit(Effect.sleep(2 * timeoutMillis), () => Effect.sleep(next(100)))
                                  : r < 997
                                    ? Effect.interrupt
                                    : Effect.sync(() => void seen.ignored++).pipe(
                                        Effect.andThen(Effect.sleep(timeoutMillis + next(2_000))),
                                        Effect.uninterruptible
                                      )
                return Effect.onExit(work, (exit) => Effect.sync(() => ends(exit)))
              })
            ).pipe(Handler.timeout(timeoutMillis)) as unknown as Handler<Boom, never>

          const policyOf = (member: string) =>
            FailurePolicy.make((failed: Failure<Boom>) => {
              seen.failures++
              const { attempt, kind, record } = failed
              if (kind === "defect") seen.dead++
              if (kind === "interrupted") seen.interrupted++
              if (attempt !== record.attempt) problem(`${place(record)} ${record.offset}: attempt ${attempt}`)
              const answer =
                attempt < mostAttempts && next(10) > 0
                  ? { _tag: "Retry" as const, after: [0, 0, 1, 5, 20, 100, 1_000][next(7)]! }
                  : { _tag: "Skip" as const }
              return Effect.as(next(20) === 0 ? Effect.sleep(next(30)) : Effect.void, answer).pipe(
                Effect.tap(() =>
                  Effect.sync(() => {
                    if (answer._tag === "Retry") return
                    done.get(place(record))![Number(record.offset)] = 1
                    if (orderDies(record)) {
                      seen.orderless++
                      return
                    }
                    const lane = lanes.get(`${member} ${place(record)} ${laneOf(record)}`)
                    if (lane?.offset === record.offset && lane.epoch === record.epoch) lane.decided = true
                  })
                )
              )
            })

          const member = (name: string) =>
            w.member(name, {
              topics,
              concurrency,
              ordering: ordering === "key" ? "key" : (record) => laneOf(record)!,
              handler: handlerOf(name),
              policy: policyOf(name),
              batchSize: 200,
              interruptGrace: 200,
              revokeDrain: 100
            })
          const a = yield* member("a")
          const b = yield* member("b")

          const allDone = (): boolean => [...done.keys()].every((p) => committed.get(p) === recordsEach)
          let events = 0
          let nextEvent = 200
          let passed = 0
          for (; !allDone() && passed < 300_000; passed += 25) {
            yield* TestClock.adjust(25)
            if (passed < nextEvent || events === 12) continue
            nextEvent = passed + 100 + next(800)
            events++
            const who = next(2) === 0 ? a : b
            const what = next(4)
            if (what < 2) yield* w.kafka.rebalance("g")
            else if (what === 2) yield* who.session().evict
            else {
              // its `run` ends, and begins again while its zombies still run
              yield* Effect.forkChild(Effect.andThen(who.interrupt, who.run))
            }
          }
          const told = `seed ${seed}`
          assert.deepStrictEqual(problems, [], told)
          for (const [p, bits] of done) assert.strictEqual(bits.indexOf(0), -1, `${told}: ${p}`)
          assert.isTrue(allDone(), `${told}: all committed within ${passed} ms, of ${JSON.stringify([...committed])}`)
          yield* TestClock.adjust(5_000)
          yield* turns
          for (const lane of lanes.values()) assert.strictEqual(lane.running, 0, told)
          assert.isAtMost(most, 2 * concurrency)
          // lanes are not all that there is
          assert.isAbove(mostWithoutKey, ordering === "key" ? 1 : -1, told)
          assert.isAbove(most, concurrency / 2, told)
          const counted = { attempts: 0, retries: 0 }
          for (const one of [a, b]) {
            const { attempts, held, partitions, permits, retries } = yield* one.consumer.snapshot
            counted.attempts += attempts
            counted.retries += retries
            assert.deepInclude(permits, { used: 0, byZombies: 0 }, told)
            assert.strictEqual(held.records, 0, told)
            for (const { waiting, zombies } of partitions) assert.deepStrictEqual([waiting, zombies], [0, 0], told)
          }
          // what dies of its order never comes to the handler, and what is interrupted before its first step has not begun
          assert.isAtLeast(counted.attempts, seen.attempts, told)
          assert.isAtLeast(counted.retries, seen.retries, told)
          assert.isAtLeast(seen.retries, seen.failures / 2, told)
          // all of it has happened
          assert.isAbove(events, 5, told)
          for (const kind of ["failures", "dead", "ignored", "interrupted"] as const)
            assert.isAbove(seen[kind], 0, kind)
          if (ordering === "function") assert.isAbove(seen.orderless, 0)
        }),
      60_000
    )
  })
}

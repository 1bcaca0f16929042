/** What happens between processes and brokers, by proxies. */
import { Effect } from "effect"
import * as Ledger from "../ledger.ts"
import { behindProxy, work } from "../openings.ts"
import { nothingElse, type Scenario } from "../scenario.ts"

/** Kafka's OffsetCommit */
const offsetCommit = 8

export const network: Scenario = {
  name: "network",
  nodes: 1,
  partitions: 12,
  orderly: false,
  play: Effect.fnUntraced(function* (arena) {
    const { brokers, proxy } = yield* behindProxy(arena)
    // the third one is not disturbed
    const disturbed = [yield* arena.member({ brokers }), yield* arena.member({ brokers })]
    const members = [...disturbed, yield* arena.member()]
    yield* arena.load(work)
    yield* Effect.forEach(members, (one) => arena.handles(one, 100))
    const heal = Effect.andThen(
      proxy.heal,
      Effect.forEach(disturbed, (one) => arena.handles(one, 50), { concurrency: "unbounded" })
    )

    yield* proxy.delay("300 millis")
    yield* arena.goesOn(500)
    yield* heal
    for (let i = 0; i < 3; i++) {
      yield* proxy.cut
      yield* arena.goesOn(100)
    }
    // shorter than a session
    yield* proxy.blackhole()
    yield* Effect.sleep("3 seconds")
    yield* heal
    // longer: requests arrive, nobody hears what becomes of them
    yield* proxy.blackhole("answers")
    yield* arena.sees("the third one has all partitions", () => members[2]!.assigned === 12)
    yield* heal
    yield* proxy.refuse
    yield* Effect.sleep("2 seconds")
    yield* heal
    return nothingElse
  })
}

export const lostAnswer: Scenario = {
  name: "lost-answer",
  nodes: 1,
  partitions: 12,
  orderly: false,
  play: Effect.fnUntraced(function* (arena) {
    const { brokers, proxy } = yield* behindProxy(arena)
    const eaten = proxy.eaten
    const before = yield* eaten
    const members = [yield* arena.member({ brokers }), yield* arena.member({ brokers })]
    yield* arena.load(work)
    yield* Effect.forEach(members, (one) => arena.handles(one, 200))
    const eat = Effect.gen(function* () {
      const known = yield* eaten
      yield* proxy.eatAnswers(offsetCommit, 1)
      while ((yield* eaten) === known) yield* Effect.sleep("10 millis")
    }).pipe(Effect.timeout("20 seconds"), Effect.orDie)
    for (let i = 0; i < 4; i++) {
      yield* eat
      yield* Effect.forEach(members, (one) => arena.handles(one, 200), { concurrency: "unbounded" })
    }
    const times = (yield* eaten) - before
    // and one that never learns what became of its last commit
    yield* eat
    yield* members[0]!.kill
    yield* arena.sees("the other one has all partitions", () => members[1]!.assigned === 12)
    yield* arena.goesOn(500)
    return (facts) => {
      const lost = facts.rebalances.filter(({ kind }) => kind === "lost").length
      // the entries of a request were answered together
      const missed = Ledger.count(
        arena.db,
        "SELECT count(*) AS n FROM (SELECT DISTINCT pid, round(answered) FROM commits WHERE code = 'NO_ANSWER')"
      )
      return [
        ...(lost > 0 ? [`a lost answer cost ${lost} memberships`] : []),
        ...(missed < times ? [`${times} answers were eaten, ${missed} were missed`] : [])
      ]
    }
  })
}

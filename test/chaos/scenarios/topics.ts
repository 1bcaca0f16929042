/** What happens to topics: deleted and created again, and cut by retention. */
import { Effect } from "effect"
import * as Ledger from "../ledger.ts"
import type { Scenario } from "../scenario.ts"

export const recreated: Scenario = {
  name: "recreated",
  nodes: 1,
  partitions: 6,
  orderly: false,
  play: Effect.fnUntraced(function* (arena) {
    const members = [yield* arena.member({ metadataMaxAge: 2000 }), yield* arena.member({ metadataMaxAge: 2000 })]
    yield* arena.load({ perSecond: 300, keys: 400, millis: [100, 1500] })
    yield* Effect.forEach(members, (one) => arena.handles(one, 300))
    yield* arena.endLoad
    // handlers run, and what they do is of no use to anybody
    yield* arena.closeLog
    yield* arena.outside.deleteTopic(arena.topic)
    // a commit names a topic and not which one: who has not noticed yet could commit for the new one
    yield* arena.sees("health says that the topic is not there", () => members.every((one) => one.said("topicMissing")))
    yield* arena.createTopic
    yield* arena.openLog("b")
    // fewer than there were: what was committed of the old one lies behind the end of this one
    yield* arena.send(60, { keys: 400, millis: [20, 250] })
    yield* arena.goesOn(60)
    yield* arena.load({ perSecond: 200, keys: 400, millis: [20, 250] })
    yield* arena.goesOn(1000)
    return (facts) => {
      const { length } = facts.handlings.filter(({ log }) => log === "b")
      return length === 0 ? ["nothing of the new topic was handled"] : []
    }
  })
}

export const retention: Scenario = {
  name: "retention",
  nodes: 1,
  partitions: 3,
  orderly: true,
  play: Effect.fnUntraced(function* (arena) {
    // a fetch brings a megabyte: what is cut has not been read yet
    const all = { keys: 90, millis: [80, 120], bytes: 20_000 } as const
    for (let i = 0; i < 30; i++) yield* arena.send(40, all)
    const ends = yield* Effect.orDie(arena.outside.ends(arena.topic))
    const options = { concurrency: 4, maxHeldRecords: 20 }
    const members = [yield* arena.member(options), yield* arena.member(options)]
    yield* Effect.forEach(members, (one) => arena.handles(one, 30))
    for (const [partition, end] of ends) yield* arena.cut(partition, Math.floor((Number(end) * 2) / 3))
    yield* Effect.forEach(members, (one) => arena.handles(one, 50))
    yield* arena.load({ perSecond: 20, keys: 90, millis: [20, 120] })
    yield* arena.goesOn(100)
    return (facts) => {
      const missing = [...facts.deleted.values()].reduce((sum, gone) => sum + gone.size, 0)
      const counted = Ledger.count(arena.db, "SELECT sum(lost) AS n FROM states")
      return [
        ...(missing === 0 ? ["nothing was lost to retention"] : []),
        ...(missing === counted
          ? []
          : [`${missing} records were lost to retention, the members have counted ${counted}`])
      ]
    }
  })
}

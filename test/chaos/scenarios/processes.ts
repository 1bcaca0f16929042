/** What happens to processes: killed, stopped, blocked, exchanged, added. */
import { Effect } from "effect"
import { duplicates } from "../checks.ts"
import type { Facts } from "../facts.ts"
import * as Ledger from "../ledger.ts"
import { threeAtWork, work } from "../openings.ts"
import { nothingElse, type Scenario } from "../scenario.ts"

/** Where everything drains before it changes hands. */
const nothingTwice = (facts: Facts): ReadonlyArray<string> => {
  const { bound, twice } = duplicates(facts, true)
  const interrupted = facts.handlings.filter(({ outcome }) => outcome === "interrupted").length
  return [
    ...(twice + bound > 0
      ? [`${twice} records were handled twice, ${bound} may have been: everything had time to drain`]
      : []),
    ...(interrupted > 0 ? [`${interrupted} handlers were interrupted, although there was time to drain`] : [])
  ]
}

export const kill: Scenario = {
  name: "kill",
  nodes: 1,
  partitions: 12,
  orderly: true,
  play: Effect.fnUntraced(function* (arena) {
    const members = [...(yield* threeAtWork(arena))]
    for (let i = 0; i < 3; i++) {
      yield* members[i]!.kill
      const comes = yield* arena.member()
      members.push(comes)
      yield* arena.handles(comes, 100)
    }
    // two of the three at once
    yield* Effect.forEach([members[3]!, members[4]!], (one) => one.kill, { concurrency: 2 })
    yield* arena.handles(members[5]!, 500)
    return nothingElse
  })
}

export const frozen: Scenario = {
  name: "frozen",
  nodes: 1,
  partitions: 12,
  orderly: true,
  play: Effect.fnUntraced(function* (arena) {
    const [frozen, ...others] = yield* threeAtWork(arena)
    const stopped = Ledger.now()
    yield* frozen.signal("SIGSTOP")
    yield* arena.sees("the others have all partitions", () => others.reduce((sum, one) => sum + one.assigned, 0) === 12)
    yield* arena.goesOn(200)
    const woken = Ledger.now()
    yield* frozen.signal("SIGCONT")
    yield* arena.sees("it has noticed that its membership is lost", () => frozen.lost > 0)
    yield* arena.handles(frozen, 100)
    return (facts) => {
      const late = Ledger.count(
        arena.db,
        "SELECT count(*) AS n FROM commits c JOIN epochs e USING (pid, partition, epoch) " +
          "WHERE c.pid = ? AND e.begun < ? AND c.sent > ? AND c.outcome = 'committed'",
        frozen.pid,
        stopped,
        woken
      )
      const taken = facts.handlings.filter((h) => h.pid !== frozen.pid && h.started > stopped && h.started < woken)
      const before = [...facts.epochs.values()].flat().filter((e) => e.pid === frozen.pid && e.begun < stopped)
      const partitions = new Set(before.map(({ partition }) => partition))
      return [
        ...(late > 0 ? [`a process that was stopped committed ${late} times for epochs of before`] : []),
        ...(taken.some(({ partition }) => partitions.has(partition))
          ? []
          : ["nobody handled records of the partitions of the stopped process"])
      ]
    }
  })
}

export const blocked: Scenario = {
  name: "blocked",
  nodes: 1,
  partitions: 12,
  orderly: true,
  play: Effect.fnUntraced(function* (arena) {
    const members = yield* threeAtWork(arena)
    const losses = () => members.reduce((sum, one) => sum + one.lost, 0)
    for (let i = 0; i < 2; i++) {
      const before = losses()
      yield* arena.send(1, { keys: 400, millis: [9000, 9000], kindOf: () => "spins" })
      yield* arena.sees("the blocked process has lost its membership", () => losses() > before)
      yield* arena.sees("it has partitions again", () => members.every(({ assigned }) => assigned > 0))
      yield* arena.goesOn(200)
    }
    return nothingElse
  })
}

export const rollingDeploy: Scenario = {
  name: "rolling-deploy",
  nodes: 1,
  partitions: 12,
  orderly: true,
  play: Effect.fnUntraced(function* (arena) {
    const members = [...(yield* threeAtWork(arena))]
    for (let i = 0; i < 10; i++) {
      yield* members[i]!.terminate
      const comes = yield* arena.member()
      members.push(comes)
      yield* arena.handles(comes, 20)
    }
    return nothingTwice
  })
}

export const joins: Scenario = {
  name: "joins",
  nodes: 1,
  partitions: 12,
  orderly: true,
  play: Effect.fnUntraced(function* (arena) {
    yield* arena.load(work)
    const first = yield* arena.member()
    yield* arena.handles(first, 100)
    for (let i = 0; i < 15; i++) {
      yield* arena.member()
      yield* Effect.sleep("1 second")
    }
    yield* arena.sees(
      "each partition has a process of its own",
      () => arena.members.filter(({ assigned }) => assigned === 1).length === 12,
      "90 seconds"
    )
    yield* arena.goesOn(500)
    return nothingTwice
  })
}

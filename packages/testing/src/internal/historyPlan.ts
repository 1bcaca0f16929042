/**
 * What happens in a history, as plain data made from its seed: what is produced when, what goes wrong when, and under which
 * conditions. Any part of it can be left out, and what is left is a history too: that is how one is made shorter.
 */
import type { Api, Fault } from "../Faults.ts"
import { Prng } from "../Prng.ts"

/** How the whole history is, from its beginning to its end. */
export type Condition = "slow handlers" | "interleaved handlers" | "slow network" | "incremental protocol"

export type Trouble = { readonly at: number } & (
  | { readonly kind: "join" | "leave" | "restart"; readonly member: number }
  | { readonly kind: "evict" | "breakConnections"; readonly member: number }
  /** `ops`: in the middle of the next handler that has so many instructions, after these; without, at that moment. Down for so many ms. */
  | { readonly kind: "crash"; readonly member: number; readonly ops: number | undefined; readonly ms: number }
  | { readonly kind: "freeze"; readonly member: number; readonly ops: number | undefined; readonly ms: number }
  | { readonly kind: "disconnect"; readonly member: number; readonly ms: number }
  | { readonly kind: "rollingRestart" | "rebalance" }
  | { readonly kind: "brokerDown"; readonly ms: number }
  | { readonly kind: "fault"; readonly api: Api; readonly fault: Fault; readonly times: number }
)

export type Item =
  | { readonly _tag: "Condition"; readonly condition: Condition }
  | { readonly _tag: "Record"; readonly at: number; readonly index: number }
  | { readonly _tag: "Trouble"; readonly trouble: Trouble }

export interface Plan {
  readonly seed: number
  readonly members: number
  /** virtual milliseconds until everything heals */
  readonly length: number
  /** the longest pause that is put before or behind a handler */
  readonly slow: number
  /** the part of all instructions of handlers behind which others have their turn */
  readonly interleaving: number
  readonly items: ReadonlyArray<Item>
}

const retriable = ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT"]

const commitFault = (chance: Prng): Fault =>
  chance.pick<() => Fault>([
    () => ({ kind: "code", code: chance.pick(retriable) }),
    () => ({ kind: "dropped" }),
    () => ({ kind: "answerLost" }),
    () => ({ kind: "noAnswer" }),
    () => ({ kind: "slowAnswer", ms: chance.skewed(10, 4_000) })
  ])()

const requestFault = (chance: Prng): { readonly api: Api; readonly fault: Fault } => ({
  api: chance.pick<Api>(["join", "sync", "heartbeat", "offsetFetch", "fetch", "listOffsets"]),
  fault: chance.pick<() => Fault>([
    () => ({ kind: "dropped" }),
    () => ({ kind: "refused" }),
    () => ({ kind: "answerLost" }),
    () => ({ kind: "slowRequest", ms: chance.skewed(10, 8_000) }),
    () => ({ kind: "slowAnswer", ms: chance.skewed(10, 8_000) })
  ])()
})

/** What a record for the dead letters, or of a handler, meets. Nothing that is refused for good: the history has to end. */
const produceFault = (chance: Prng): Fault =>
  chance.pick<() => Fault>([
    () => ({ kind: "code", code: chance.pick(["NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS"]) }),
    () => ({ kind: "dropped" }),
    () => ({ kind: "answerLost" }),
    () => ({ kind: "slowAnswer", ms: chance.skewed(10, 4_000) })
  ])()

const troubleAt = (chance: Prng, at: number, members: number, runs: ReadonlyArray<number>): Trouble => {
  const member = chance.int(0, members - 1)
  const ops = chance.chance(0.2) ? undefined : chance.int(1, (runs.length === 0 ? 20 : chance.pick(runs)) + 2)
  const kind = chance.weighted({
    crash: 20,
    freeze: 4,
    restart: 2,
    join: 2,
    leave: 2,
    rebalance: 2,
    rollingRestart: 1,
    evict: 2,
    disconnect: 1,
    breakConnections: 1,
    brokerDown: 1,
    commitFault: 3,
    requestFault: 2,
    produceFault: 1
  })
  switch (kind) {
    case "crash":
      return { at, kind, member, ops, ms: chance.skewed(0, 10_000) }
    case "freeze":
      return { at, kind, member, ops, ms: chance.skewed(100, 60_000) }
    case "disconnect":
      return { at, kind, member, ms: chance.skewed(100, 40_000) }
    case "brokerDown":
      return { at, kind, ms: chance.skewed(50, 15_000) }
    case "commitFault":
      return { at, kind: "fault", api: "commit", fault: commitFault(chance), times: chance.int(1, 3) }
    case "requestFault":
      return { at, kind: "fault", ...requestFault(chance), times: chance.int(1, 2) }
    case "produceFault":
      return { at, kind: "fault", api: "produce", fault: produceFault(chance), times: chance.int(1, 3) }
    case "rebalance":
    case "rollingRestart":
      return { at, kind }
    case "evict":
    case "breakConnections":
      return { at, kind, member }
    default:
      return { at, kind, member }
  }
}

/** `runs`: how many instructions runs of the handler have, so that each of them is met as often. */
export const planOf = (seed: number, records: number, runs: ReadonlyArray<number>): Plan => {
  const chance = new Prng(seed, "plan")
  const members = chance.int(2, 3)
  const length = chance.pick([3_000, 15_000, 60_000])
  const bursts = Array.from({ length: chance.int(1, Math.max(1, records)) }, () => chance.int(0, length)).sort(
    (a, b) => a - b
  )
  const joins = Array.from({ length: members - 1 }, (_, i): Trouble => ({
    at: chance.int(0, length),
    kind: "join",
    member: i + 1
  }))
  // most of what goes wrong does so when there is something to do: at other times it changes nothing
  const moment = () => (chance.chance(0.7) ? chance.pick(bursts) + chance.skewed(0, 1_000) : chance.int(0, length))
  const others = Array.from({ length: chance.int(3, 9) }, () => troubleAt(chance, moment(), members, runs))
  const conditions: ReadonlyArray<Condition> = [
    "slow handlers",
    "interleaved handlers",
    "slow network",
    "incremental protocol"
  ]
  return {
    seed,
    members,
    length,
    slow: chance.pick([20, 300, 3_000]),
    interleaving: chance.pick([0.02, 0.3]),
    items: [
      ...conditions.filter(() => chance.chance(0.6)).map((condition): Item => ({ _tag: "Condition", condition })),
      ...[...joins, ...others].sort((a, b) => a.at - b.at).map((trouble): Item => ({ _tag: "Trouble", trouble })),
      ...Array.from({ length: records }, (_, index): Item => {
        const at = bursts[Math.floor((index * bursts.length) / records)]!
        return { _tag: "Record", at, index }
      })
    ]
  }
}

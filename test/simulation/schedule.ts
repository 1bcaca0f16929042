/**
 * When what happens in a history. It is made before the history begins, and each step of it has its own chance, by the seed and
 * the step's number: so a step can be left out, and all others stay what they were.
 */
import { Prng } from "@concurrent-kafka/testing/Prng"
import type { Action } from "./actionPlan.ts"
import type { Plan } from "./plan.ts"

export interface Step {
  readonly number: number
  /** milliseconds since the beginning */
  readonly at: number
  readonly action: Action
  /** how many it writes, where it writes */
  readonly records: number
}

/** What is left of a history when parts of it are left out. */
export interface Cut {
  /** the numbers of steps that are left out */
  readonly skip?: ReadonlySet<number> | undefined
  /** so many of its members */
  readonly members?: number | undefined
  /** each step writes so many records at most */
  readonly burst?: number | undefined
}

/** No history has fewer. */
export const least = { members: 3, partitions: 4, records: 300, faults: 5 } as const

/** Things that go wrong, in contrast to what users and operators do. */
export const faultActions: ReadonlySet<Action> = new Set([
  "crash",
  "freeze",
  "stutter",
  "evict",
  "disconnect",
  "breakConnections",
  "brokerDown",
  "missGeneration",
  "commitFault",
  "fatal",
  "requestFault",
  "produceFault",
  "storm",
  "cutWhileHeld",
  "loseWhileHeld",
  "failover",
  "clock",
  "retention",
  "truncate",
  "recreate",
  "delete"
])

/** Where the plan has too few of them. */
const anyFault = {
  commitFault: 4,
  requestFault: 4,
  produceFault: 1,
  freeze: 1,
  stutter: 1,
  evict: 1,
  disconnect: 1,
  crash: 1,
  brokerDown: 1
} as const

export const scheduleOf = (plan: Plan): ReadonlyArray<Step> => {
  const chance = new Prng(plan.seed, "schedule")
  const steps: Array<Omit<Step, "number">> = []
  const add = (at: number, action: Action, most = plan.burst): void => {
    // now and then more than anybody keeps room for in advance
    const many = plan.maxChunk >= 30 && chance.chance(0.005)
    const records = action !== "produce" ? 0 : many ? chance.int(300, 600) : chance.int(1, most)
    steps.push({ at, action, records })
  }
  const delay = () => Math.ceil(-Math.log(1 - chance.next()) * plan.pace)
  for (let at = delay(); at < plan.length; at += delay()) add(at, chance.weighted(plan.actions))
  const missing = () => least.records - steps.reduce((sum, { records }) => sum + records, 0)
  while (missing() > 0) add(chance.int(0, plan.length - 1), "produce", Math.max(plan.burst, 15))
  // where a plan has no trouble more can be asked, so that it comes late there
  const from = plan.troubled ? 0 : Math.floor(plan.length * 0.75)
  for (let faults = steps.filter(({ action }) => faultActions.has(action)).length; faults < least.faults; faults++) {
    add(chance.int(from, plan.length - 1), chance.weighted(anyFault))
  }
  return steps.sort((a, b) => a.at - b.at).map((step, i) => ({ number: i + 1, ...step }))
}

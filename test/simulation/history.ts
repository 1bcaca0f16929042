/**
 * One history: a seed's plan carried out, then everything healed, then nothing may be missing.
 */
import { type Cluster, MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Context from "effect/Context"
import * as Scope from "effect/Scope"
import { Actions } from "./actions.ts"
import { Checker } from "./checker.ts"
import type { Violation } from "./judge.ts"
import { Coverage, type Counts } from "./coverage.ts"
import type { Action } from "./actionPlan.ts"
import { featuresOf, type Plan, planOf } from "./plan.ts"
import { Prng } from "@concurrent-kafka/testing/Prng"
import { groupId, type Stage } from "./stage.ts"
import { Trace } from "./trace.ts"
import { type LogTruth, Truth } from "./truth.ts"
import { Realm, World } from "@concurrent-kafka/testing/World"
import { type Cut, faultActions, scheduleOf } from "./schedule.ts"

/** After everything has healed the group must be through within this time, whatever the timeouts of the plan are. */
const healingLimit = 240_000

export interface Result {
  readonly seed: number
  readonly violations: ReadonlyArray<Violation>
  readonly hash: string
  readonly lines: number
  readonly steps: number
  readonly records: number
  readonly partitions: number
  readonly members: number
  /** things that went wrong */
  readonly faults: number
  /** how many steps its schedule has, beside the first and the two of the end, and when each is */
  readonly schedule: ReadonlyArray<number>
  readonly virtualMillis: number
  readonly counts: Counts
  readonly trace: ReadonlyArray<string>
}

const makeCluster = (plan: Plan, realm: Realm, trace: Trace): { cluster: Cluster; scope: Scope.Closeable } => {
  const scope = Scope.makeUnsafe()
  const logger = Logger.make((entry) => trace.log("BROKER", String(entry.message)))
  const exit = Effect.runSyncExitWith(Context.add(realm.context, Logger.CurrentLoggers, new Set([logger])))(
    Scope.provide(
      MemoryKafka.make({
        requestLatency: plan.latency.request,
        fetchLatency: plan.latency.fetch,
        commitLatency: plan.latency.commit,
        maxChunk: plan.maxChunk,
        maxFetchRecords: plan.maxFetchRecords,
        initialRebalanceDelay: plan.initialRebalanceDelay,
        maxMetadataLength: plan.maxMetadata,
        trace: trace.verbose
      }),
      scope
    )
  )
  if (Exit.isFailure(exit)) throw new Error("the cluster cannot be made")
  return { cluster: exit.value, scope }
}

/** When a fault met a client, or the broker. That a group is asked to rebalance is none. */
const lastFaults = (cluster: Cluster): ((clientId: string) => number) => {
  const last = new Map<string, number>()
  let looked = 0
  return (clientId) => {
    const all = cluster.faults.injected()
    for (; looked < all.length; looked++) {
      const { at, clientId, kind } = all[looked]!
      if (kind !== "group:rebalance") last.set(clientId, at)
    }
    return Math.max(last.get(clientId) ?? 0, last.get("") ?? 0)
  }
}

/** The chance that decides whose turn it is begins anew with each step, so that a step that is left out changes no later turn. */
class Turns extends Prng {
  private step: Prng | undefined = undefined

  begins(seed: number, step: number): void {
    this.step = new Prng(seed, `turns ${step}`)
  }

  override next(): number {
    return this.step === undefined ? super.next() : this.step.next()
  }
}

export interface HistoryOptions extends Cut {
  readonly verbose?: boolean | undefined
  /** fails as soon as this is counted: to see how failures are told of */
  readonly forbids?: string | undefined
}

export const runHistory = async (seed: number, options: HistoryOptions = {}): Promise<Result> => {
  const { forbids, verbose = false } = options
  const plan = planOf(seed)
  const schedule = scheduleOf(plan)
  const turns = new Turns(seed, "turns")
  const world = new World(turns)
  const trace = new Trace(world, verbose)
  const coverage = new Coverage()
  const clusterRealm = new Realm("kafka", world)
  const { cluster } = makeCluster(plan, clusterRealm, trace)
  const ends = (topic: string, partition: number) => {
    try {
      return cluster.logOffsetsUnsafe(topic, partition)
    } catch {
      return undefined
    }
  }
  const truth = new Truth((topic, partition) => ends(topic, partition)?.start ?? 0n)
  const checker = new Checker(world, trace, truth, plan.latency.commit, ends)
  checker.lastFault = lastFaults(cluster)
  checker.happened = (feature) => coverage.count(`feature ${feature}`)
  for (const feature of featuresOf(plan)) checker.happened(feature)
  if (forbids !== undefined) {
    coverage.counted = (what) => {
      if (what === forbids) checker.violation("forbidden", what)
    }
  }
  if (verbose) trace.aside = () => cluster.traceUnsafe()
  let healed = false
  const stage: Stage = { world, cluster, checker, coverage, plan, healed: () => healed, cut: options }
  const actions = new Actions(stage)
  cluster.onCommitUnsafe((commit) => {
    trace.log(
      "BROKER",
      `commit of ${commit.memberId}@${commit.generation}: ${commit.entries
        .map((e) => `${e.topic}/${e.partition}=${e.offset}${e.code === undefined ? "" : ` ${e.code}`}`)
        .join(" ")}`
    )
    checker.commits.stored(commit)
  })
  world.onQuiet = () => actions.watch()
  const failed = () => checker.violations.length > 0

  const committedTo = (log: LogTruth) => cluster.committedUnsafe(groupId, log.topic, log.partition)?.offset
  /** lag 0, as the broker sees it */
  const lagging = (): string | undefined => {
    for (const log of truth.logs.values()) {
      if (log.gone) continue
      const { end } = cluster.logOffsetsUnsafe(log.topic, log.partition)
      const committed = committedTo(log)
      if (committed !== end && !(end === 0n && committed === undefined) && !checker.commits.isForeign(log, committed)) {
        return `${log.topic}/${log.partition} is committed to ${committed} of ${end}`
      }
    }
    return undefined
  }
  const begins = (step: number): boolean => {
    turns.begins(seed, step)
    return actions.begins(step)
  }
  const through = () => failed() || (lagging() === undefined && actions.unrest() === undefined)

  const finish = async (): Promise<void> => {
    healed = true
    trace.log("SIM", "everything heals")
    actions.heal()
    for (let round = 0; round < 2 && !failed(); round++) {
      const until = world.now + healingLimit
      while (world.now < until && !failed() && !through()) {
        await world.runUntil(Math.min(until, world.now + 1000), through)
        actions.keepAlive()
      }
      if (failed()) return
      const lag = lagging()
      if (lag !== undefined)
        return checker.violation("I3", `a stall: ${lag}, ${healingLimit / 1000} s after everything was healed`)
      if (actions.unrest() !== undefined) return checker.violation("I8", `no rest: ${actions.unrest()}`)
      actions.unnoticed()
      for (const log of truth.logs.values()) checker.commits.grownAgain(log, committedTo(log))
      const [missing] = truth.missing()
      if (missing !== undefined) {
        return checker.violation(
          "I3",
          `${missing.topic}/${missing.partition}@${missing.offset} is committed over and was never done`
        )
      }
      actions.checkIdle()
      if (round === 1) continue
      // it must still work, also after one more trouble that nothing follows: what only a later rebalance mends shows here
      if (!begins(schedule.length + 1)) continue
      const wait = actions.lastTrouble()
      await world.runUntil(world.now + 500, failed)
      actions.produceEverywhere()
      await world.runUntil(world.now + wait, failed)
    }
    if (failed()) return
    // with work in flight: what is done must be committed before the group is left
    await world.runUntil(world.now + 40_000, failed)
    if (begins(schedule.length + 2)) actions.produceEverywhere()
    await world.runUntil(world.now + actions.chance.int(0, 60), failed)
    trace.log("SIM", "everything closes")
    actions.closeAll()
    await world.runUntil(world.now + 60_000, () => failed() || actions.allClosed())
    if (failed()) return
    if (!actions.allClosed()) return checker.violation("I8", `a member does not close`)
    await world.runUntil(world.now + 30_000, failed)
    actions.checkClosed()
  }

  try {
    const began = world.now
    turns.begins(seed, 0)
    actions.begin()
    for (const step of schedule) {
      await world.runUntil(began + step.at, failed)
      if (failed()) break
      turns.begins(seed, step.number)
      actions.act(step)
    }
    if (!failed()) await world.runUntil(began + plan.length, failed)
    if (!failed()) await finish()
  } catch (error) {
    checker.violation("simulator", error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  for (const [kind, times] of cluster.faults.counts()) coverage.count(`fault ${kind}`, times)
  return {
    seed,
    violations: checker.violations,
    hash: trace.digest(),
    lines: trace.count,
    steps: world.steps,
    records: truth.byId.length,
    partitions: plan.topics.reduce((sum, topic) => sum + topic.partitions, 0),
    members: options.members ?? plan.members.length,
    faults: Object.entries(coverage.counts).reduce(
      (sum, [what, times]) => sum + (faultActions.has(what.replace(/^action /, "") as Action) ? times : 0),
      0
    ),
    schedule: schedule.map((step) => step.at),
    virtualMillis: world.now - 1_000_000,
    counts: coverage.counts,
    trace: verbose || failed() ? trace.text : []
  }
}

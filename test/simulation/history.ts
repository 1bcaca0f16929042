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
import { groupId, type Stage } from "./member.ts"
import { featuresOf, type Plan, planOf } from "./plan.ts"
import { Prng } from "@concurrent-kafka/testing/Prng"
import { Trace } from "./trace.ts"
import { Truth } from "./truth.ts"
import { Realm, World } from "@concurrent-kafka/testing/World"

/** After everything has healed the group must be through within this time, whatever the timeouts of the plan are. */
const healingLimit = 240_000

export interface Result {
  readonly seed: number
  readonly violations: ReadonlyArray<Violation>
  readonly hash: string
  readonly lines: number
  readonly steps: number
  readonly records: number
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

export const runHistory = async (seed: number, verbose: boolean): Promise<Result> => {
  const plan = planOf(seed)
  const world = new World(new Prng(seed, "turns"))
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
  checker.lastFault = () => cluster.faults.injected().at(-1)?.at ?? 0
  checker.happened = (feature) => coverage.count(`feature ${feature}`)
  for (const feature of featuresOf(plan)) checker.happened(feature)
  if (verbose) trace.aside = () => cluster.traceUnsafe()
  let healed = false
  const stage: Stage = { world, cluster, checker, coverage, plan, healed: () => healed }
  const actions = new Actions(stage, new Prng(seed, "actions"))
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

  /** lag 0, as the broker sees it */
  const lagging = (): string | undefined => {
    for (const log of truth.logs.values()) {
      if (log.gone) continue
      const { end } = cluster.logOffsetsUnsafe(log.topic, log.partition)
      const committed = cluster.committedUnsafe(groupId, log.topic, log.partition)?.offset
      if (committed !== end && !(end === 0n && committed === undefined) && !checker.commits.isForeign(log, committed)) {
        return `${log.topic}/${log.partition} is committed to ${committed} of ${end}`
      }
    }
    return undefined
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
      const wait = actions.lastTrouble()
      await world.runUntil(world.now + 500, failed)
      actions.produceEverywhere()
      await world.runUntil(world.now + wait, failed)
    }
    if (failed()) return
    // with work in flight: what is done must be committed before the group is left
    await world.runUntil(world.now + 40_000, failed)
    actions.produceEverywhere()
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
    actions.begin()
    const end = world.now + plan.length
    while (world.now < end && !failed()) {
      await world.runUntil(world.now + Math.ceil(-Math.log(1 - actions.chance.next()) * plan.pace), failed)
      if (!failed()) actions.act()
    }
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
    virtualMillis: world.now - 1_000_000,
    counts: coverage.counts,
    trace: verbose || failed() ? trace.text : []
  }
}

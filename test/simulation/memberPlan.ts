/**
 * What a process is like: the options of its consumer, and its client.
 */
import type { ConsumerOptions } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { Prng } from "@concurrent-kafka/testing/Prng"

/** `decide`: a function that decides everything there is to decide. `steps`: put together out of retry, park and dead letter. */
export type PolicyKind = "none" | "skip" | "make" | "stop" | "decide" | "steps"

export interface MemberPlan {
  readonly options: Omit<ConsumerOptions, "name" | "headerFilter"> & {
    readonly batchSize: number
    readonly batchInterval: number
    readonly minCommitInterval: number
    readonly sessionTimeout: number
    readonly heartbeatInterval: number
    readonly rebalanceTimeout: number
    readonly revokeTimeout: number
    readonly metadataMaxAge: number
    readonly maxWait: number
    readonly concurrency: number | "unbounded"
    readonly members: number
    readonly offsetMap: "own" | "all" | "off"
    readonly mapInterval: number
    readonly startFrom: "earliest" | "latest"
    readonly onOutOfRange: "earliest" | "latest"
    readonly shutdown: "interrupt" | "drain"
    readonly shutdownTimeout: number
    readonly interruptGrace: number
    readonly flushReserve: number
    readonly revokeDrain: number
    readonly maxHeldRecords: number
    readonly maxHeldBytes: number
    readonly maxUncommitted: number
  }
  readonly timeout: number | undefined
  readonly policy: PolicyKind
  readonly requestTimeout: number
  /** it is a program of its own, launched and interrupted as a whole */
  readonly launched: boolean
  readonly awaitedRevoke: boolean
  readonly perPartitionCommitResult: boolean
  /** the assignors that it offers: other versions know other ones, beside the one that all know */
  readonly assignors: ReadonlyArray<string>
  /** in which version it says what it owns, where its group is eager: other releases have other ones */
  readonly claims: number | "unreadable"
}

export const memberPlan = (
  chance: Prng,
  plan: {
    readonly latest: boolean
    readonly slow: number
    readonly zombies: boolean
    readonly lossy: boolean
    readonly parksLong: boolean
    readonly blocking: boolean
    readonly mapped: boolean
    readonly versions: boolean
    readonly several: boolean
  }
): MemberPlan => {
  const interruptGrace = chance.pick(plan.zombies ? [0, 200] : [0, 200, 1000])
  const flushReserve = chance.pick([300, 1000, 2000])
  const revokeDrain = chance.pick(plan.lossy ? [2000, 5000] : [0, 0, 500, 2000, 5000])
  const least = interruptGrace + flushReserve
  // a session is to be lost several times where handlers block
  const heartbeatInterval = chance.pick(plan.blocking ? [300] : plan.lossy ? [300, 1000] : [300, 1000, 3000])
  const revokeTimeout = revokeDrain + least + chance.pick([1, 500, 4000])
  const policy = chance.weighted<PolicyKind>(
    plan.parksLong || plan.blocking
      ? { skip: 1, decide: 6, steps: 4 }
      : { none: 2, skip: 2, make: 3, stop: 1, decide: 6, steps: 4 }
  )
  return {
    options: {
      members: plan.several ? chance.pick([1, 2, 2, 3]) : 1,
      concurrency:
        chance.weighted({ one: 1, few: 4, some: 3, many: 1, all: 1 }) === "one"
          ? 1
          : chance.pick(plan.blocking ? [10, 40, "unbounded"] : [2, 3, 5, 10, 40, "unbounded"]),
      offsetMap: plan.mapped ? chance.pick(["own", "own", "all"]) : "off",
      mapInterval: chance.pick([0, 200, 1000]),
      startFrom: plan.latest ? "latest" : "earliest",
      onOutOfRange: plan.latest ? "latest" : "earliest",
      maxUncommitted: chance.pick(plan.parksLong ? [8, 8, 20, 50] : [1, 3, 8, 50, 10_000, 10_000]),
      maxHeldRecords: chance.pick([1, 5, 20, 100, 20_000]),
      maxHeldBytes: chance.pick([1, 30, 500, 33_554_432, 33_554_432]),
      shutdown: chance.pick(["interrupt", "drain"]),
      shutdownTimeout: least + chance.pick([1, 1000, 6000, 15_000]),
      flushReserve,
      revokeDrain,
      interruptGrace,
      batchSize: chance.pick([1, 1, 3, 10, 40]),
      batchInterval: chance.pick([50, 500, 2000, 8000]),
      minCommitInterval: chance.pick([0, 50, 50, 400]),
      heartbeatInterval,
      sessionTimeout: heartbeatInterval * chance.pick([3, 5, 10]),
      rebalanceTimeout: revokeTimeout + chance.pick([1, 2000, 20_000]),
      revokeTimeout,
      metadataMaxAge: chance.pick([1000, 5000, 20_000]),
      maxWait: chance.pick([100, 250])
    },
    // a handler with a timeout can fail, and must have a policy
    timeout: policy !== "none" && chance.chance(plan.zombies ? 0.6 : 0.3) ? chance.pick([40, 400, 2500]) : undefined,
    policy,
    requestTimeout: chance.pick([1500, 5000, 12_000]),
    launched: chance.chance(0.2),
    awaitedRevoke: !chance.chance(0.12),
    perPartitionCommitResult: !chance.chance(0.15),
    claims: plan.versions ? chance.pick([0, 1, 1, 2, "unreadable"]) : 1,
    assignors: plan.versions ? chance.pick([["sticky"], ["sticky-2", "sticky"], ["sticky", "range"]]) : ["sticky"]
  }
}

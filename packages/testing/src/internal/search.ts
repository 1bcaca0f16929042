/**
 * Plays one history after another, and makes the first that fails as short as it can be.
 */
import { Topic } from "@concurrent-kafka/core/Topic"
import * as Effect from "effect/Effect"
import type { NewRecord } from "../MemoryKafka.ts"
import type { Chance, Produced, SimulatedRecord, SimulationReport } from "../Simulate.ts"
import { SimulationFailed } from "../SimulationFailed.ts"
import { type Counts, type Outcome, type Play, runHistory } from "./history.ts"
import { type Item, type Plan, planOf } from "./historyPlan.ts"
import { Prng } from "../Prng.ts"
import { shrink } from "./shrink.ts"
import { abridge } from "./timeline.ts"

/** Histories that are tried to find a shorter one, and their turns together: what is long enough to be long stays so. */
const maxTries = 400
const maxSteps = 20_000_000

export interface Found<W, O, EW, V> extends Omit<Play<W, O, EW>, "records" | "check"> {
  readonly records: (seed: number) => ReadonlyArray<SimulatedRecord<V>>
  readonly check: (produced: ReadonlyArray<Produced<V>>) => Effect.Effect<unknown, unknown, W | O>
  readonly seeds: number
  readonly first: number
}

type Failure<EW> = Exclude<NonNullable<Outcome<EW>["failure"]>, { readonly kind: "layer" }>

export const search = <W, O, EW, V>(
  options: Found<W, O, EW, V>
): Effect.Effect<SimulationReport, SimulationFailed | EW> =>
  Effect.gen(function* () {
    const total = { records: 0, runs: 0, repeated: 0, crashes: 0, crashesInHandlers: 0, virtualMillis: 0 }
    let runs: ReadonlyArray<number> = []
    // before the first one a history without any trouble: what fails in it fails always, and it tells how long a handler's run is
    for (let passed = -1; passed < options.seeds; passed++) {
      const seed = passed < 0 ? 0 : options.first + passed
      const made = options.records(seed)
      const records = yield* Effect.forEach(made, ({ encode, topic, value }) =>
        Effect.map(Effect.orDie(encode), (record) => ({ topic, record, value }))
      )
      const play: Play<W, O, EW> = {
        ...options,
        records,
        check: (ended) => options.check(ended.map(({ index, ...record }) => ({ ...record, value: made[index]!.value })))
      }
      const whole = planOf(seed, made.length, runs)
      const plan = passed < 0 ? { ...whole, items: whole.items.filter((item) => item._tag === "Record") } : whole
      const outcome = yield* Effect.promise(() => runHistory(play, plan, plan.items, false))
      const { failure } = outcome
      if (failure?.kind === "layer") return yield* Effect.failCause(failure.cause)
      if (failure !== undefined)
        return yield* yield* Effect.promise(() => shortest(play, plan, outcome, failure, passed))
      if (passed < 0) {
        runs = outcome.ops
        continue
      }
      add(total, outcome.counts)
      total.virtualMillis += outcome.virtualMillis
    }
    return { histories: options.seeds, ...total }
  })

const add = (total: { -readonly [K in keyof Counts]: number }, counts: Counts): void => {
  total.records += counts.records
  total.runs += counts.runs
  total.repeated += counts.repeated
  total.crashes += counts.crashes
  total.crashesInHandlers += counts.crashesInHandlers
}

const countOf = (items: ReadonlyArray<Item>, tag: Item["_tag"]): number =>
  items.filter((item) => item._tag === tag).length

/** Instructions of a handler at which one trouble alone is tried. */
const maxAim = 60

/**
 * Where several troubles are left, each that meets a handler in the middle, without the others: they may only have helped it to
 * come at the right instruction.
 */
function* aloneIn(items: ReadonlyArray<Item>): Generator<ReadonlyArray<Item>> {
  if (countOf(items, "Trouble") < 2) return
  const records = items.filter((item) => item._tag === "Record")
  for (const item of items) {
    if (item._tag !== "Trouble" || (item.trouble.kind !== "crash" && item.trouble.kind !== "freeze")) continue
    for (let ops = 1; ops <= maxAim; ops++) {
      yield [{ _tag: "Trouble", trouble: { ...item.trouble, ops } }, ...records]
    }
  }
}

const shortest = async <W, O, EW>(
  play: Play<W, O, EW>,
  plan: Plan,
  whole: Outcome<EW>,
  first: Failure<EW>,
  passed: number
): Promise<SimulationFailed> => {
  let tries = 0
  let steps = whole.steps
  const mayGoOn = () => tries < maxTries && steps < maxSteps
  const fails = async (items: ReadonlyArray<Item>): Promise<boolean> => {
    tries++
    const outcome = await runHistory(play, plan, items, false)
    steps += outcome.steps
    return outcome.failure?.kind === first.kind
  }
  let items = await shrink(plan.items, fails, mayGoOn)
  for (const alone of aloneIn(items)) {
    if (!mayGoOn()) break
    if (!(await fails(alone))) continue
    items = await shrink(alone, fails, mayGoOn)
    break
  }
  const { failure = first, timeline } = await runHistory(play, plan, items, true)
  const { cause, kind, text } = failure.kind === "layer" ? first : failure
  const troubles = countOf(items, "Trouble")
  const troublesBefore = countOf(plan.items, "Trouble")
  const records = countOf(items, "Record")
  const recordsBefore = countOf(plan.items, "Record")
  const conditions = items.flatMap((item) => (item._tag === "Condition" ? [item.condition] : []))
  const lines = abridge(timeline)
  return new SimulationFailed({
    reason: kind,
    seed: plan.seed,
    cause,
    passed: Math.max(0, passed),
    troubles,
    troublesBefore,
    records,
    recordsBefore,
    timeline: lines,
    message: [
      `${headline[kind]}: ${text}`,
      (passed < 0
        ? "in a history without any trouble"
        : `in history ${plan.seed}${passed === 0 ? "" : `, after ${passed} that went well`}`) +
        ". The shortest that still fails has " +
        `${troubles} of ${troublesBefore} troubles and ${records} of ${recordsBefore} records` +
        (conditions.length === 0 ? ":" : `, with ${conditions.join(", ")}:`),
      "",
      ...lines,
      "",
      passed < 0 ? "every simulation begins with it" : `to see it again: seed: ${plan.seed}, seeds: 1`
    ].join("\n")
  })
}

const headline: Readonly<Record<SimulationFailed["reason"], string>> = {
  check: "the check failed",
  unfinished: "not all was handled and committed",
  simulator: "the history could not be played to its end"
}

/** Chance for what a history produces. */
export const makeChance = (seed: number): Chance => {
  const chance = new Prng(seed, "records")
  function record<K, V, H, RD>(
    topic: Topic<K, V, H, RD>,
    value: V,
    options?: {
      readonly key?: K | undefined
      readonly headers?: H | undefined
      readonly partition?: number | undefined
    }
  ): SimulatedRecord<V>
  function record(topic: string, raw: NewRecord): SimulatedRecord<NewRecord["value"]>
  function record<K, V, H, RD>(
    topic: Topic<K, V, H, RD> | string,
    value: V | NewRecord,
    options?: {
      readonly key?: K | undefined
      readonly headers?: H | undefined
      readonly partition?: number | undefined
    }
  ): SimulatedRecord<unknown> {
    if (typeof topic === "string") {
      const raw = value as NewRecord
      return { topic, value: raw.value, encode: Effect.succeed(raw) }
    }
    return {
      topic: topic.name,
      value,
      encode: Effect.map(Topic.encode(topic, value as V, options), ({ headers, key, value: bytes }) => ({
        key,
        value: bytes,
        headers,
        partition: options?.partition
      }))
    }
  }
  return {
    next: () => chance.next(),
    int: (low, high) => chance.int(low, high),
    pick: (from) => chance.pick(from),
    chance: (probability) => chance.chance(probability),
    list: (least, most, make) => Array.from({ length: chance.int(least, most) }, (_, index) => make(index)),
    record
  }
}

/**
 * One history: a plan carried out on a Kafka in memory, in virtual time, with a realm for each process. Then everything heals, all
 * has to be handled and committed, and the check of the user looks at what that has done to the world.
 *
 * The outside world (the user's layer) is a realm of its own, which nobody kills.
 */
import type { ConsumerRecord, Delivery } from "@concurrent-kafka/core/ConsumerRecord"
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import type { Handler } from "@concurrent-kafka/core/Handler"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { type Cluster, MemoryKafka, type NewRecord, type Written } from "../MemoryKafka.ts"
import type { RecordStatus } from "../TestKit.ts"
import { show, messageOf } from "./expect.ts"
import type { Condition, Item, Plan } from "./historyPlan.ts"
import type { Provided } from "./lives.ts"
import { type HandlerRun, Members } from "./members.ts"
import { Prng } from "../Prng.ts"
import { keyOf, Recorder } from "./recorder.ts"
import { Timeline } from "./timeline.ts"
import { Troubles } from "./historyTroubles.ts"
import { Realm, World } from "../World.ts"

/** Building the outside world, and looking at it, may take so much virtual time. */
const outsideLimit = 600_000

/** What the user gave, with the services of the caller `O` and of the user's layer `W` already told apart. */
export interface Play<W, O, EW> {
  readonly caller: Context.Context<O>
  readonly world: Layer.Layer<W, EW, O>
  readonly programOf: (
    member: string,
    recorder: Recorder,
    wrap: <E, R>(handler: Handler<E, R>) => Handler<E, R>
  ) => Layer.Layer<never, unknown, W | O | Provided>
  readonly groupId: string
  readonly topics: { readonly [topic: string]: number }
  readonly reads: ReadonlyArray<string>
  readonly records: ReadonlyArray<{ readonly topic: string; readonly record: NewRecord; readonly value: unknown }>
  readonly check: (produced: ReadonlyArray<Ended>) => Effect.Effect<unknown, unknown, W | O>
  /** virtual milliseconds after which what is not done will not be done */
  readonly limit: number
}

/** A record that was produced, and how it ended. */
export interface Ended extends Written {
  readonly index: number
  readonly status: RecordStatus
  readonly times: number
}

export interface Outcome<EW> {
  readonly failure:
    | { readonly kind: "check" | "unfinished" | "simulator"; readonly cause: unknown; readonly text: string }
    | { readonly kind: "layer"; readonly cause: Cause.Cause<EW> }
    | undefined
  readonly timeline: ReadonlyArray<string>
  readonly steps: number
  readonly virtualMillis: number
  readonly counts: Counts
  /** of each run of a handler, how many instructions it had */
  readonly ops: ReadonlyArray<number>
}

export interface Counts {
  readonly records: number
  readonly runs: number
  readonly repeated: number
  readonly crashes: number
  readonly crashesInHandlers: number
}

/** The run that fibers of a handler belong to, with the number of instructions that it has had. */
const CurrentRun = Context.Reference<HandlerRun | undefined>("@concurrent-kafka/testing/HandlerRun", {
  defaultValue: () => undefined
})

export const runHistory = async <W, O, EW>(
  play: Play<W, O, EW>,
  plan: Plan,
  items: ReadonlyArray<Item>,
  isVerbose: boolean
): Promise<Outcome<EW>> => {
  const conditions = new Set<Condition>()
  for (const item of items) if (item._tag === "Condition") conditions.add(item.condition)
  const world = new World(new Prng(plan.seed, "turns"))
  const began = world.now
  const timeline = new Timeline(() => world.now - began, isVerbose)
  const place = (at: { readonly topic: string; readonly partition: number; readonly offset: bigint }) => keyOf(at)
  const recorder = new Recorder(() => world.now, {
    started: (run) =>
      timeline.say(run.process, () => `handles ${place(run)}${run.attempt > 1 ? `, attempt ${run.attempt}` : ""}`),
    ended: (run) => {
      if (run.end === "killed") timeline.say(run.process, () => `leaves ${place(run)} unfinished`)
      else timeline.say(run.process, () => `${run.end} ${place(run)}${run.error === undefined ? "" : `: ${run.error}`}`)
    },
    decided: (record, decision, process) => timeline.say(process, () => `decides: ${decision} ${place(record)}`)
  })

  // ------------------------------------------------------------------------------------------ the broker
  const kafka = new Realm("kafka", world)
  const slow = conditions.has("slow network")
  const brokerScope = Scope.makeUnsafe()
  const cluster: Cluster = Effect.runSyncWith(Context.merge(kafka.context, silent))(
    MemoryKafka.make(slow ? { requestLatency: 30, fetchLatency: 20, commitLatency: 40, produceLatency: 30 } : {}).pipe(
      Scope.provide(brokerScope)
    )
  )
  for (const [topic, partitions] of Object.entries(play.topics))
    Effect.runSync(cluster.createTopic(topic, { partitions }))
  const stored = new Map<string, bigint>()
  cluster.onCommitUnsafe(({ clientId, entries }) => {
    for (const { code, offset, partition, topic } of entries) {
      const at = `${topic}/${partition}`
      if (code === undefined) {
        // where a partition starts, and maps without another offset, tell nobody anything
        if ((stored.get(at) ?? 0n) === offset) continue
        stored.set(at, offset)
      }
      const what = code === undefined ? "stores" : `refuses (${code})`
      timeline.say("kafka", () => `${what} ${clientId}'s commit ${at}=${offset}`)
    }
  })

  // ------------------------------------------------------------------------------------------ the outside world
  const outside = new Realm("world", world)
  const quiet = Context.merge(outside.context, silent)
  const outsideContext = Context.merge(play.caller, quiet)
  const outsideScope = Scope.makeUnsafe()
  let asking = 0
  const ask = async <A, E, R extends W | O>(effect: Effect.Effect<A, E, R>, context: Context.Context<R>) => {
    asking++
    const fiber = Effect.runForkWith(context)(effect)
    await world.runUntil(world.now + outsideLimit, () => fiber.pollUnsafe() !== undefined)
    asking--
    return fiber.pollUnsafe()
  }
  world.mayWait = () => asking > 0 || recorder.running > 0

  // ------------------------------------------------------------------------------------------ handlers
  const runOf = (fiber: { readonly context: Context.Context<never> }) => Context.get(fiber.context, CurrentRun)
  // its own chance for each run, so that a history from which something else was taken away has the same pauses
  const chanceOf = (delivery: Delivery, what: string): Prng =>
    new Prng(plan.seed, `${what} ${keyOf(delivery)} ${recorder.accounts.get(keyOf(delivery))?.runs.length ?? 0}`)
  const interleaved = conditions.has("interleaved handlers")
  const slowly = conditions.has("slow handlers")
  const pause = (chance: Prng): Effect.Effect<void> =>
    slowly && chance.chance(0.7) ? Effect.sleep(chance.skewed(1, plan.slow)) : Effect.void
  const runs: Array<HandlerRun> = []
  const begins = (delivery: Delivery): HandlerRun => {
    const chance = chanceOf(delivery, "interleaving")
    const run = { ops: 0, interleaves: interleaved ? () => chance.chance(plan.interleaving) : () => false }
    runs.push(run)
    return run
  }
  const wrap = <E, R>(handler: Handler<E, R>): Handler<E, R> => ({
    ...handler,
    handle: (delivery) =>
      Effect.suspend(() => {
        const chance = chanceOf(delivery, "pauses")
        const own = Effect.suspend(() => Effect.provideService(handler.handle(delivery), CurrentRun, begins(delivery)))
        return pause(chance).pipe(Effect.andThen(own), Effect.andThen(Effect.suspend(() => pause(chance))))
      })
  })

  const outcome = (failure: Outcome<EW>["failure"]): Outcome<EW> => ({
    failure,
    timeline: timeline.lines,
    steps: world.steps,
    virtualMillis: world.now - began,
    ops: runs.map((run) => run.ops),
    counts: {
      records: items.filter((item) => item._tag === "Record").length,
      runs: recorder.runs.length,
      repeated: [...recorder.accounts.values()].filter(
        ({ runs }) => runs.filter((run) => run.end === "handled").length > 1
      ).length,
      crashes: members?.crashes ?? 0,
      crashesInHandlers: members?.crashesInHandlers ?? 0
    }
  })
  let members: Members<W | O> | undefined

  try {
    const memoMap = Layer.makeMemoMapUnsafe()
    const built = await ask(Layer.buildWithMemoMap(play.world, memoMap, outsideScope), outsideContext)
    if (built === undefined) return outcome(unfinished("the layer is not built within 10 minutes of virtual time"))
    if (Exit.isFailure(built)) return outcome({ kind: "layer", cause: built.cause })
    const services = Context.merge(play.caller, built.value)

    const prepare = (name: string, realm: Realm): Context.Context<never> => {
      const own = new Prng(plan.seed, name)
      const random: Random.Random = { nextDoubleUnsafe: () => own.next(), nextIntUnsafe: () => own.int(0, 2 ** 31) }
      const logger = Logger.make((entry) => {
        if (runOf(entry.fiber) !== undefined) timeline.say(name, () => `logs ${show(entry.message)}`)
      })
      return realm.context.pipe(
        Context.add(Random.Random, random),
        Context.add(Logger.CurrentLoggers, new Set([logger]))
      )
    }
    const people = new Members<W | O>({
      world,
      cluster,
      timeline,
      recorder,
      services,
      prepare,
      count: plan.members,
      client: { protocol: conditions.has("incremental protocol") ? "incremental" : "eager" },
      programOf: (name) => play.programOf(name, recorder, wrap),
      runOf
    })
    members = people
    const troubles = new Troubles({ world, cluster, timeline, members: people, groupId: play.groupId })

    // ---------------------------------------------------------------------------------------- what happens
    const written = new Map<number, Written>()
    const hand = new Realm("hand", world)
    people.start(0)
    for (const item of items) {
      if (item._tag === "Trouble") world.after(hand, item.trouble.at, () => troubles.happen(item.trouble))
      if (item._tag !== "Record") continue
      const { record, topic } = play.records[item.index]!
      world.after(hand, item.at, () => {
        const [at] = cluster.produceUnsafe(topic, [record])
        written.set(item.index, at!)
        timeline.say("test", () => `produces ${place(at!)} ${show(play.records[item.index]!.value)}`)
      })
    }
    world.onQuiet = () => people.watch()
    await world.runUntil(began + plan.length + 1)

    // ---------------------------------------------------------------------------------------- it heals
    timeline.say("test", () => "everything heals")
    troubles.heal()
    people.heal()
    const partitions = play.reads.flatMap((topic) =>
      Effect.runSync(cluster.admin.partitions([topic])).map(({ partition }) => ({ topic, partition }))
    )
    const lag = (): ReadonlyArray<string> =>
      partitions.flatMap(({ partition, topic }) => {
        const { end } = cluster.logOffsetsUnsafe(topic, partition)
        const committed = cluster.committedUnsafe(play.groupId, topic, partition)?.offset ?? 0n
        return committed < end ? [`${topic}/${partition} is committed to ${committed} of ${end}`] : []
      })
    const limit = world.now + play.limit
    while (world.now < limit) {
      await world.runUntil(Math.min(limit, world.now + 5_000), () => recorder.running === 0 && lag().length === 0)
      if (recorder.running === 0 && lag().length === 0) break
      people.heal()
    }
    if (lag().length > 0 || recorder.running > 0) {
      const { running: left } = recorder
      const running = left === 0 ? [] : [left === 1 ? "a handler still runs" : `${left} handlers still run`]
      return outcome(unfinished([...lag(), ...running].join(", ")))
    }

    // ---------------------------------------------------------------------------------------- what it has done
    const letters = new Set<string>()
    for (const topic of Object.keys(play.topics)) {
      for (const { partition } of Effect.runSync(cluster.admin.partitions([topic]))) {
        for (const record of cluster.recordsUnsafe(topic, partition)) {
          const letter = DeadLetter.read(record)
          if (letter !== undefined) letters.add(keyOf(letter))
        }
      }
    }
    const produced = [...written].map(([index, at]): Ended => {
      const record: ConsumerRecord = { ...at, key: null, value: null, timestamp: 0n, headers: [] }
      const runs = recorder.accounts.get(keyOf(at))?.runs ?? []
      return {
        ...at,
        index,
        status: recorder.statusOf(record, true, letters),
        times: runs.filter((run) => run.end === "handled").length
      }
    })
    for (const record of produced) {
      if (record.times > 1) timeline.say("test", () => `${place(record)} was handled ${record.times} times`)
    }
    const checked = await ask(
      Effect.suspend(() => play.check(produced)),
      Context.merge(services, quiet)
    )
    if (checked === undefined) return outcome(unfinished("the check does not end within 10 minutes of virtual time"))
    if (Exit.isSuccess(checked)) return outcome(undefined)
    const cause = Cause.squash(checked.cause)
    return outcome({ kind: "check", cause, text: messageOf(cause) })
  } catch (error) {
    return outcome({ kind: "simulator", cause: error, text: messageOf(error) })
  } finally {
    members?.end()
    // where something in it never ends, that was said before
    await ask(Scope.close(outsideScope, Exit.void), outsideContext).catch(() => undefined)
    world.kill(outside)
    world.kill(kafka)
  }
}

/** Nothing is printed of two hundred histories. */
const silent = Context.make(Logger.CurrentLoggers, new Set<Logger.Logger<unknown, unknown>>())

const unfinished = (text: string) => ({ kind: "unfinished", cause: undefined, text }) as const

/**
 * One process with one consumer, which is one member of the group or several: started, closed in every way there is, frozen, killed. A
 * process that starts again is another one under the same client id.
 */
import { ConcurrentConsumer, type ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Diagnostics } from "@concurrent-kafka/core/Diagnostics"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { MemorySession } from "@concurrent-kafka/testing/MemoryKafka"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import type { Checker } from "./checker.ts"
import { type EpochTruth, Life, orderOf, Owner } from "./owner.ts"
import { makeHandler, makePolicy } from "./handlers.ts"
import type { MemberPlan } from "./memberPlan.ts"
import { Prng } from "@concurrent-kafka/testing/Prng"
import { watchedClient, watchedProducer } from "./spy.ts"
import { groupId, type Stage } from "./stage.ts"
import { Realm } from "@concurrent-kafka/testing/World"
import { User } from "./user.ts"

const interrupted = "run is interrupted"
const closed = "it closes"
const fromOutside: ReadonlySet<string | undefined> = new Set([interrupted, closed])

/** Shutdown may take this much longer than `shutdownTimeout`. */
const closingSlack = 2_000

const isPutOff = ({ owner, putOffSince, state }: EpochTruth): boolean =>
  owner.cooperative && state === "open" && putOffSince !== undefined

export class Process {
  readonly name: string
  /** its members */
  readonly owners: ReadonlyArray<Owner>
  readonly realm: Realm
  readonly user: User
  consumer: ConcurrentConsumerShape | undefined
  /** `building`, `failed` to build or by itself, `idle` without a run, `running`, `closing`, `closed`, `dead` */
  state: "building" | "failed" | "idle" | "running" | "interrupting" | "closing" | "closed" | "dead" = "building"
  runs = 0
  private isHealed = false
  private runsAgain = false
  private readonly stage: Stage
  private readonly plan: MemberPlan
  private readonly scope = Scope.makeUnsafe()
  /** of its producer, which is closed after the consumer */
  private readonly producing = Scope.makeUnsafe()
  private readonly client: KafkaClient["Service"]
  private readonly context: Context.Context<never>
  private readonly registry = makeRegistry()
  /** the whole, where it was launched as a program */
  private program: Fiber.Fiber<unknown, unknown> | undefined
  private run: Fiber.Fiber<unknown, unknown> | undefined
  private readonly handler: ReturnType<typeof makeHandler>
  private readonly policy: ReturnType<typeof makePolicy>

  constructor(stage: Stage, clientId: string, number: number, plan: MemberPlan) {
    this.stage = stage
    this.plan = plan
    const { checker, coverage, world } = stage
    // a client id of its own, so that what a dead process sent is not taken for its successor's
    const name = `${clientId}.${number}`
    this.name = name
    this.realm = new Realm(name, world, stage.plan.together)
    const { options } = plan
    const life = new Life()
    this.owners = Array.from(
      { length: options.members },
      (_, i) =>
        new Owner({
          name: options.members === 1 ? name : `${name}/${i + 1}`,
          clientId: name,
          realm: this.realm,
          life,
          order: stage.plan.order,
          mapped: options.offsetMap !== "off",
          filters: stage.plan.filters,
          startsLatest: options.startFrom === "latest",
          cooperative: stage.plan.cooperative,
          limit: options.concurrency === "unbounded" ? Number.POSITIVE_INFINITY : options.concurrency,
          timeout: plan.timeout,
          maxUncommitted: options.maxUncommitted,
          // the fetch that crosses the limit, and those under way before fetching was paused: here a fetch may take no time
          mostHeld: options.maxHeldRecords + 4 * stage.plan.maxChunk,
          flushTime: options.interruptGrace + options.flushReserve,
          interruptGrace: options.interruptGrace,
          revokeDrain: options.revokeDrain,
          shutdownTimeout: options.shutdownTimeout,
          flushReserve: options.flushReserve,
          decidesLate: plan.policy === "make" || plan.policy === "decide",
          failsHard: plan.policy === "none" || plan.policy === "stop"
        })
    )
    if (options.members > 1) checker.happened("several members")
    const chance = new Prng(stage.plan.seed, name)
    const handling = {
      plan: stage.plan,
      checker,
      life,
      ownerOf: (epoch: number) => this.owners.find(({ epochs }) => epochs.has(epoch)) ?? this.owners[0]!,
      timeout: plan.timeout,
      chance,
      policy: plan.policy,
      mapped: options.offsetMap !== "off",
      healed: stage.healed,
      block: (millis: number) => this.blocks(millis),
      sessionTimeout: options.sessionTimeout,
      count: (what: string) => coverage.count(what)
    }
    this.handler = makeHandler(handling)
    this.policy = makePolicy(handling)
    this.user = new User({
      name,
      checker,
      owners: this.owners,
      consumer: () => this.consumer!,
      fork: (effect) => this.fork(effect)
    })
    const random: Random.Random = {
      nextDoubleUnsafe: () => chance.next(),
      nextIntUnsafe: () => chance.int(0, 2 ** 31)
    }
    const logger = Logger.make((entry) => {
      const message = String(entry.message)
      checker.trace.log(name, `logs ${entry.logLevel} ${message.split(" at ")[0]!}`)
      this.hears(message, entry.fiber.getRef(References.CurrentLogAnnotations))
    })
    this.client = stage.cluster.client({
      clientId: name,
      protocol: stage.plan.protocol,
      requestTimeout: plan.requestTimeout,
      assignors: plan.assignors,
      claims: plan.claims,
      awaitedRevoke: plan.awaitedRevoke,
      perPartitionCommitResult: plan.perPartitionCommitResult
    })
    const base = this.realm.context.pipe(
      Context.add(Random.Random, random),
      Context.add(ConsumerRegistry, this.registry),
      Context.add(Logger.CurrentLoggers, new Set([logger])),
      Context.add(Diagnostics, {
        transition: (machine, row) => coverage.row(machine, row),
        unexpected: (machine, state, event, at) =>
          checker.violation("table", `${name}: ${machine} ${state} ${event} at ${at.topic}/${at.partition}#${at.epoch}`)
      })
    )
    const producer = Effect.runSyncWith(base)(
      KafkaProducer.make.pipe(Effect.provideService(KafkaClient, this.client), Scope.provide(this.producing))
    )
    this.context = Context.add(base, KafkaProducer, watchedProducer(producer, checker, name, this.owners))
    this.build()
  }

  private fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.context)(effect)
  }

  private build(): void {
    const { checker, plan } = this.stage
    const watched = Layer.succeed(
      KafkaClient,
      watchedClient(this.client, checker, this.owners, () => this.state === "interrupting")
    )
    const options = {
      ...this.plan.options,
      ordering: plan.order === "function" ? (record: ConsumerRecord) => this.order(record) : plan.order,
      groupId,
      ...(plan.cooperative ? { assignor: "cooperative-sticky" as const } : {}),
      ...(plan.filters ? { headerFilter: (record: ConsumerRecord) => this.wants(record) } : {})
    }
    checker.trace.log(this.name, "starts")
    if (this.plan.launched) {
      const layer = ConcurrentConsumer.layerHandler(this.handler, {
        ...options,
        ...(this.policy === undefined ? {} : { onFailure: this.policy })
      })
      this.launch(ConcurrentConsumer.launch(Layer.provide(layer, watched)))
      return
    }
    const layer = ConcurrentConsumer.layer({ ...options, topics: plan.topics.map((topic) => topic.name) })
    this.fork(Layer.buildWithScope(Layer.provide(layer, watched), this.scope)).addObserver((exit) => {
      if (this.state !== "building") return
      if (Exit.isFailure(exit)) return this.notBuilt(exit.cause)
      this.consumer = Context.get(exit.value, ConcurrentConsumer)
      this.rerun()
    })
  }

  private notBuilt(cause: Cause.Cause<unknown>): void {
    const { checker } = this.stage
    const error = String(Cause.squash(cause))
    checker.trace.log(this.name, `cannot be built: ${error}`)
    this.state = "failed"
    if (!error.includes("Connection")) checker.violation("plan", error)
  }

  /** A whole program: it ends when it is interrupted, or by the failure of its consumer. */
  private launch(program: Effect.Effect<never, unknown>): void {
    const joins = () => {
      for (const owner of this.owners) owner.joins = () => {}
      this.consumer = Effect.runSync(this.registry.consumers)[0]
      this.state = "running"
      this.runs++
    }
    for (const owner of this.owners) owner.joins = joins
    this.program = this.fork(program)
    this.program.addObserver((exit) => {
      if (this.realm.state === "dead" || this.state === "closing" || Exit.isSuccess(exit)) return
      if (this.state === "building") return this.notBuilt(exit.cause)
      this.runEnded(exit)
    })
  }

  /** What the engine says only in its log. */
  private hears(message: string, { offset, partition, topic }: Readonly<Record<string, unknown>>): void {
    const { checker } = this.stage
    if (typeof topic !== "string" || typeof partition !== "number" || typeof offset !== "string") return
    const at = { topic, partition, offset: BigInt(offset) }
    if (message.startsWith("skipped a record")) checker.attempts.skippedLater(this.owners, at)
    if (message.includes("refused for good") && this.owners.some((owner) => checker.attempts.isBuried(owner, at)))
      this.life.closing ??= "a dead letter was refused"
  }

  private order(record: ConsumerRecord): string {
    const rec = this.stage.checker.recordOf(record)
    if (rec.unorderable && !this.stage.healed()) {
      if (this.plan.policy === "none" || this.plan.policy === "stop") this.life.closing ??= "the order function throws"
      this.stage.checker.happened("order function dies")
      throw new Error("the order function throws")
    }
    return orderOf(rec.key)
  }

  private wants(record: Parameters<Checker["recordOf"]>[0]): boolean {
    const rec = this.stage.checker.recordOf(record)
    if (rec.filter === "throws" && !this.stage.healed()) {
      if (this.plan.policy === "none" || this.plan.policy === "stop") this.life.closing ??= "the filter throws"
      this.stage.checker.happened("filter dies")
      throw new Error("the filter throws")
    }
    return rec.filter !== "unwanted"
  }

  /** Runs, for the first time or again. */
  rerun(): void {
    const { checker } = this.stage
    this.state = "running"
    if (++this.runs > 1) this.stage.coverage.row("partition", "P27")
    this.life.closing = undefined
    this.life.endedFrom = undefined
    checker.trace.log(this.name, `runs, for the ${this.runs}. time`)
    const options = this.policy === undefined ? [] : ([{ onFailure: this.policy }] as const)
    this.run = this.fork(this.consumer!.run(this.handler, ...options))
    this.run.addObserver((exit) => this.runEnded(exit))
  }

  private runEnded(exit: Exit.Exit<unknown, unknown>): void {
    if (this.realm.state === "dead") return
    const { checker } = this.stage
    const failure =
      Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? String(Cause.squash(exit.cause)) : undefined
    checker.trace.log(this.name, `run ended${failure === undefined ? "" : `: ${failure}`}`)
    this.ended()
    this.life.stoppedAt = undefined
    if (failure !== undefined && this.life.closing === undefined && !this.life.sessionEnded) {
      checker.violation("I9", `${this.name} ended by ${failure}`)
    }
    if (this.state === "interrupting" || this.state === "running")
      this.state = failure === undefined && !this.hasFailed ? "idle" : "failed"
    if (this.state !== "idle" || !this.runsAgain) return
    this.runsAgain = false
    this.stage.world.after(this.realm, 1, () => {
      if (this.state === "idle") this.rerun()
    })
  }

  /** Also where the run was interrupted while its members ended with one of them. */
  private get hasFailed(): boolean {
    return this.look().health.reasons.some(({ code }) => code === "failed" || code === "committerDead")
  }

  /** After a run: nothing may be left of it but who ignores his interruption. */
  private ended(): void {
    const { checker } = this.stage
    for (const { left, name, revoking, running } of this.owners) {
      for (const { rec, stubborn } of running) {
        if (!stubborn) checker.violation("I8", `${rec.offset} of ${rec.topic} runs on after the end`)
      }
      if (!left) checker.violation("I8", `${name} ended and has not left the group`)
      for (const { signal } of revoking) {
        checker.violation("answer", `${name} did not answer the revoke of ${signal.partitions.length} partitions`)
      }
      revoking.clear()
    }
  }

  /** Interrupts `run`; the consumer stays, and runs again at once or when somebody says so. */
  interrupt(runsAgain: boolean): void {
    if (this.state !== "running") return
    this.runsAgain = runsAgain
    this.state = "interrupting"
    this.life.closing ??= interrupted
    this.bounded("the interruption of run", Fiber.interrupt(this.run!))
  }

  /** Closes everything in order, as a program does that ends. */
  close(interruptFirst: boolean): void {
    if (this.state === "closing" || this.state === "closed" || this.state === "dead") return
    this.state = "closing"
    this.life.closing ??= closed
    const run = this.run
    if (interruptFirst && run !== undefined) run.interruptUnsafe()
    const closing = this.program === undefined ? Scope.close(this.scope, Exit.void) : Fiber.interrupt(this.program)
    this.bounded("closing", closing, () => {
      this.state = "closed"
      this.ended()
      run?.interruptUnsafe()
      this.fork(Scope.close(this.producing, Exit.void))
    })
  }

  /** I8: within `shutdownTimeout` and a little. */
  private bounded(what: string, effect: Effect.Effect<unknown>, then: () => void = () => {}): void {
    const { checker, world } = this.stage
    const began = world.now
    const frozenBefore = this.realm.frozenFor
    checker.trace.log(this.name, `${what} begins`)
    // one that has begun to end by itself has waited since then
    if (fromOutside.has(this.life.closing) && !this.owners.some(({ left }) => left))
      this.life.endedFrom ??= { at: began, frozenBefore }
    if (this.owners.some(({ epochs }) => [...epochs.values()].some(isPutOff)))
      checker.happened("close between two rounds")
    this.fork(effect).addObserver((exit) => {
      if (this.realm.state === "dead") return
      const took = this.realm.awakeSince(began, frozenBefore, world.now)
      checker.trace.log(this.name, `${what} took ${took}`)
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
        checker.violation("I8", `${what} failed: ${Cause.pretty(exit.cause)}`)
      }
      if (took > this.plan.options.shutdownTimeout + closingSlack) checker.violation("I8", `${what} took ${took} ms`)
      then()
    })
  }

  /** It must refuse to run twice at once. */
  runTwice(): void {
    this.user.runTwice(this.handler)
  }

  look(): Snapshot {
    return Effect.runSync(this.consumer!.snapshot)
  }

  /** What it says of itself, against what was seen from outside. */
  check(): void {
    if (this.consumer === undefined) return
    const snapshot = this.look()
    const each = this.owners.length === 1 ? [snapshot] : snapshot.members
    this.owners.forEach((owner, i) => this.stage.checker.snapshots.look(owner, each[i]!))
  }

  /** Whatever its user did to it is undone. */
  heal(): void {
    if (this.isHealed || !this.isUp) return
    this.isHealed = true
    this.user.heal()
  }

  kill(): void {
    if (this.state === "dead") return
    this.stage.checker.trace.log(this.name, "is killed")
    this.state = "dead"
    this.stage.world.kill(this.realm)
    for (const { revoking, running } of this.owners) {
      running.clear()
      revoking.clear()
    }
    for (const session of this.sessions()) Effect.runSync(session.crash)
  }

  /** A handler is going to compute: nothing of this process runs before it has ended. */
  private blocks(millis: number): void {
    const { world } = this.stage
    const computing = new Realm("computing", world)
    world.after(computing, 0, () => {
      if (this.realm.state !== "running") return
      this.life.calmSince = Math.max(this.life.calmSince, world.now + millis + 30_000)
      this.freeze()
      world.after(computing, millis, () => this.thaw())
    })
  }

  freeze(): void {
    this.stage.checker.trace.log(this.name, "freezes")
    for (const session of this.sessions()) Effect.runSync(session.freeze)
    this.stage.world.freeze(this.realm)
  }

  thaw(): void {
    if (this.realm.state !== "frozen") return
    this.stage.checker.trace.log(this.name, "thaws")
    for (const session of this.sessions()) Effect.runSync(session.thaw)
    this.stage.world.thaw(this.realm)
  }

  /** Those of its members, while they are open. */
  sessions(): ReadonlyArray<MemorySession> {
    return this.stage.cluster.sessionsUnsafe().filter((s) => s.clientId === this.name && s.isOpenUnsafe())
  }

  /** Of one of its members. */
  session(chance: Prng): MemorySession | undefined {
    const sessions = this.sessions()
    return sessions.length > 1 ? chance.pick(sessions) : sessions[0]
  }

  /** nobody else knows any of its assignors */
  get isStranger(): boolean {
    return !this.plan.assignors.includes("sticky")
  }

  /** how its members end */
  get life(): Life {
    return this.owners[0]!.life
  }

  get revokeDrain(): number {
    return this.plan.options.revokeDrain
  }

  get requestTimeout(): number {
    return this.plan.requestTimeout
  }

  get heartbeatInterval(): number {
    return this.plan.options.heartbeatInterval
  }

  /** it can be run again after its run was interrupted */
  get isOwn(): boolean {
    return this.isUp && !this.plan.launched
  }

  get isUp(): boolean {
    return this.state === "running" && this.realm.state === "running"
  }
}

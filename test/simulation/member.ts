/**
 * One process with one consumer: started, closed in every way there is, frozen, killed. A member that starts again is another
 * process under the same client id.
 */
import { ConcurrentConsumer, type ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Diagnostics } from "@concurrent-kafka/core/Diagnostics"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { Cluster } from "@concurrent-kafka/testing/MemoryKafka"
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
import { orderOf, Owner } from "./owner.ts"
import type { Coverage } from "./coverage.ts"
import { makeHandler, makePolicy } from "./handlers.ts"
import type { MemberPlan, Plan } from "./plan.ts"
import { Prng } from "@concurrent-kafka/testing/Prng"
import type { Cut } from "./schedule.ts"
import { watchedClient, watchedProducer } from "./spy.ts"
import { Realm, type World } from "@concurrent-kafka/testing/World"

export interface Stage {
  readonly world: World
  readonly cluster: Cluster
  readonly checker: Checker
  readonly coverage: Coverage
  readonly plan: Plan
  readonly healed: () => boolean
  readonly cut: Cut
}

export const groupId = "group"

/** Shutdown may take this much longer than `shutdownTimeout`. */
const closingSlack = 2_000

export class Process {
  readonly owner: Owner
  readonly realm: Realm
  consumer: ConcurrentConsumerShape | undefined
  /** `building`, `failed` to build or by itself, `idle` without a run, `running`, `closing`, `closed`, `dead` */
  state: "building" | "failed" | "idle" | "running" | "interrupting" | "closing" | "closed" | "dead" = "building"
  runs = 0
  private isHealed = false
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
    this.realm = new Realm(name, world, stage.plan.together)
    const { concurrency, startFrom } = plan.options
    this.owner = new Owner({
      name,
      clientId: name,
      realm: this.realm,
      order: stage.plan.order,
      mapped: plan.options.offsetMap !== "off",
      filters: stage.plan.filters,
      startsLatest: startFrom === "latest",
      limit: concurrency === "unbounded" ? Number.POSITIVE_INFINITY : concurrency,
      timeout: plan.timeout,
      maxUncommitted: plan.options.maxUncommitted,
      flushTime: plan.options.interruptGrace + plan.options.flushReserve,
      interruptGrace: plan.options.interruptGrace,
      revokeDrain: plan.options.revokeDrain,
      shutdownTimeout: plan.options.shutdownTimeout,
      flushReserve: plan.options.flushReserve,
      decidesLate: plan.policy === "make" || plan.policy === "decide",
      failsHard: plan.policy === "none" || plan.policy === "stop"
    })
    const chance = new Prng(stage.plan.seed, name)
    const handling = {
      plan: stage.plan,
      checker,
      owner: this.owner,
      chance,
      policy: plan.policy,
      mapped: plan.options.offsetMap !== "off",
      healed: stage.healed,
      count: (what: string) => coverage.count(what)
    }
    this.handler = makeHandler(handling)
    this.policy = makePolicy(handling)
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
    this.context = Context.add(base, KafkaProducer, watchedProducer(producer, checker, this.owner))
    this.build()
  }

  private fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.context)(effect)
  }

  private build(): void {
    const { checker, plan } = this.stage
    const watched = Layer.succeed(
      KafkaClient,
      watchedClient(this.client, checker, this.owner, () => this.state === "interrupting")
    )
    const options = {
      ...this.plan.options,
      ordering: plan.order === "function" ? (record: ConsumerRecord) => this.order(record) : plan.order,
      groupId,
      ...(plan.filters ? { headerFilter: (record: ConsumerRecord) => this.wants(record) } : {})
    }
    checker.trace.log(this.owner.name, "starts")
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
    checker.trace.log(this.owner.name, `cannot be built: ${error}`)
    this.state = "failed"
    if (!error.includes("Connection")) checker.violation("plan", error)
  }

  /** A whole program: it ends when it is interrupted, or by the failure of its consumer. */
  private launch(program: Effect.Effect<never, unknown>): void {
    this.owner.joins = () => {
      this.consumer = Effect.runSync(this.registry.consumers)[0]
      this.state = "running"
      this.runs++
    }
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
    if (message.startsWith("skipped a record")) checker.attempts.skippedLater(this.owner, at)
    if (message.includes("refused for good") && checker.attempts.isBuried(this.owner, at))
      this.owner.closing ??= "a dead letter was refused"
  }

  private order(record: ConsumerRecord): string {
    const rec = this.stage.checker.recordOf(record)
    if (rec.unorderable && !this.stage.healed()) {
      if (this.plan.policy === "none" || this.plan.policy === "stop") this.owner.closing ??= "the order function throws"
      this.stage.checker.happened("order function dies")
      throw new Error("the order function throws")
    }
    return orderOf(rec.key)
  }

  private wants(record: Parameters<Checker["recordOf"]>[0]): boolean {
    const rec = this.stage.checker.recordOf(record)
    if (rec.filter === "throws" && !this.stage.healed()) {
      if (this.plan.policy === "none" || this.plan.policy === "stop") this.owner.closing ??= "the filter throws"
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
    this.owner.closing = undefined
    checker.trace.log(this.owner.name, `runs, for the ${this.runs}. time`)
    const options = this.policy === undefined ? [] : ([{ onFailure: this.policy }] as const)
    this.run = this.fork(this.consumer!.run(this.handler, ...options))
    this.run.addObserver((exit) => this.runEnded(exit))
  }

  private runEnded(exit: Exit.Exit<unknown, unknown>): void {
    if (this.realm.state === "dead") return
    const { checker } = this.stage
    const failure =
      Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? String(Cause.squash(exit.cause)) : undefined
    checker.trace.log(this.owner.name, `run ended${failure === undefined ? "" : `: ${failure}`}`)
    this.ended()
    this.owner.stoppedAt = undefined
    if (failure !== undefined && this.owner.closing === undefined && !this.owner.sessionEnded) {
      checker.violation("I9", `${this.owner.name} ended by ${failure}`)
    }
    if (this.state === "interrupting" || this.state === "running")
      this.state = failure === undefined ? "idle" : "failed"
  }

  /** After a run: nothing may be left of it but who ignores his interruption. */
  private ended(): void {
    const { checker } = this.stage
    for (const attempt of this.owner.running) {
      if (!attempt.stubborn)
        checker.violation("I8", `${attempt.rec.offset} of ${attempt.rec.topic} runs on after the end`)
    }
    if (!this.owner.left) checker.violation("I8", `${this.owner.name} ended and has not left the group`)
    for (const { signal } of this.owner.revoking) {
      checker.violation(
        "answer",
        `${this.owner.name} did not answer the revoke of ${signal.partitions.length} partitions`
      )
    }
    this.owner.revoking.clear()
  }

  /** Interrupts `run`; the consumer stays. */
  interrupt(): void {
    if (this.state !== "running") return
    this.state = "interrupting"
    this.owner.closing ??= "run is interrupted"
    this.bounded("the interruption of run", Fiber.interrupt(this.run!))
  }

  /** Closes everything in order, as a program does that ends. */
  close(interruptFirst: boolean): void {
    if (this.state === "closing" || this.state === "closed" || this.state === "dead") return
    this.state = "closing"
    this.owner.closing ??= "it closes"
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
    checker.trace.log(this.owner.name, `${what} begins`)
    this.fork(effect).addObserver((exit) => {
      if (this.realm.state === "dead") return
      const took = this.realm.awakeSince(began, frozenBefore, world.now)
      checker.trace.log(this.owner.name, `${what} took ${took}`)
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
        checker.violation("I8", `${what} failed: ${Cause.pretty(exit.cause)}`)
      }
      if (took > this.plan.options.shutdownTimeout + closingSlack) checker.violation("I8", `${what} took ${took} ms`)
      then()
    })
  }

  /** What a user does to it meanwhile. */
  ask<A, E>(what: string, effect: Effect.Effect<A, E>, then: (exit: Exit.Exit<A, E>) => void = () => {}): void {
    const { trace } = this.stage.checker
    trace.log(this.owner.name, what)
    this.fork(effect).addObserver((exit) => {
      if (this.realm.state === "dead") return
      trace.log(this.owner.name, `${what}: ${Exit.isSuccess(exit) ? "done" : String(Cause.squash(exit.cause))}`)
      then(exit)
    })
  }

  /** It must refuse to run twice at once. */
  runTwice(): void {
    this.ask("runs a second time", this.consumer!.run(this.handler, { onFailure: FailurePolicy.skip }), (exit) => {
      const error = Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "success"
      if (!error.includes("one handler at a time")) {
        this.stage.checker.violation("run", `${this.owner.name} ran twice at once: ${error}`)
      }
    })
  }

  pause(paused: boolean): void {
    const { owner } = this
    if (!paused) {
      owner.paused = false
      for (const epoch of owner.epochs.values()) epoch.paused = false
    }
    this.ask(paused ? "pauses" : "resumes", paused ? this.consumer!.pause() : this.consumer!.resume())
    owner.paused = paused
  }

  /** Pauses a partition, or lets it go on. */
  pausePartition(chance: Prng): void {
    const { owner } = this
    const epochs = [...owner.epochs.values()].filter((epoch) => epoch.state !== "ended")
    if (epochs.length === 0) return
    const epoch = chance.pick(epochs)
    if (epoch.paused) {
      // a consumer that is paused as a whole stays so
      if (!owner.paused) epoch.paused = false
      this.ask(`resumes ${epoch.key}`, this.consumer!.resume([epoch]))
    } else {
      this.ask(`pauses ${epoch.key}`, this.consumer!.pause([epoch]), (exit) => {
        if (Exit.isSuccess(exit)) epoch.paused = true
      })
    }
  }

  seek(chance: Prng): void {
    const epochs = [...this.owner.epochs.values()].filter((epoch) => epoch.state !== "ended")
    if (epochs.length === 0) return
    const epoch = chance.pick(epochs)
    const to = chance.weighted({ start: 1, end: 1, offset: 3 })
    const last = epoch.delivered.at(-1)?.offset ?? 0n
    const offset = to === "offset" ? BigInt(chance.int(0, Number(last) + 3)) : to
    epoch.mayEnd = "sought"
    this.owner.seeksTo = typeof offset === "bigint" ? offset : undefined
    this.ask(`seeks ${epoch.key} to ${offset}`, this.consumer!.seek(epoch, offset))
    // it was reopened by now, or will not be
    this.owner.seeksTo = undefined
  }

  resize(n: number | "unbounded"): void {
    const limit = n === "unbounded" ? Number.POSITIVE_INFINITY : n
    this.owner.limit = Math.max(this.owner.limit, limit)
    this.ask(`changes its concurrency to ${n}`, this.consumer!.setConcurrency(n))
    this.owner.limit = limit
  }

  flush(): void {
    this.ask("flushes", this.consumer!.flush)
  }

  look(): Snapshot {
    return Effect.runSync(this.consumer!.snapshot)
  }

  /** What it says of itself, against what was seen from outside. */
  check(): void {
    const { consumer, owner, stage } = this
    if (consumer === undefined) return
    const { checker } = stage
    const snapshot = this.look()
    const { maxHeldRecords } = this.plan.options
    if (snapshot.unexpectedTransitions !== 0) checker.violation("table", `${owner.name}: unexpected transitions`)
    checker.attempts.counted(owner, snapshot.outcomes)
    if (snapshot.permits.used < owner.running.size) {
      checker.violation("I5", `${owner.name} tells of ${snapshot.permits.used} permits, and ${owner.running.size} run`)
    }
    for (const p of snapshot.partitions) {
      // the fetch that crosses the limit, and those that were under way before fetching was paused: here a fetch may take no time
      if (p.heldRecords >= maxHeldRecords + 4 * stage.plan.maxChunk) {
        checker.violation("I6", `${owner.name} holds ${p.heldRecords} of ${p.topic}/${p.partition}`)
      }
    }
    checker.idleness.look(owner, snapshot)
    for (const p of snapshot.partitions) {
      const epoch = owner.epochs.get(p.epoch)
      // one that is parked beyond the limit goes on at once
      if (epoch?.state !== "open" || epoch.paused || owner.paused || owner.closing !== undefined) continue
      if (p.parked > epoch.parkLimit)
        checker.violation("R20", `${owner.name} has ${p.parked} of ${epoch.key} parked, of at most ${epoch.parkLimit}`)
    }
    const held = snapshot.partitions.reduce((sum, p) => sum + p.heldRecords, 0)
    const ending = checker.isEnding(owner)
    if (held > snapshot.held.records || (held < snapshot.held.records && !ending)) {
      checker.violation("I6", `${owner.name} holds ${snapshot.held.records}, and its partitions ${held}`)
    }
  }

  /** Whatever its user did to it is undone. */
  heal(): void {
    if (this.isHealed || !this.isUp) return
    this.isHealed = true
    this.pause(false)
    for (const epoch of this.owner.epochs.values()) {
      if (epoch.state !== "ended") this.ask(`resumes ${epoch.key}`, this.consumer!.resume([epoch]))
    }
  }

  kill(): void {
    if (this.state === "dead") return
    this.stage.checker.trace.log(this.owner.name, "is killed")
    this.state = "dead"
    this.stage.world.kill(this.realm)
    this.owner.running.clear()
    this.owner.revoking.clear()
    this.session()?.crash.pipe(Effect.runSync)
  }

  freeze(): void {
    this.stage.checker.trace.log(this.owner.name, "freezes")
    this.session()?.freeze.pipe(Effect.runSync)
    this.stage.world.freeze(this.realm)
  }

  thaw(): void {
    if (this.realm.state !== "frozen") return
    this.stage.checker.trace.log(this.owner.name, "thaws")
    this.session()?.thaw.pipe(Effect.runSync)
    this.stage.world.thaw(this.realm)
  }

  /** Its newest session, while that is open. */
  session() {
    return this.stage.cluster.sessionsUnsafe().findLast((s) => s.clientId === this.owner.clientId && s.isOpenUnsafe())
  }

  /** nobody else knows any of its assignors */
  get isStranger(): boolean {
    return !this.plan.assignors.includes("sticky")
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

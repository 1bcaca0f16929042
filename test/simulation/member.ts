/**
 * One process with one consumer: started, closed in every way there is, frozen, killed. A member that starts again is another
 * process under the same client id.
 */
import { ConcurrentConsumer, type ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Diagnostics } from "@concurrent-kafka/core/Diagnostics"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { Cluster } from "@concurrent-kafka/testing/MemoryKafka"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { type Checker, Owner } from "./checker.ts"
import type { Coverage } from "./coverage.ts"
import { makeHandler, makePolicy } from "./handlers.ts"
import type { MemberPlan, Plan } from "./plan.ts"
import { Prng } from "./prng.ts"
import { watchedClient } from "./spy.ts"
import { Realm, type World } from "./world.ts"

export interface Stage {
  readonly world: World
  readonly cluster: Cluster
  readonly checker: Checker
  readonly coverage: Coverage
  readonly plan: Plan
  readonly healed: () => boolean
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
  private readonly stage: Stage
  private readonly plan: MemberPlan
  private readonly scope = Scope.makeUnsafe()
  private readonly context: Context.Context<never>
  private run: Fiber.Fiber<unknown, unknown> | undefined
  private readonly handler: ReturnType<typeof makeHandler>
  private readonly policy: ReturnType<typeof makePolicy>

  constructor(stage: Stage, clientId: string, number: number, plan: MemberPlan) {
    this.stage = stage
    this.plan = plan
    const { checker, coverage, world } = stage
    const name = `${clientId}.${number}`
    this.realm = new Realm(name, world)
    const { concurrency, ordering, startFrom } = plan.options
    this.owner = new Owner({
      name,
      clientId,
      realm: this.realm,
      lanes: ordering === "partition",
      filters: stage.plan.filters,
      startsLatest: startFrom === "latest",
      limit: concurrency === "unbounded" ? Number.POSITIVE_INFINITY : concurrency,
      timeout: plan.timeout
    })
    const chance = new Prng(stage.plan.seed, name)
    const handling = {
      plan: stage.plan,
      checker,
      owner: this.owner,
      chance,
      policy: plan.policy,
      healed: stage.healed
    }
    this.handler = makeHandler(handling)
    this.policy = makePolicy(handling)
    const random: Random.Random = {
      nextDoubleUnsafe: () => chance.next(),
      nextIntUnsafe: () => chance.int(0, 2 ** 31)
    }
    const logger = Logger.make((entry) => {
      checker.trace.log(name, `logs ${entry.logLevel} ${String(entry.message).split(" at ")[0]!}`)
    })
    this.context = this.realm.context.pipe(
      Context.add(Random.Random, random),
      Context.add(ConsumerRegistry, makeRegistry()),
      Context.add(Logger.CurrentLoggers, new Set([logger])),
      Context.add(Diagnostics, {
        transition: (machine, row) => coverage.row(machine, row),
        unexpected: (machine, state, event, at) =>
          checker.violation("table", `${name}: ${machine} ${state} ${event} at ${at.topic}/${at.partition}#${at.epoch}`)
      })
    )
    this.build(clientId)
  }

  private fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.context)(effect)
  }

  private build(clientId: string): void {
    const { checker, cluster, plan } = this.stage
    const client = cluster.client({
      clientId,
      protocol: plan.protocol,
      requestTimeout: this.plan.requestTimeout,
      awaitedRevoke: this.plan.awaitedRevoke,
      perPartitionCommitResult: this.plan.perPartitionCommitResult
    })
    const layer = ConcurrentConsumer.layer({
      ...this.plan.options,
      groupId,
      topics: plan.topics.map((topic) => topic.name),
      ...(plan.filters ? { headerFilter: (record) => this.wants(record) } : {})
    }).pipe(Layer.provide(Layer.succeed(KafkaClient, watchedClient(client, checker, this.owner))))
    checker.trace.log(this.owner.name, "starts")
    this.fork(Layer.buildWithScope(layer, this.scope)).addObserver((exit) => {
      if (this.state !== "building") return
      if (Exit.isSuccess(exit)) {
        this.consumer = Context.get(exit.value, ConcurrentConsumer)
        this.rerun()
      } else {
        checker.trace.log(this.owner.name, `cannot be built: ${String(Cause.squash(exit.cause))}`)
        this.state = "failed"
        if (!String(Cause.squash(exit.cause)).includes("Connection")) {
          checker.violation("plan", String(Cause.squash(exit.cause)))
        }
      }
    })
  }

  private wants(record: Parameters<Checker["recordOf"]>[0]): boolean {
    const rec = this.stage.checker.recordOf(record)
    if (rec.filter === "throws" && !this.stage.healed()) {
      if (this.plan.policy === "none" || this.plan.policy === "stop") this.owner.closing ??= "the filter throws"
      throw new Error("the filter throws")
    }
    return rec.filter !== "unwanted"
  }

  /** Runs, for the first time or again. */
  rerun(): void {
    const { checker } = this.stage
    this.state = "running"
    this.runs++
    this.owner.closing = undefined
    checker.trace.log(this.owner.name, `runs, for the ${this.runs}. time`)
    const options = this.policy === undefined ? [] : ([{ onFailure: this.policy }] as const)
    this.run = this.fork(this.consumer!.run(this.handler, ...options))
    this.run.addObserver((exit) => {
      if (this.realm.state === "dead") return
      const cause = Exit.isFailure(exit) ? exit.cause : undefined
      checker.trace.log(
        this.owner.name,
        `run ended${cause === undefined ? "" : Cause.hasInterruptsOnly(cause) ? " by interruption" : `: ${String(Cause.squash(cause))}`}`
      )
      this.ended()
      if (cause !== undefined && !Cause.hasInterruptsOnly(cause)) {
        if (this.owner.closing === undefined) {
          checker.violation("I9", `${this.owner.name} ended by ${String(Cause.squash(cause))}`)
        }
        if (this.state === "running" || this.state === "interrupting") this.state = "failed"
      } else if (this.state === "interrupting" || this.state === "running") this.state = "idle"
    })
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
    const closing = Scope.close(this.scope, Exit.void)
    this.bounded("closing", closing, () => {
      this.state = "closed"
      this.ended()
      run?.interruptUnsafe()
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
  ask(what: string, effect: Effect.Effect<unknown, unknown>): void {
    this.stage.checker.trace.log(this.owner.name, what)
    this.fork(effect)
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

  get isUp(): boolean {
    return this.state === "running" && this.realm.state === "running"
  }
}

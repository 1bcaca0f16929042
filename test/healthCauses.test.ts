/**
 * Each code of health by what really causes it: a consumer on a Kafka in memory whose brokers, topics, other members and records do what
 * they do in production, read over HTTP, as a probe reads it, through the registry that the consumer's layer is in. And what takes it away
 * again. Nobody plays a session here, and nobody makes a snapshot.
 */
import {
  ConcurrentConsumer,
  type ConcurrentConsumerShape,
  type GroupOptions
} from "@concurrent-kafka/core/ConcurrentConsumer"
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import type { Session } from "@concurrent-kafka/core/ConsumerSession"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import { type HealthCode, healthCodes } from "@concurrent-kafka/core/Health"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Observability } from "@concurrent-kafka/observability"
import { type ClientOptions, type Cluster, MemoryKafka } from "@concurrent-kafka/testing"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Exit, Layer, References, Scope } from "effect"
import { Boom, Desk, pass, runner, turns, wake, whileTimePasses } from "../packages/core/test/harness.ts"
import { type Endpoints, endpoints } from "../packages/observability/test/http.ts"

const minute = 60_000

interface Options extends Partial<GroupOptions> {
  readonly desk?: Desk
  readonly policy?: FailurePolicy<Boom, KafkaProducer>
  readonly client?: ClientOptions
  /** in place of a client of the Kafka in memory */
  readonly clientService?: KafkaClient["Service"]
}

interface Running {
  readonly consumer: ConcurrentConsumerShape
  readonly desk: Desk
  readonly run: Effect.Effect<void>
  readonly interrupt: Effect.Effect<void>
  readonly close: Effect.Effect<void>
}

/** One consumer, its endpoints, and the Kafka: what a cause works with. */
class Scene {
  readonly kafka: Cluster
  readonly http: Endpoints
  private readonly scope: Scope.Scope
  private readonly context: Context.Context<never>

  constructor(kafka: Cluster, http: Endpoints, scope: Scope.Scope, context: Context.Context<never>) {
    this.kafka = kafka
    this.http = http
    this.scope = scope
    this.context = context
  }

  /** With its handler running; shown by the endpoints unless it is `hidden`. */
  start(options: Options = {}, hidden = false): Effect.Effect<Running> {
    const { client, clientService, desk = new Desk(), policy, ...group } = options
    return Effect.gen({ self: this }, function* () {
      const kafkaClient = clientService ?? this.kafka.client({ clientId: group.name ?? "a", ...client })
      const own = yield* Scope.fork(this.scope)
      const producer = yield* Scope.provide(
        Effect.provideService(KafkaProducer.make, KafkaClient, kafkaClient),
        yield* Scope.fork(this.scope)
      )
      const services = this.context.pipe(
        Context.add(KafkaClient, kafkaClient),
        Context.add(KafkaProducer, producer),
        hidden ? (same) => same : Context.add(ConsumerRegistry, this.http.registry),
        // what goes wrong here is meant to
        Context.add(References.MinimumLogLevel, "None")
      )
      const built = yield* Layer.buildWithScope(
        ConcurrentConsumer.layer({ groupId: "g", ...group, topics: ["t"] }),
        own
      ).pipe(Effect.provideContext(services), Effect.orDie)
      const consumer = Context.get(built, ConcurrentConsumer)
      const { interrupt, run } = runner(consumer, Handler.make("t", desk.handle), policy, services)
      const close = Effect.asVoid(whileTimePasses(Scope.close(own, Exit.void)))
      yield* run
      yield* Scope.addFinalizer(this.scope, close)
      return { consumer, desk, run, interrupt, close }
    })
  }

  produce(count: number, key?: string): Effect.Effect<void> {
    const record = { value: "v", partition: 0, ...(key === undefined ? {} : { key }) }
    return Effect.andThen(
      this.kafka.produce(
        "t",
        Array.from({ length: count }, () => record)
      ),
      turns
    )
  }

  /** Of all consumers; `nobody` where there is none. */
  readonly codes: Effect.Effect<ReadonlyArray<string>> = Effect.suspend(() =>
    Effect.map(this.http.get("/health"), ({ text }) => {
      const consumers: ReadonlyArray<{ readonly reasons: ReadonlyArray<{ readonly code: string }> }> =
        JSON.parse(text).consumers
      return consumers.length === 0 ? ["nobody"] : consumers.flatMap(({ reasons }) => reasons.map(({ code }) => code))
    })
  )

  /** Time goes on until this is so of the codes. */
  until(what: string, isSo: (codes: ReadonlyArray<string>) => boolean, step = 250): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      let codes = yield* this.codes
      for (let i = 0; i < 400 && !isSo(codes); i++) {
        yield* pass(step)
        codes = yield* this.codes
      }
      assert.isTrue(isSo(codes), `${what}; there are: ${codes.join(", ")}`)
    })
  }

  readonly well = Effect.suspend(() => this.until("nothing is wrong any more", (codes) => codes.length === 0))

  /** The consumer's first records run. */
  working(running: Running, count: number): Effect.Effect<void> {
    return Effect.gen(function* () {
      for (let i = 0; i < 400 && running.desk.running.length < count; i++) yield* pass(100)
      assert.isAtLeast(running.desk.running.length, count)
    })
  }
}

/** Makes it so, and gives back what takes it away. */
type Cause = (scene: Scene) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>

/** It is well, and then one record fails: what is done about it is the policy's. */
const failing = (scene: Scene, policy: FailurePolicy<Boom, KafkaProducer>) =>
  Effect.gen(function* () {
    const running = yield* scene.start({ policy })
    yield* scene.well
    yield* scene.produce(1)
    yield* scene.working(running, 1)
    yield* running.desk.end(0, 0, Exit.fail(new Boom()))
    return running
  })

/** The process is started anew, with another handler. */
const restarted = (scene: Scene, running: Running) =>
  Effect.andThen(running.close, Effect.asVoid(scene.start({ desk: new Desk({ auto: true }) })))

const causes: Readonly<Record<HealthCode, Cause>> = {
  disabled: (scene) =>
    Effect.gen(function* () {
      const env = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { KAFKA_ENABLED: "false" } }))
      const built = yield* Effect.orDie(Layer.build(Layer.provide(KafkaJs.layerConfig, env)))
      const running = yield* scene.start({ clientService: Context.get(built, KafkaClient) })
      return restarted(scene, running)
    }),
  starting: (scene) =>
    Effect.gen(function* () {
      // the group is in a rebalance that takes its time
      scene.kafka.faults.next("join", { kind: "slowRequest", ms: 5_000 })
      yield* scene.start()
      return pass(5_000)
    }),
  standby: (scene) =>
    Effect.gen(function* () {
      const other = yield* scene.start({ name: "other", desk: new Desk({ auto: true }) }, true)
      yield* pass(10_000)
      yield* scene.start()
      return other.close
    }),
  opening: (scene) =>
    Effect.gen(function* () {
      scene.kafka.faults.next("commit", { kind: "code", code: "COORDINATOR_LOAD_IN_PROGRESS" }, { times: 1_000 })
      yield* scene.start()
      return Effect.sync(() => scene.kafka.faults.clear())
    }),
  rebalancing: (scene) =>
    Effect.gen(function* () {
      const running = yield* scene.start()
      yield* scene.produce(1)
      yield* scene.working(running, 1)
      yield* scene.start({ name: "other" }, true)
      return running.desk.finishAll()
    }),
  paused: (scene) =>
    Effect.gen(function* () {
      const { consumer } = yield* scene.start()
      yield* scene.well
      yield* Effect.orDie(consumer.pause())
      return Effect.orDie(consumer.resume())
    }),
  idle: (scene) =>
    Effect.gen(function* () {
      const running = yield* scene.start()
      yield* scene.well
      yield* whileTimePasses(running.interrupt)
      return running.run
    }),
  stuck: (scene) =>
    Effect.gen(function* () {
      const running = yield* scene.start()
      yield* scene.produce(1)
      yield* scene.working(running, 1)
      yield* pass(minute)
      return running.desk.finishAll()
    }),
  retrying: (scene) =>
    Effect.map(
      failing(
        scene,
        FailurePolicy.make(() => ({ _tag: "Retry", after: 5_000 }))
      ),
      ({ desk }) => Effect.andThen(pass(5_000), desk.finishAll())
    ),
  parked: (scene) =>
    Effect.map(failing(scene, FailurePolicy.park().pipe(FailurePolicy.orSkip)), ({ desk }) =>
      Effect.gen(function* () {
        // the cause is mended, and it comes again with the next assignment
        yield* scene.kafka.sessionUnsafe("a").evict
        for (let i = 0; i < 400 && desk.running.length === 0; i++) yield* pass(100)
        yield* desk.finishAll()
      })
    ),
  laneBound: (scene) =>
    Effect.gen(function* () {
      const running = yield* scene.start({ ordering: "key", stuckAfter: "1 hour" })
      yield* scene.produce(3, "hot")
      yield* scene.working(running, 1)
      yield* pass(10_000)
      return Effect.gen(function* () {
        for (let i = 0; i < 3; i++) yield* running.desk.finishAll()
      })
    }),
  lostToRetention: (scene) =>
    Effect.gen(function* () {
      yield* scene.produce(10)
      const running = yield* scene.start({ desk: new Desk({ auto: true }) })
      yield* scene.well
      yield* running.close
      yield* scene.produce(10)
      yield* scene.kafka.deleteRecordsBefore("t", 0, 15n)
      yield* scene.start({ desk: new Desk({ auto: true }) })
      return pass(60 * minute)
    }),
  eventLoopBlocked: (scene) =>
    Effect.gen(function* () {
      const desk = new Desk({
        around: ({ record }) =>
          Effect.sync(() => {
            const until = performance.now() + (record.offset === 0n ? 1_200 : 0)
            while (performance.now() < until);
          })
      })
      yield* scene.start({ desk })
      yield* scene.well
      // Node's timer has to have had its turns, to measure from
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 100)))
      yield* scene.produce(1)
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 100)))
      return Effect.gen(function* () {
        for (let i = 0; i < 60; i++) yield* pass(1_000)
      })
    }),
  zombie: (scene) =>
    Effect.gen(function* () {
      const running = yield* scene.start({
        name: "a",
        desk: new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
      })
      yield* scene.produce(1)
      yield* scene.working(running, 1)
      yield* scene.kafka.sessionUnsafe("a").evict
      return Effect.gen(function* () {
        for (let i = 0; i < 400 && (running.desk.attempts.length < 2 || running.desk.running.length > 0); i++) {
          yield* running.desk.finishAll()
          yield* pass(100)
        }
      })
    }),
  deadLetterFailing: (scene) =>
    Effect.gen(function* () {
      yield* scene.kafka.createTopic("dead")
      scene.kafka.faults.next("produce", { kind: "code", code: "NOT_ENOUGH_REPLICAS" }, { times: 1_000_000 })
      yield* failing(scene, FailurePolicy.deadLetter("dead"))
      return Effect.sync(() => scene.kafka.faults.clear())
    }),
  commitsFailing: (scene) =>
    Effect.gen(function* () {
      yield* scene.start({ desk: new Desk({ auto: true }), batchSize: 1 })
      yield* scene.well
      scene.kafka.faults.next("commit", { kind: "code", code: "NOT_COORDINATOR" }, { times: 1_000_000 })
      yield* scene.produce(1)
      return Effect.sync(() => scene.kafka.faults.clear())
    }),
  disconnected: (scene) =>
    Effect.gen(function* () {
      yield* scene.start()
      yield* scene.well
      yield* scene.kafka.brokerDown
      return scene.kafka.brokerUp
    }),
  protocolMismatch: (scene) =>
    Effect.gen(function* () {
      const other = yield* scene.start({ name: "other", client: { assignors: ["other"] } }, true)
      yield* pass(5_000)
      yield* scene.start()
      return other.close
    }),
  topicMissing: (scene) =>
    Effect.gen(function* () {
      yield* scene.start()
      yield* scene.well
      yield* scene.kafka.deleteTopic("t")
      return Effect.asVoid(scene.kafka.createTopic("t"))
    }),
  committerDead: (scene) =>
    Effect.gen(function* () {
      // a client with a fault in it
      const client = scene.kafka.client({ clientId: "a" })
      const commit: Session["commit"] = () => Effect.die(new Error("a fault of the client"))
      const broken = {
        ...client,
        openSession: (options: Parameters<typeof client.openSession>[0]) =>
          Effect.map(client.openSession(options), (session): Session => ({ ...session, commit }))
      }
      const running = yield* scene.start({ clientService: broken, desk: new Desk({ auto: true }) })
      yield* scene.produce(1)
      return restarted(scene, running)
    }),
  failed: (scene) => Effect.map(failing(scene, FailurePolicy.stop), (running) => restarted(scene, running)),
  shuttingDown: (scene) =>
    Effect.gen(function* () {
      const running = yield* scene.start({ shutdown: "drain" })
      yield* scene.produce(1)
      yield* scene.working(running, 1)
      yield* Effect.forkScoped(running.close)
      yield* turns
      return Effect.gen(function* () {
        yield* running.desk.finishAll()
        yield* pass(1_000)
        yield* restarted(scene, running)
      })
    })
}

describe("health by what causes it", () => {
  for (const [code, cause] of Object.entries(causes) as ReadonlyArray<[HealthCode, Cause]>) {
    it.effect(`${code}: seen over HTTP, and gone again`, () =>
      Effect.gen(function* () {
        yield* wake
        const measured =
          code === "eventLoopBlocked" ? yield* Layer.build(Observability.layerLoopDelay) : Context.empty()
        const kafka = yield* MemoryKafka.make()
        yield* kafka.createTopic("t", { partitions: 1 })
        const http = yield* endpoints(Observability.layerHealth({ consumers: 0 }))
        const scene = new Scene(kafka, http, yield* Effect.scope, measured)
        const takeAway = yield* cause(scene)
        yield* scene.until(`${code} is said`, (codes) => codes.includes(code))
        yield* takeAway
        yield* scene.well
      })
    )
  }

  it("is tried for every code that there is", () => {
    assert.sameMembers(Object.keys(causes), [...healthCodes])
  })
})

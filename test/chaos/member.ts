/**
 * A process that is a member of a group: `member.ts <options as JSON>`. It ends by SIGTERM, which interrupts its main fiber, and when
 * its standard input ends, which is when the process that started it has gone.
 *
 * Beside what its handlers do it writes what the client is asked to commit and what becomes of that: between the engine and the driver,
 * where both are as they are.
 */
import { ConcurrentConsumer, ConsumerRegistry, FailurePolicy, Handler, KafkaClient } from "@concurrent-kafka/core"
import type { ConcurrentConsumerShape, GroupOptions, RebalanceSnapshot, Session } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Platformatic } from "@concurrent-kafka/platformatic"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit, Layer, References, Schedule, Schema } from "effect"
import { closeSync, openSync } from "node:fs"
import { join } from "node:path"
import * as Ledger from "./ledger.ts"
import * as Records from "./records.ts"

export interface MemberOptions {
  /** `consumer` is platformatic with the group protocol of KIP-848, `cooperative` kafkajs with cooperative rebalances */
  readonly client: "kafkajs" | "platformatic" | "consumer" | "cooperative"
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  /** where what keeps failing is sent; without it such a record stops the member */
  readonly deadLetters: string | undefined
  /** what JSON can hold */
  readonly consumer: Pick<
    GroupOptions,
    | "groupId"
    | "concurrency"
    | "ordering"
    | "shutdown"
    | "batchInterval"
    | "sessionTimeout"
    | "heartbeatInterval"
    | "metadataMaxAge"
    | "maxHeldRecords"
    | "revokeDrain"
  >
  readonly ledger: string
  /** where processes leave marks for each other */
  readonly folder: string
}

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

const options = JSON.parse(process.argv[2] ?? "{}") as MemberOptions
const { pid } = process
process.stdin.resume().once("close", () => process.exit(1))

const sql = Ledger.statements(Ledger.openOwn(options.ledger))

/** For the first that asks, of all processes. */
const isFirst = (name: string): boolean => {
  try {
    closeSync(openSync(join(options.folder, name), "wx"))
    return true
  } catch {
    return false
  }
}

const work = ({ kind, millis, record }: Records.Order, attempt: number): Effect.Effect<void, Refused> =>
  Effect.gen(function* () {
    if (kind === "spins" && isFirst(`spun-${record}`)) {
      const end = Ledger.now() + millis
      while (Ledger.now() < end) JSON.stringify({ record })
      return
    }
    yield* Effect.sleep(kind === "spins" ? 20 : millis)
    if (kind === "fails" || (kind === "flaky" && attempt === 1)) return yield* new Refused()
  })

const outcomeOf = (exit: Exit.Exit<void, Refused>): string =>
  Exit.isSuccess(exit) ? "finished" : Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failed"

const handler = Handler.make(
  options.topic,
  Effect.fnUntraced(function* ({ attempt, epoch, generation, key, offset, partition, topic, value }) {
    const order = Records.decode(value)
    const id = sql(
      "INSERT INTO handlings (pid, topic, log, partition, offset, record, key, epoch, generation, attempt, started) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
    ).run(
      pid,
      topic,
      order.log,
      partition,
      offset,
      order.record,
      key === null ? null : Buffer.from(key).toString(),
      epoch,
      generation,
      attempt,
      Ledger.now()
    ).lastInsertRowid
    yield* Effect.onExit(work(order, attempt), (exit) =>
      Effect.sync(() => {
        sql("UPDATE handlings SET finished = ?, outcome = ? WHERE id = ?").run(Ledger.now(), outcomeOf(exit), id)
      })
    )
  })
)

/** The session with its starts and commits written down. */
const watched = (session: Session): Session => ({
  ...session,
  beginUnsafe: (starts) => {
    const generation = session.generationUnsafe()
    for (const { epoch, offset, partition, topic } of starts) {
      sql("INSERT INTO epochs VALUES (?,?,?,?,?,?,?)").run(
        pid,
        topic,
        partition,
        epoch,
        generation,
        offset,
        Ledger.now()
      )
    }
    session.beginUnsafe(starts)
  },
  commit: (entries) =>
    Effect.suspend(() => {
      const generation = session.generationUnsafe()
      const ids = entries.map(
        ({ epoch, metadata, offset, partition, topic }) =>
          sql(
            "INSERT INTO commits (pid, topic, partition, epoch, generation, offset, metadata, sent) VALUES (?,?,?,?,?,?,?,?)"
          ).run(pid, topic, partition, epoch, generation, offset, metadata, Ledger.now()).lastInsertRowid
      )
      return Effect.tap(session.commit(entries), (outcomes) =>
        Effect.sync(() => {
          outcomes.forEach((result, i) =>
            sql("UPDATE commits SET answered = ?, outcome = ?, code = ? WHERE id = ?").run(
              Ledger.now(),
              result.outcome,
              "code" in result ? result.code : null,
              ids[i]!
            )
          )
        })
      )
    })
})

const Client = Layer.effect(
  KafkaClient,
  Effect.map(KafkaClient, (client) => ({
    ...client,
    openSession: (settings) => Effect.map(client.openSession(settings), watched)
  }))
).pipe(
  Layer.provideMerge(
    (options.client === "platformatic" || options.client === "consumer" ? Platformatic : KafkaJs).layer({
      brokers: options.brokers,
      waitForBroker: true
    })
  )
)

const settings = {
  ...options.consumer,
  groupProtocol: options.client === "consumer" ? "consumer" : "classic",
  assignor: options.client === "cooperative" ? "cooperative-sticky" : undefined
} as const

const retried = FailurePolicy.retry(Schedule.spaced("200 millis").pipe(Schedule.upTo({ times: 2 })))

const Consumer =
  options.deadLetters === undefined
    ? ConcurrentConsumer.layerHandler(handler, { ...settings, onFailure: FailurePolicy.orStop(retried) })
    : ConcurrentConsumer.layerHandler(handler, {
        ...settings,
        onFailure: retried.pipe(FailurePolicy.orDeadLetter(options.deadLetters))
      })

/** Rebalances, health and figures, as they come and once more when the consumer has ended. */
const Reporter = Layer.effectDiscard(
  Effect.gen(function* () {
    const registry = yield* ConsumerRegistry
    let seen: ConcurrentConsumerShape | undefined
    let told: RebalanceSnapshot | undefined
    const report = Effect.gen(function* () {
      seen ??= (yield* registry.consumers)[0]
      if (seen === undefined) return
      const s = yield* seen.snapshot
      for (const r of s.rebalances.slice(told === undefined ? 0 : s.rebalances.indexOf(told) + 1)) {
        const at = Ledger.fromTimeOfDay(r.at)
        sql("INSERT INTO rebalances VALUES (?,?,?,?,?,?)").run(pid, at, r.kind, r.partitions, r.millis, r.inFlight)
        told = r
      }
      for (const { code } of s.health.reasons) {
        sql("INSERT OR IGNORE INTO codes VALUES (?,?,?)").run(pid, code, Ledger.now())
      }
      sql("INSERT OR REPLACE INTO states VALUES (?,?,?,?,?,?,?,?)").run(
        pid,
        Ledger.now(),
        s.partitions.length,
        s.interrupted,
        s.released,
        s.fenced,
        s.lostToRetention,
        s.unexpectedTransitions
      )
    })
    yield* Effect.addFinalizer(() => report)
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(report, Effect.sleep(100))))
  })
)

// from here on it hears SIGTERM
isFirst(`up-${pid}`)
NodeRuntime.runMain(
  ConcurrentConsumer.launch(Consumer.pipe(Layer.provide(Reporter), Layer.provide(Client))).pipe(
    Effect.provideService(References.MinimumLogLevel, "Debug")
  )
)

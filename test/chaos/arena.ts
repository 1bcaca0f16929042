/** What a scenario plays in: a topic and a group of its own, members, a load, and somebody who looks at the committed offsets. */
import { KafkaProducer } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Prng } from "@concurrent-kafka/testing/Prng"
import { Effect, Fiber, Layer } from "effect"
import type { Duration } from "effect"
import type { DatabaseSync } from "node:sqlite"
import * as Outside from "../integration/outside.ts"
import { until } from "../integration/until.ts"
import type * as Kafka from "../kafka/kafka.ts"
import * as Ledger from "./ledger.ts"
import { readLetters } from "./letters.ts"
import { type LoadOptions, makeLoad } from "./load.ts"
import type { MemberOptions } from "./member.ts"
import * as Members from "./members.ts"

const sampledEvery: Duration.Input = "100 millis"

/** Short sessions, so that what ends them is noticed soon. */
const consumer = {
  concurrency: 50,
  ordering: "key",
  shutdown: "drain",
  batchInterval: 1000,
  sessionTimeout: 6000,
  heartbeatInterval: 1000
} as const

export interface ArenaOptions {
  readonly kafka: Kafka.Kafka
  readonly name: string
  readonly partitions: number
  readonly folder: string
  readonly db: DatabaseSync
  /** the client of the members */
  readonly client: MemberOptions["client"]
  readonly seed: number
}

export const makeArena = Effect.fnUntraced(function* (options: ArenaOptions) {
  const { client, db, folder, kafka, name, partitions, seed } = options
  const chance = new Prng(seed, name)
  const sql = Ledger.statements(db)
  const outside = yield* Outside.connect(kafka.brokers)
  const context = yield* Layer.build(KafkaJs.layer({ brokers: kafka.brokers, deliveryTimeout: "60 seconds" }))
  const topic = Outside.fresh(`chaos-${name}`)
  const groupId = topic
  const createTopic = outside.createTopic(topic, partitions)
  yield* createTopic

  const members: Array<Members.Member> = []
  const told = (pid: number, signal: NodeJS.Signals) =>
    void sql("INSERT INTO signals VALUES (?,?,?)").run(pid, signal, Ledger.now())
  const member = (
    options: Partial<MemberOptions["consumer"]> & Partial<Pick<MemberOptions, "brokers" | "deadLetters">> = {}
  ) => {
    const { brokers = kafka.brokers, deadLetters, ...own } = options
    const all = { client, brokers, topic, deadLetters, folder, consumer: { ...consumer, groupId, ...own } }
    return Effect.tap(Members.start(all, told), (started) => {
      members.push(started)
      const ended = Effect.map(started.process.exited, ({ code }) => {
        sql("INSERT INTO exits VALUES (?,?,?,?)").run(started.pid, code, started.asked ?? null, Ledger.now())
      })
      return Effect.forkScoped(ended)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Records
  // -------------------------------------------------------------------------------------------------------------------

  /** the log that is in the topic now; undefined while nobody can say */
  let log: string | undefined = "a"
  const loading = makeLoad(db, topic, yield* Effect.provide(KafkaProducer, context), new Prng(seed, `${name} load`))
  const loads: Array<Fiber.Fiber<never>> = []
  const load = (options: Omit<LoadOptions, "log">) =>
    Effect.suspend(() =>
      Effect.map(Effect.forkScoped(loading.run({ ...options, log: log ?? "" })), (fiber) => loads.push(fiber))
    )
  const send = (count: number, options: Omit<LoadOptions, "log" | "perSecond">) =>
    Effect.suspend(() => loading.send(count, { ...options, log: log ?? "" }))
  const endLoad = Effect.suspend(() => Fiber.interruptAll(loads.splice(0)))

  // -------------------------------------------------------------------------------------------------------------------
  // What an outsider reads
  // -------------------------------------------------------------------------------------------------------------------

  const known = new Map<string, string>()
  const sample = Effect.gen(function* () {
    const of = log
    if (of === undefined) return
    const commits = yield* outside.commits(groupId, topic)
    const answered = Ledger.now()
    if (of !== log) return
    for (const [partition, { metadata, offset }] of commits) {
      const text = `${offset} ${metadata}`
      if (known.get(`${of}/${partition}`) === text) continue
      known.set(`${of}/${partition}`, text)
      sql("INSERT INTO samples VALUES (?,?,?,?,?)").run(of, partition, offset, metadata, answered)
    }
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.exit(sample), Effect.sleep(sampledEvery))))

  const finished = Effect.sync(() => members.reduce((sum, one) => sum + one.finished, 0))
  const living = () => members.filter(({ asked }) => asked === undefined)

  return {
    kafka,
    chance,
    outside,
    db,
    topic,
    groupId,
    createTopic,
    members,
    living,
    member,
    load,
    send,
    endLoad,
    finished,
    /** From here on nobody looks; a topic that is deleted has no committed offsets that mean anything. */
    closeLog: Effect.sync(() => {
      log = undefined
    }),
    /** What is in the topic from now on has nothing to do with what was before. */
    openLog: (next: string) =>
      Effect.sync(() => {
        log = next
      }),
    /** So that a ledger that is kept tells what was done. */
    note: (what: string) => Effect.sync(() => void sql("INSERT INTO notes VALUES (?,?)").run(Ledger.now(), what)),
    /** The broker deletes what lies before an offset. */
    cut: (partition: number, offset: number) =>
      Effect.andThen(
        // what is not finished by then was lost, or finished later because it had been fetched
        Effect.sync(
          () => void sql("INSERT INTO cuts VALUES (?,?,?,?)").run(log ?? "", partition, offset, Ledger.now())
        ),
        outside.deleteBefore(topic, partition, BigInt(offset))
      ),
    sees: (what: string, is: () => boolean, within?: Duration.Input) =>
      Effect.asVoid(until(what, Effect.sync(is), (yes) => yes, within)),
    /** Until a member has finished so many more. */
    handles: (one: Members.Member, more: number, within?: Duration.Input) =>
      Effect.suspend(() => {
        const before = one.finished
        return Effect.asVoid(
          until(
            `process ${one.pid} handles ${more} more`,
            Effect.sync(() => one.finished),
            (n) => n >= before + more,
            within
          )
        )
      }),
    /** Until the group has finished so many more. */
    goesOn: (more: number, within?: Duration.Input) =>
      Effect.flatMap(finished, (before) =>
        Effect.asVoid(until(`the group handles ${more} more`, finished, (n) => n >= before + more, within))
      ),
    /** Ends the load, and returns when the group has committed all. */
    settle: Effect.gen(function* () {
      yield* endLoad
      const ends = yield* until("the ends can be read", outside.ends(topic), (all) => all.size === partitions)
      for (const [partition, end] of ends) {
        sql("INSERT OR REPLACE INTO ends VALUES (?,?,?)").run(log ?? "", partition, end)
      }
      yield* until(
        "everything is committed",
        outside.committed(groupId, topic),
        (now) => Outside.same(now, ends),
        "60 seconds"
      )
      yield* Effect.orDie(sample)
    }),
    /** Ends the members in order. */
    dismiss: Effect.suspend(() => Effect.forEach(living(), (one) => one.terminate, { concurrency: "unbounded" })),
    /** Takes down which records have dead letters. */
    letters: (from: string) =>
      Effect.map(readLetters(kafka.brokers, from), (all) => {
        for (const letter of all) {
          const at = Ledger.fromTimeOfDay(letter.at)
          sql("INSERT INTO letters VALUES (?,?,?,?)").run(letter.log, letter.partition, letter.offset, at)
        }
        return all
      })
  }
})

export type Arena = Effect.Success<ReturnType<typeof makeArena>>

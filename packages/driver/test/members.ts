/** What the tests of clients share: settings of sessions, and a program that answers what a session signals. */
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import type {
  AssignedPartition,
  CommitOutcome,
  EpochPartition,
  Revoking,
  Session,
  SessionSettings,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"

let count = 0
export const unique = (name: string): string => `client-${name}-${process.pid}-${Date.now().toString(36)}-${++count}`

export const settingsOf = (
  groupId: string,
  topics: ReadonlyArray<string>,
  rest: Partial<SessionSettings> = {}
): SessionSettings => ({
  groupId,
  topics,
  isolation: "read_committed",
  sessionTimeout: 10_000,
  heartbeatInterval: 300,
  rebalanceTimeout: 20_000,
  revokeTimeout: 5000,
  metadataMaxAge: 1000,
  maxWait: 250,
  topicTimeout: undefined,
  ...rest
})

// ---------------------------------------------------------------------------------------------------------------------
// A member: answers what a session asks, and remembers everything
// ---------------------------------------------------------------------------------------------------------------------

export interface MemberOptions {
  /** Where new epochs begin; by default at the committed offset, else at 0. `undefined`: not begun. */
  readonly start?: ((partition: AssignedPartition) => bigint | undefined) | undefined
  /** By default acknowledged at once. */
  readonly onRevoking?: ((signal: Revoking, member: Member) => void) | undefined
}

export class Member {
  readonly session: Session
  readonly signals: Array<Signal> = []
  readonly records: Array<ConsumerRecord & { readonly epoch: number }> = []
  readonly position = new Map<string, bigint>()
  owned: ReadonlyArray<AssignedPartition> = []
  ended: KafkaClientError | "done" | undefined

  constructor(session: Session) {
    this.session = session
  }

  of<T extends Signal["_tag"]>(tag: T): Array<Extract<Signal, { readonly _tag: T }>> {
    return this.signals.filter((signal): signal is Extract<Signal, { readonly _tag: T }> => signal._tag === tag)
  }

  partition(partition: number): EpochPartition {
    const found = this.owned.find((owned) => owned.partition === partition)
    if (found === undefined) throw new Error(`partition ${partition} is not owned`)
    return { topic: found.topic, partition, epoch: found.epoch }
  }

  partitions(): ReadonlyArray<number> {
    return this.owned.map(({ partition }) => partition).sort((a, b) => a - b)
  }

  commit(partition: number, offset: bigint, metadata = ""): Effect.Effect<CommitOutcome> {
    return Effect.map(
      this.session.commit([{ ...this.partition(partition), offset, metadata }]),
      ([outcome]) => outcome!
    )
  }

  values(): ReadonlyArray<string> {
    return this.records.map(({ value }) => String(value === null ? null : Buffer.from(value)))
  }
}

export const attend = (session: Session, options: MemberOptions = {}): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.gen(function* () {
    const member = new Member(session)
    const start = options.start ?? ((p: AssignedPartition) => p.committed?.offset ?? 0n)
    const loop = Effect.gen(function* () {
      while (true) {
        const signal = yield* Queue.take(session.inbox)
        member.signals.push(signal)
        switch (signal._tag) {
          case "Assigned":
            member.owned = signal.all
            session.beginUnsafe(
              signal.all.flatMap((p) => {
                const offset = p.retained ? undefined : start(p)
                return offset === undefined ? [] : [{ ...p, offset }]
              })
            )
            break
          case "Revoking":
            if (options.onRevoking) options.onRevoking(signal, member)
            else signal.acknowledgeUnsafe()
            break
          case "Lost":
            member.owned = []
            break
          case "Chunk":
            for (const record of signal.records) member.records.push(Object.assign(record, { epoch: signal.epoch }))
            member.position.set(`${signal.topic}/${signal.partition}`, signal.nextOffset)
            break
          default:
        }
      }
    })
    yield* Effect.forkScoped(
      Effect.catchCause(loop, (cause) =>
        Effect.sync(() => {
          const failed = cause.reasons.find((reason) => reason._tag === "Fail")
          const error = failed?._tag === "Fail" ? failed.error : undefined
          if (error !== undefined) member.ended = error._tag === "KafkaClientError" ? error : "done"
        })
      )
    )
    return member
  })

/** Opens a session, attends to it and joins. */
export const join = (
  settings: SessionSettings,
  options: MemberOptions = {}
): Effect.Effect<Member, KafkaClientError, KafkaClient | Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* KafkaClient
    const member = yield* attend(yield* client.openSession(settings), options)
    yield* member.session.join
    return member
  })

/** The partitions that the member has now: an exact revoke takes some of them without an assignment that says so. */
export const heldBy = (member: Member): ReadonlyArray<number> => {
  let held: ReadonlyArray<number> = []
  for (const signal of member.signals) {
    if (signal._tag === "Assigned") held = signal.all.map(({ partition }) => partition)
    if (signal._tag === "Lost" || (signal._tag === "Revoking" && signal.exact)) {
      held = held.filter((one) => !signal.partitions.some(({ partition }) => partition === one))
    }
  }
  return held.toSorted((x, y) => x - y)
}

/** Waits for what must come, looking every few milliseconds, and says what did not. */
export const until = (what: string, is: () => boolean, within = 20_000): Effect.Effect<void> =>
  Effect.gen(function* () {
    const end = performance.now() + within
    while (!is()) {
      if (performance.now() > end) return yield* Effect.die(new Error(`waited ${within} ms for: ${what}`))
      yield* Effect.sleep(5)
    }
  })

export const numbers = (from: number, to: number): Array<string> =>
  Array.from({ length: to - from }, (_, i) => String(from + i))

export const range = (count: number): Array<number> => Array.from({ length: count }, (_, i) => i)

/** The member has got so many records, and none twice. */
export const assertOnceEach = (member: Member, count: number): void => {
  const seen = member.records.map(({ offset, partition }) => `${partition}/${offset}`)
  assert.strictEqual(new Set(seen).size, seen.length, "nothing comes twice")
  assert.strictEqual(seen.length, count)
}

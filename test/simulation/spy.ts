/**
 * A session as the engine gets it, with the checker between it and the client: it sees when the engine looks at a signal, and
 * everything that the engine asks of the client.
 */
import type { Session, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Checker } from "./checker.ts"
import type { Owner } from "./owner.ts"
import { keyOf } from "./truth.ts"

/** Reading its tag is the first thing that anybody does with a signal. */
const watched = <S extends Signal>(signal: S, seen: () => void): S => {
  const tag = signal._tag
  let first = true
  return Object.defineProperty({ ...signal }, "_tag", {
    enumerable: true,
    get: () => {
      if (first) {
        first = false
        seen()
      }
      return tag
    }
  })
}

export const watch = (
  checker: Checker,
  owner: Owner,
  inner: Session,
  /** the run that leaves may be followed by another one */
  mayRunAgain: () => boolean
): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function* () {
    const outer = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
    const say = (what: string) => checker.trace.log(owner.name, what)
    const pass = (signal: Signal): Signal => {
      if (signal._tag !== "Revoking") {
        return watched(signal, () => {
          checker.sessions.seen(owner, signal)
          say(`sees ${describe(signal)}`)
        })
      }
      const revoking: Signal = {
        ...signal,
        acknowledgeUnsafe: () => {
          say(`answers the revoke of ${list(signal.partitions)}`)
          checker.sessions.acknowledged(owner, signal)
          signal.acknowledgeUnsafe()
        }
      }
      return watched(revoking, () => {
        checker.sessions.seen(owner, signal)
        say(`sees ${describe(signal)}`)
      })
    }
    let newest: Signal | undefined
    const passAll = (signals: ReadonlyArray<Signal>): void => {
      for (const signal of signals) if (signal._tag === "Assigned") newest = signal
      Queue.offerAllUnsafe(outer, signals.map(pass))
    }
    // what was on its way when the group was left: a client does not take it back
    const leftovers = Effect.sync(() => {
      if (newest?._tag !== "Assigned" || newest.all.length === 0 || !mayRunAgain()) return
      const revoking: Signal = {
        _tag: "Revoking",
        partitions: newest.all,
        exact: false,
        hold: inner.settings.revokeTimeout,
        acknowledgeUnsafe: () => {}
      }
      passAll([newest, revoking])
    })
    yield* Effect.forkScoped(
      Effect.catchCause(Effect.forever(Effect.map(Queue.takeAll(inner.inbox), passAll)), (cause) =>
        Effect.sync(() => {
          owner.closing ??= "the inbox ended"
          owner.life.sessionEnded = true
          Queue.failCauseUnsafe(outer, cause)
        })
      )
    )
    return {
      ...inner,
      inbox: outer,
      join: Effect.andThen(
        Effect.sync(() => {
          owner.left = false
          say("joins")
          owner.joins()
        }),
        inner.join
      ),
      logOffsets: (partitions) =>
        Effect.suspend(() => {
          const missing = partitions.find((p) => checker.leaderless.has(keyOf(p)))
          if (missing === undefined) return inner.logOffsets(partitions)
          checker.happened("leaderless")
          return Effect.fail(new KafkaClientError({ reason: "Connection", detail: `${keyOf(missing)} has no leader` }))
        }),
      beginUnsafe: (starts) => {
        for (const start of starts) {
          say(`begins ${keyOf(start)}#${start.epoch} at ${start.offset}`)
          checker.commits.began(owner, start)
        }
        inner.beginUnsafe(starts)
      },
      pauseUnsafe: (partitions) => {
        say(`pauses ${list(partitions)}`)
        inner.pauseUnsafe(partitions)
      },
      resumeUnsafe: (partitions) => {
        say(`resumes ${list(partitions)}`)
        inner.resumeUnsafe(partitions)
      },
      reopenUnsafe: (partition) => {
        const next = inner.reopenUnsafe(partition)
        say(`reopens ${list([partition])} as ${next?.epoch}`)
        if (next !== undefined) checker.sessions.reopened(owner, partition, next)
        return next
      },
      commit: (entries) =>
        Effect.suspend(() => {
          say(`commits ${entries.map((e) => `${keyOf(e)}#${e.epoch}=${e.offset}`).join(" ")}`)
          checker.commits.committing(owner, entries)
          return Effect.tap(inner.commit(entries), (outcomes) =>
            Effect.sync(() => {
              say(
                `hears ${outcomes.map((o) => `${keyOf(o)} ${o.outcome}${"code" in o ? ` ${o.code}` : ""}`).join(", ")}`
              )
              checker.commits.outcomes(owner, outcomes)
            })
          )
        }),
      leave: Effect.andThen(
        Effect.sync(() => {
          say("leaves")
          checker.sessions.leaving(owner)
        }),
        Effect.andThen(inner.leave, leftovers)
      )
    }
  })

/** A client whose sessions are watched: the first that is opened is that of the first member. */
export const watchedClient = (
  client: KafkaClient["Service"],
  checker: Checker,
  owners: ReadonlyArray<Owner>,
  mayRunAgain: () => boolean
): KafkaClient["Service"] => {
  let opened = 0
  return KafkaClient.of({
    ...client,
    openSession: (settings) =>
      Effect.suspend(() => {
        const owner = owners[opened++]!
        return Effect.flatMap(client.openSession(settings), (session) => watch(checker, owner, session, mayRunAgain))
      })
  })
}

/** A producer whose answers are heard before the engine hears them. */
export const watchedProducer = (
  producer: KafkaProducer["Service"],
  checker: Checker,
  name: string,
  owners: ReadonlyArray<Owner>
): KafkaProducer["Service"] =>
  KafkaProducer.fromProducer({
    send: (records) =>
      Effect.suspend(() => {
        const recs = records.map((record) => checker.recordOf(record))
        const which = recs.map((rec) => `${keyOf(rec)}@${rec.offset}`).join(" ")
        checker.trace.log(name, `sends dead letters of ${which}`)
        for (const owner of owners) checker.attempts.letters(owner, recs)
        return Effect.onExit(producer.send(records), (exit) =>
          Effect.sync(() => {
            for (const owner of owners) for (const rec of recs) owner.letters.delete(rec)
            if (owners[0]!.realm.state === "dead") return
            checker.trace.log(name, `dead letters of ${which}: ${Exit.isSuccess(exit) ? "sent" : "not sent"}`)
            if (Exit.isSuccess(exit)) for (const rec of recs) checker.attempts.sent(owners, rec)
          })
        )
      })
  })

const list = (partitions: ReadonlyArray<{ topic: string; partition: number; epoch: number }>): string =>
  partitions.map((p) => `${keyOf(p)}#${p.epoch}`).join(" ")

const describe = (signal: Signal): string => {
  switch (signal._tag) {
    case "Chunk":
      return `chunk ${list([signal])} of ${signal.records.length} to ${signal.nextOffset}`
    case "Assigned":
      return `assigned ${signal.all.map((p) => `${keyOf(p)}#${p.epoch}${p.retained ? " kept" : `@${p.committed?.offset}`}`).join(", ")}`
    case "Revoking":
      return `revoking${signal.exact ? " exactly" : ""} ${list(signal.partitions)}, held ${signal.hold}`
    case "Lost":
      return `lost ${list(signal.partitions)}`
    case "OutOfRange":
      return `out of range ${list([signal])} at ${signal.position} of ${signal.start}..${signal.end}`
    case "Gone":
      return `gone ${list([signal])} ${signal.why}`
    case "Connection":
      return `connection ${signal.state}`
  }
}

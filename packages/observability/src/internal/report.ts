/**
 * What the health endpoints answer: of every consumer what its health says, and of all together the worst.
 *
 * Nothing of a record is in it but its place (topic, partition, offset).
 */
import type { ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { Health, HealthReason } from "@concurrent-kafka/core/Health"
import * as Effect from "effect/Effect"

export interface Reason extends Pick<HealthReason, "code" | "message" | "count" | "members"> {
  /** ISO 8601 */
  readonly since: string
  /** the offset as text: JSON has no numbers of this size */
  readonly at?: { readonly topic: string; readonly partition: number; readonly offset?: string }
}

export interface Report {
  readonly status: Health["status"]
  readonly live: boolean
  readonly ready: boolean
  /** how many there have to be, where fewer are there: not ready then */
  readonly expected?: number
  readonly consumers: ReadonlyArray<
    Pick<Health, "status" | "live" | "ready"> & { readonly name: string; readonly reasons: ReadonlyArray<Reason> }
  >
}

/** A probe's answer: of the consumers that say no, why. */
export interface Verdict {
  readonly ok: boolean
  readonly expected?: number
  readonly because: Readonly<Record<string, ReadonlyArray<HealthReason["code"]>>>
}

const reasonOf = ({ at, code, count, members, message, since }: HealthReason): Reason => ({
  code,
  message,
  since: new Date(since).toISOString(),
  count,
  ...(at === undefined
    ? {}
    : {
        at: {
          topic: at.topic,
          partition: at.partition,
          ...(at.offset === undefined ? {} : { offset: String(at.offset) })
        }
      }),
  ...(members === undefined ? {} : { members })
})

const worst = (statuses: ReadonlyArray<Health["status"]>): Health["status"] =>
  statuses.includes("down") ? "down" : statuses.includes("degraded") ? "degraded" : "ok"

export const reportOf = (all: ReadonlyArray<ConcurrentConsumerShape>, expected: number): Effect.Effect<Report> =>
  Effect.map(
    Effect.forEach(all, ({ health, name }) => Effect.map(health, (its) => ({ name, ...its }))),
    (consumers): Report => {
      const missing = consumers.length < expected
      const status = worst(consumers.map((consumer) => consumer.status))
      return {
        status: missing ? worst([status, "degraded"]) : status,
        live: consumers.every(({ live }) => live),
        ready: !missing && consumers.every(({ ready }) => ready),
        ...(missing ? { expected } : {}),
        consumers: consumers.map(({ live, name, ready, reasons, status }) => ({
          name,
          status,
          live,
          ready,
          reasons: reasons.map(reasonOf)
        }))
      }
    }
  )

export const verdictOf = (report: Report, which: "live" | "ready"): Verdict => ({
  ok: report[which],
  ...(which === "ready" && report.expected !== undefined ? { expected: report.expected } : {}),
  because: Object.fromEntries(
    report.consumers
      .filter((consumer) => !consumer[which])
      .map(({ name, reasons }) => [name, reasons.map(({ code }) => code)])
  )
})

/**
 * kafkajs's log lines into Effect's logger, in the context of whoever opened the client, for debugging only: what kafkajs
 * calls an error is one connection attempt of many, and trouble that lasts is told by `Connection` signals and by errors.
 *
 * Only the message and what names a broker or a group go along: the other extras may hold payloads or settings.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import { givenUp } from "./wire.ts"
import kafkajs, { type logCreator } from "kafkajs"

const kept = ["broker", "clientId", "groupId", "error", "retryCount"] as const

export interface KafkaJsLogging {
  readonly logLevel: number
  readonly logCreator: logCreator
}

export const logging = (context: Context.Context<never>): KafkaJsLogging => {
  const run = Effect.runForkWith(context)
  const { logLevel } = kafkajs
  const shown = (level: LogLevel.LogLevel) =>
    LogLevel.isLessThanOrEqualTo(Context.get(context, References.MinimumLogLevel), level)
  return {
    // building the extras of each request costs time; nobody would see them
    logLevel: shown("Trace") ? logLevel.DEBUG : shown("Debug") ? logLevel.WARN : logLevel.NOTHING,
    logCreator:
      () =>
      ({ level, log, namespace }) => {
        if (log.message.includes(givenUp)) return
        const annotations: Record<string, unknown> = {}
        for (const key of kept) {
          const value = log[key]
          if (typeof value === "string" || typeof value === "number") annotations[key] = value
        }
        const message = `kafkajs ${namespace}: ${log.message}`
        run(
          Effect.annotateLogs(level <= logLevel.WARN ? Effect.logDebug(message) : Effect.logTrace(message), annotations)
        )
      }
  }
}

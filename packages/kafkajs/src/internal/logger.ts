/**
 * kafkajs's log lines into Effect's logger, in the context of whoever opened the client. Only the message and what names a
 * broker or a group go along: extras may hold payloads. What kafkajs calls an error is mostly a connection attempt that it
 * makes again, and trouble that lasts is told by a `Connection` signal; so errors become warnings, and the rest is for debugging.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import kafkajs, { type logCreator } from "kafkajs"

const kept = ["broker", "clientId", "groupId", "error", "retryCount"] as const

export interface KafkaJsLogging {
  readonly logLevel: number
  readonly logCreator: logCreator
}

export const logging = (context: Context.Context<never>): KafkaJsLogging => {
  const run = Effect.runForkWith(context)
  const verbose = LogLevel.isLessThanOrEqualTo(Context.get(context, References.MinimumLogLevel), "Debug")
  const { logLevel } = kafkajs
  return {
    // building the extras of each request costs time; nobody would see them
    logLevel: verbose ? logLevel.DEBUG : logLevel.WARN,
    logCreator:
      () =>
      ({ level, log, namespace }) => {
        const annotations: Record<string, unknown> = {}
        for (const key of kept) {
          const value = log[key]
          if (typeof value === "string" || typeof value === "number") annotations[key] = value
        }
        const message = `kafkajs ${namespace}: ${log.message}`
        const line =
          level <= logLevel.WARN
            ? Effect.logWarning(message)
            : level <= logLevel.INFO
              ? Effect.logDebug(message)
              : Effect.logTrace(message)
        run(Effect.annotateLogs(line, annotations))
      }
  }
}

#!/usr/bin/env node
/**
 * The process. Exit codes: 0 done, 1 failed, 2 bad arguments or settings, 130 stopped by a signal; what is under way is finished and committed then.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import { readFileSync } from "node:fs"
import { command } from "../Cli.ts"
import { isBadSetting, sentenceOf } from "./settings.ts"

const manifest: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
const version =
  typeof manifest === "object" && manifest !== null && "version" in manifest ? String(manifest.version) : "0.0.0"

const badArguments = 2

/** The parser has written what is wrong itself. */
const isUsage = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "ShowHelp"

const isBadArguments = (error: unknown): boolean => isUsage(error) || isBadSetting(error)

const main = Command.run(command, { version }).pipe(
  Effect.tapCause((cause) => {
    if (Cause.hasInterruptsOnly(cause)) return Effect.void
    const reason = cause.reasons.find(Cause.isFailReason)
    if (reason === undefined) return Console.error(Cause.pretty(cause))
    return isUsage(reason.error) ? Effect.void : Console.error(`error: ${sentenceOf(reason.error)}`)
  }),
  // stdout is for the result
  Effect.provideService(Logger.LogToStderr, true),
  Effect.provide(NodeServices.layer)
)

NodeRuntime.runMain(main, {
  disableErrorReporting: true,
  teardown: (exit, onExit) =>
    Exit.isFailure(exit) &&
    exit.cause.reasons.some((reason) => Cause.isFailReason(reason) && isBadArguments(reason.error))
      ? onExit(badArguments)
      : Runtime.defaultTeardown(exit, onExit)
})

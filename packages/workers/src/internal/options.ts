/** Validation of a pool's options: `InvalidOptions` names the option, the value and what is accepted. */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { availableParallelism } from "node:os"
import type { ResourceLimits } from "node:worker_threads"
import type { WorkerPoolOptions } from "../WorkerPool.ts"
import type { ThreadsSettings } from "./threads.ts"

export interface PoolSettings extends ThreadsSettings {
  readonly start: "now" | "lazy"
}

const refuse = (option: string, value: unknown, accepted: string): never => {
  throw new InvalidOptions({ option, value, accepted })
}

/** what a timer of Node takes */
const longestTimer = 2 ** 31 - 1

const millis = (option: string, value: Duration.Input | undefined, fallback: number, minimum: number): number => {
  if (value === undefined) return fallback
  const ms = Option.getOrUndefined(Option.map(Duration.fromInput(value), Duration.toMillis))
  return ms !== undefined && ms >= minimum && ms <= longestTimer
    ? ms
    : refuse(option, value, `a duration of ${minimum} to ${longestTimer} ms`)
}

const urlOf = (module: unknown): URL => {
  const accepted = 'a URL, such as new URL("./handler.worker.ts", import.meta.url)'
  if (module instanceof URL) return module
  if (typeof module !== "string") return refuse("module", module, accepted)
  return URL.parse(module) ?? refuse("module", module, accepted)
}

const sizeOf = (size: unknown): number =>
  size === undefined
    ? Math.max(1, availableParallelism() - 1)
    : typeof size === "number" && Number.isSafeInteger(size) && size >= 1
      ? size
      : refuse("size", size, "an integer of at least 1")

const limitsOf = (limits: ResourceLimits | undefined): ResourceLimits | undefined => {
  for (const [name, value] of Object.entries(limits ?? {})) {
    const isNumber = typeof value === "number" && Number.isFinite(value) && value > 0
    if (value !== undefined && !isNumber) refuse(`resourceLimits.${name}`, value, "a number above 0")
  }
  return limits
}

const startOf = (start: unknown): "now" | "lazy" =>
  start === undefined || start === "now" ? "now" : start === "lazy" ? start : refuse("start", start, '"now" or "lazy"')

const nameOf = (name: unknown, url: URL): string =>
  name === undefined
    ? (url.protocol === "data:" ? undefined : url.pathname.split("/").at(-1)) || "worker"
    : typeof name === "string" && name.length > 0
      ? name
      : refuse("name", name, "a text that is not empty")

export const validate = (options: WorkerPoolOptions): Effect.Effect<PoolSettings, InvalidOptions> =>
  Effect.try({
    try: () => {
      const url = urlOf(options.module)
      return {
        href: url.href,
        name: nameOf(options.name, url),
        size: sizeOf(options.size),
        start: startOf(options.start),
        loadTimeout: millis("loadTimeout", options.loadTimeout, 30_000, 1),
        interruptGrace: millis("interruptGrace", options.interruptGrace, 100, 0),
        resourceLimits: limitsOf(options.resourceLimits)
      }
    },
    catch: (error) => {
      if (error instanceof InvalidOptions) return error
      throw error
    }
  })

/**
 * One Kafka for all test files that need a broker: `inject("brokers")` has its addresses.
 *
 * Where there is none, every test of the project is reported as skipped, with the reason printed once. With `CI` set the run
 * fails instead: a green run must not hide that nothing was tried on a real Kafka.
 */
import { Effect, Exit, Scope } from "effect"
import type { TestProject } from "vitest/node"
import * as Archive from "./archive.ts"
import * as Kafka from "./kafka.ts"
import { refuseSkips } from "./skips.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly brokers: ReadonlyArray<string>
    readonly source: "env" | "java" | "container" | "none"
    /** Whether a test can start a Kafka of its own; it can not everywhere where `KAFKA_BROKERS` is set. */
    readonly own: boolean
    /** Whether that can keep its data in a folder, and end with a process that was killed: that takes Java. */
    readonly folder: boolean
  }
}

const setup = async (project: TestProject) => {
  const started = performance.now()
  const say = (text: string) => process.stdout.write(`Kafka: ${text}\n`)
  const scope = Scope.makeUnsafe()
  const end = () => Effect.runPromise(Scope.close(scope, Exit.void))

  const result = await Effect.runPromise(Effect.result(Scope.provide(Kafka.start(), scope)))
  if (result._tag === "Failure") {
    await end()
    refuseSkips("Kafka", result.failure)
    say(
      `none, so the tests that need one are skipped: ${result.failure.reason}. Set KAFKA_BROKERS, or install Java and Maven, or docker or podman.`
    )
    project.provide("brokers", [])
    project.provide("source", "none")
    project.provide("own", false)
    project.provide("folder", false)
    // no name matches: skipped tests run neither themselves nor the hooks of their suites, which would fail without a Kafka
    project.config.testNamePattern = /(?!)/
    return undefined
  }

  const { brokers, source } = result.success
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const where = {
    env: "KAFKA_BROKERS",
    java: `Java, started in ${seconds} s`,
    container: `a container, started in ${seconds} s`
  }
  say(`${brokers.join(",")} (${where[source]})`)
  const own = await Effect.runPromise(Effect.result(Kafka.rung))
  if (own._tag === "Failure") {
    refuseSkips("Kafka", own.failure)
    say(`the tests that start one of their own are skipped: ${own.failure.reason}`)
  } else if (own.success.source === "java" && own.success.insteadOf !== undefined) {
    say(`a container was asked for, and this is Java: ${own.success.insteadOf.reason}`)
  }
  const folder = own._tag === "Success" ? await Effect.runPromise(Effect.result(Kafka.prepare)) : own
  if (own._tag === "Success" && folder._tag === "Failure") {
    say(`the tests with one that keeps its data in a folder are skipped: ${folder.failure.reason}`)
  }
  // the brokers that tests start are there sooner for it; whatever is wrong with it, they would say
  if (folder._tag === "Success") await Effect.runPromise(Effect.ignore(Archive.keep))
  project.provide("brokers", brokers)
  project.provide("source", source)
  project.provide("own", own._tag === "Success")
  project.provide("folder", folder._tag === "Success")
  return end
}

export default setup

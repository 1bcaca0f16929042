/** The service: `node src/service.ts [all|api|worker]`. SIGTERM ends it in order. */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Exit } from "effect"
import { type Role, roles } from "./app.ts"

const role = process.argv[2] ?? "all"
const isRole = (name: string): name is Role => Object.hasOwn(roles, name)

if (isRole(role)) {
  NodeRuntime.runMain(ConcurrentConsumer.launch(roles[role]), {
    teardown: (exit, onExit) => onExit(Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? 1 : 0)
  })
} else {
  process.stderr.write(`There is no role ${role}. There are: ${Object.keys(roles).join(", ")}\n`)
  process.exitCode = 2
}

/**
 * A Kafka of the demo's own, one node in KRaft mode on 127.0.0.1, whose data outlives the process: what `--resume` goes on with.
 *
 * It runs under the supervisor of the tests' Kafka, a process in a session of its own. A Ctrl-C on the terminal does not reach the
 * broker, so that the consumer can commit first; and however this process ends, the supervisor notices and stops the broker.
 */
import * as Kafka from "@concurrent-kafka/test/kafka"
import { Deferred, Effect, Exit } from "effect"
import type { Scope } from "effect"
import { execFile, spawn } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { DemoError, failedAt } from "./error.ts"

const supervisor = fileURLToPath(new URL("supervisor.ts", import.meta.resolve("@concurrent-kafka/test/kafka")))
const jvm = [
  "-Xmx256m",
  "-XX:TieredStopAtLevel=1",
  "-XX:+UseSerialGC",
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
  "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"
]
const readyText = "Kafka Server started"

/** Whether this machine can run one; the first time Maven fetches Kafka's jars. */
export const { prepare } = Kafka

const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

const properties = (data: string, port: number, controllerPort: number): string =>
  Object.entries({
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@127.0.0.1:${controllerPort}`,
    "controller.listener.names": "CONTROLLER",
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${port}`,
    "log.dirs": data,
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": "4194304"
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join("")

const answers = (address: string) =>
  Effect.callback<boolean>((resume) => {
    const [host = "", port = ""] = address.split(":")
    const socket = connect({ host, port: Number(port) })
    const end = (answer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    socket.once("connect", () => end(true)).once("error", () => end(false))
  })

/**
 * The broker of the last run may still be ending: the supervisor removes its folder when it is gone. A folder that stays without a
 * broker behind it is what is left of a machine that was switched off.
 */
const lastIsGone = Effect.fnUntraced(function* (running: string, address: string) {
  for (let tries = 0; existsSync(running) && tries < 100; tries++) yield* Effect.sleep("100 millis")
  if (!existsSync(running)) return
  if (yield* answers(address))
    return yield* new DemoError({ reason: `another demo is running, with Kafka on ${address}` })
  rmSync(running, { recursive: true, force: true })
})

export interface BrokerOptions {
  readonly folder: string
  /** The data that is there is thrown away. */
  readonly fresh: boolean
  readonly java: { readonly classes: string; readonly command: string }
}

/** Starts it on the data in `folder`; gives its address. */
export const startBroker = Effect.fnUntraced(function* ({
  folder,
  fresh,
  java
}: BrokerOptions): Effect.fn.Return<string, DemoError, Scope.Scope> {
  const { classes, command } = java
  const running = join(folder, "running")
  const data = join(folder, "data")
  const settings = join(folder, "server.properties")
  const before = existsSync(settings) ? readFileSync(settings, "utf8") : ""
  yield* lastIsGone(running, /PLAINTEXT:\/\/([^,\n]+)/.exec(before)?.[1] ?? "")
  if (fresh) rmSync(data, { recursive: true, force: true })
  const port = yield* freePort
  writeFileSync(settings, properties(data, port, yield* freePort))
  if (!existsSync(join(data, "meta.properties"))) {
    const format = ["kafka.tools.StorageTool", "format", "-t", "quickstart-demo-000000", "-c", settings]
    yield* Effect.tryPromise({
      try: (signal) => promisify(execFile)(command, [...jvm, "-cp", classes, ...format], { signal }),
      catch: failedAt("Kafka's storage could not be formatted")
    })
  }
  mkdirSync(running)
  const ready = Deferred.makeUnsafe<void, DemoError>()
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const started = spawn(process.execPath, [supervisor, running], {
        stdio: ["pipe", "pipe", "inherit"],
        detached: true
      })
      started.stdin.on("error", () => {})
      return started
    }),
    // the end of its input tells the supervisor to stop the broker; who was interrupted does not wait for it
    (started, exit) =>
      Effect.callback<void>((resume) => {
        if (started.exitCode !== null || Exit.hasInterrupts(exit)) resume(Effect.void)
        else started.once("exit", () => resume(Effect.void))
        started.stdin.end()
        started.stdout.destroy()
        started.unref()
      })
  )
  createInterface({ input: child.stdout }).on("line", (line) => {
    const report = JSON.parse(line) as { readonly event: string; readonly how?: string }
    if (report.event === "ready") Deferred.doneUnsafe(ready, Exit.void)
    if (report.event === "exited") {
      const log = readFileSync(join(running, "node-1.log"), "utf8").trim().slice(-2000)
      Deferred.doneUnsafe(ready, Exit.fail(new DemoError({ reason: `Kafka did not start (${report.how})\n${log}` })))
    }
  })
  const args = [...jvm, "-cp", classes, "kafka.Kafka", settings]
  child.stdin.write(`${JSON.stringify({ run: 1, command, args, ready: readyText })}\n`)
  yield* Effect.timeoutOrElse(Deferred.await(ready), {
    duration: "60 seconds",
    orElse: () => Effect.fail(new DemoError({ reason: "Kafka was not ready after 60 seconds" }))
  })
  return `127.0.0.1:${port}`
})

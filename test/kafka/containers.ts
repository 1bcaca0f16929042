/**
 * Kafka in containers, by testcontainers: on docker, podman, or whatever else answers to Docker's API.
 *
 * One without wishes is what `@testcontainers/kafka` starts. For the others, nodes have the same settings as Java processes: each is
 * a container, and all share the network of one more, which has their ports and does nothing. So to each other they are on
 * 127.0.0.1, as they are to their clients, and one that is killed has its ports again when it comes back.
 */
import { Effect, Scope } from "effect"
import type { GenericContainer, StartedTestContainer } from "testcontainers"
import { broken, certificate, missing } from "./java.ts"
import type { KafkaUnavailable } from "./java.ts"
import type { Nodes } from "./kafka.ts"
import * as Settings from "./settings.ts"

/** Of Confluent's images, which `@testcontainers/kafka` is made for: 8.1 has Kafka 4.1. */
const publicImage = "confluentinc/cp-kafka:8.1.0"
const readyWithinMillis = 120_000
const pullWithin = "5 minutes"

const setTo = (name: string) => {
  const value = process.env[name] ?? ""
  return value === "" || value === "0" || value === "false" ? undefined : value
}

/** Whether a container is asked for. */
export const asked = () => setTo("KAFKA_TEST_IMAGE") !== undefined || setTo("KAFKA_CONTAINER") !== undefined

export type Runtime = Effect.Success<typeof usable>

const because = (error: unknown) => (error instanceof Error ? error.message : String(error))

/** The libraries take half a second to load, so only who comes here pays for them. */
const libraries = Effect.promise(async () => ({
  ...(await import("testcontainers")),
  ...(await import("@testcontainers/kafka"))
}))

const probe = Effect.gen(function* () {
  const library = yield* libraries
  const client = yield* Effect.tryPromise({
    try: () => library.getContainerRuntimeClient(),
    catch: (error) => missing(`no containers: ${because(error)}`)
  })
  // nodes tell their clients to come to 127.0.0.1
  const { host } = client.info.containerRuntime
  if (host !== "localhost" && host !== "127.0.0.1") {
    return yield* missing(
      `containers have their ports on ${host}, not here; where that is not so, set TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1`
    )
  }
  const image = setTo("KAFKA_TEST_IMAGE") ?? publicImage
  const name = library.ImageName.fromString(image)
  const exists = Effect.promise(() => client.image.exists(name).catch(() => false))
  if (!(yield* exists)) {
    process.stderr.write(`Kafka: pulling ${image}, this once ...\n`)
    const why = yield* Effect.tryPromise({ try: () => client.image.pull(name), catch: because }).pipe(
      Effect.timeoutOrElse({ duration: pullWithin, orElse: () => Effect.fail(`not within ${pullWithin}`) }),
      Effect.match({ onFailure: (reason) => reason, onSuccess: () => "no such image" })
    )
    // one that fails in the middle says so only in what it streams
    if (!(yield* exists)) return yield* missing(`no containers: ${image} cannot be pulled (${why})`)
  }
  yield* Effect.tryPromise({
    try: () => library.getReaper(client),
    catch: (error) =>
      missing(
        `no containers: what removes those of a killed process does not start (${because(error)}); ` +
          "to do without, set TESTCONTAINERS_RYUK_DISABLED=true"
      )
  })
  return { library, client, image }
})

/** Whether containers can be started from the image here, which is pulled when it is not there. Looked at once in a process. */
export const usable = Effect.runSync(Effect.cached(probe))

// ---------------------------------------------------------------------------------------------------------------------
// One without wishes
// ---------------------------------------------------------------------------------------------------------------------

const started = <A extends StartedTestContainer>(what: string, start: () => Promise<A>) =>
  Effect.acquireRelease(
    Effect.tryPromise({ try: start, catch: (error) => broken(`${what} did not start: ${because(error)}`) }),
    (container) => Effect.promise(() => container.stop())
  )

/** Keeps the end of what a container says. */
class Log {
  text = ""
  readonly read = (stream: NodeJS.ReadableStream) => {
    stream.on("data", (chunk) => {
      this.text = (this.text + String(chunk)).slice(-100_000)
    })
  }
}

const withLog = <A>(log: Log, effect: Effect.Effect<A, KafkaUnavailable, Scope.Scope>) =>
  Effect.mapError(effect, ({ reason }) => broken(`${reason}\n${log.text.trim().slice(-2000)}`))

const heapOf = (heap: string | undefined) => ({ KAFKA_HEAP_OPTS: `-Xmx${heap ?? "512m"}` })

/** Gives its address. */
export const simple = ({ image, library }: Runtime, heap: string | undefined) =>
  Effect.suspend(() => {
    const log = new Log()
    const environment = Object.entries(Settings.common(1)).map(
      ([name, value]) => [`KAFKA_${name.toUpperCase().replaceAll(".", "_")}`, value] as const
    )
    const container = new library.KafkaContainer(image)
      .withKraft()
      .withEnvironment({ ...Object.fromEntries(environment), ...heapOf(heap) })
      .withLogConsumer(log.read)
      // that its port is open says nothing: the engine opens it before Kafka does
      .withWaitStrategy(library.Wait.forLogMessage(Settings.readyText))
      .withStartupTimeout(readyWithinMillis)
    return withLog(
      log,
      started("Kafka's container", () => container.start())
    )
  }).pipe(Effect.map((container) => `${container.getHost()}:${container.getMappedPort(9093)}`))

// ---------------------------------------------------------------------------------------------------------------------
// Nodes
// ---------------------------------------------------------------------------------------------------------------------

interface Node {
  readonly container: StartedTestContainer
  readonly log: Log
}

/** In a container, and written by whoever its image lets run. */
const folder = "/tmp"
const propertiesFile = `${folder}/server.properties`
const clusterId = "4L6g3nShT-eMCtK--X86sw"

export const make = Effect.fnUntraced(function* (
  { client, image, library }: Runtime,
  { heap, ports }: { readonly ports: ReadonlyArray<number>; readonly heap: string | undefined }
): Effect.fn.Return<Nodes, KafkaUnavailable, Scope.Scope> {
  const bash = (container: GenericContainer, script: string) =>
    container.withEntrypoint(["bash", "-c"]).withCommand([script]).withStartupTimeout(readyWithinMillis)
  const holder = yield* started("the container that has the ports", () =>
    bash(new library.GenericContainer(image), "echo 'has the ports'; exec sleep infinity")
      .withExposedPorts(...ports.map((port) => ({ container: port, host: port })))
      .withWaitStrategy(library.Wait.forLogMessage("has the ports"))
      .start()
  )
  const inside = (command: ReadonlyArray<string>) =>
    Effect.promise(() => holder.exec([...command])).pipe(
      Effect.flatMap(({ exitCode, output }) =>
        exitCode === 0 ? Effect.succeed(output) : Effect.fail(broken(`${command[0]} in a container: ${output}`))
      )
    )
  const keystore: Array<{ readonly content: Buffer; readonly target: string }> = []
  const identity = Effect.tap(
    certificate(folder, (args) => inside(["keytool", ...args])),
    ({ keystore: target }) =>
      Effect.map(inside(["base64", target]), (text) => keystore.push({ target, content: Buffer.from(text, "base64") }))
  )

  const scope = yield* Effect.scope
  const nodes = new Map<number, Node>()
  const settings = new Map<number, { readonly properties: string; readonly users: ReadonlyArray<string> }>()

  const create = (id: number) =>
    Effect.suspend(() => {
      const { properties = "", users = [] } = settings.get(id) ?? {}
      const format = ["kafka-storage", "format", "--ignore-formatted", "-t", clusterId, "-c", propertiesFile, ...users]
      const script = `${format.map((word) => `'${word}'`).join(" ")} && exec kafka-server-start ${propertiesFile}`
      const log = new Log()
      const container = bash(new library.GenericContainer(image), script)
        .withNetworkMode(`container:${holder.getId()}`)
        .withEnvironment(heapOf(heap))
        .withCopyContentToContainer([{ content: properties, target: propertiesFile }, ...keystore])
        .withLogConsumer(log.read)
        .withWaitStrategy(library.Wait.forLogMessage(Settings.readyText))
      return withLog(
        log,
        started(`the container of node ${id}`, () => container.start())
      ).pipe(
        Effect.map((running) => void nodes.set(id, { container: running, log })),
        Effect.provideService(Scope.Scope, scope)
      )
    })

  const engine = (what: string, act: () => Promise<unknown>) =>
    Effect.asVoid(Effect.tryPromise({ try: act, catch: (error) => broken(`${what}: ${because(error)}`) }))
  const withNode = (id: number, f: (node: Node) => Effect.Effect<void, KafkaUnavailable>) =>
    Effect.suspend(() => {
      const node = nodes.get(id)
      return node === undefined ? Effect.fail(broken(`node ${id} has never run`)) : f(node)
    })
  const handle = ({ container }: Node) => client.container.getById(container.getId())

  // the log that follows ends with the process, so that each has its own
  const again = (node: Node) =>
    engine("a node that was ended did not start again", async () => {
      await node.container.restart()
      node.log.read(await client.container.logs(handle(node)))
    }).pipe(Effect.mapError(({ reason }) => broken(`${reason}\n${node.log.text.trim().slice(-2000)}`)))

  return {
    source: "container",
    listen: "0.0.0.0",
    data: () => `${folder}/kafka`,
    certificate: identity,
    settle: (all, users) =>
      Effect.sync(() => all.forEach((properties, id) => void settings.set(id, { properties, users }))),
    run: (id) => (nodes.has(id) ? withNode(id, again) : create(id)),
    end: (id, name) =>
      withNode(id, (node) =>
        engine(`${name} to node ${id}`, async () => {
          const container = handle(node)
          if (!(await container.inspect()).State.Running) return
          const gone = container.wait()
          await container.kill({ signal: name })
          await gone
        })
      ),
    signal: (id, name) =>
      withNode(id, (node) => engine(`${name} to node ${id}`, () => handle(node).kill({ signal: name }))),
    log: (id) => Effect.sync(() => nodes.get(id)?.log.text ?? "")
  }
})

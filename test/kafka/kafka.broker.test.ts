import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Schedule } from "effect"
import { Kafka as KafkaJs, logLevel } from "kafkajs"
import type { KafkaConfig, SASLOptions } from "kafkajs"
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { inject } from "vitest"
import * as Kafka from "./kafka.ts"
import { accepts } from "./ports.ts"

const client = (config: KafkaConfig) =>
  new KafkaJs({
    clientId: "test",
    logLevel: logLevel.NOTHING,
    retry: { retries: 8, initialRetryTime: 50, maxRetryTime: 500 },
    ...config
  })

const disconnecting = <A extends { readonly disconnect: () => Promise<void> }>(resource: A) =>
  Effect.acquireRelease(Effect.succeed(resource), (open) => Effect.promise(() => open.disconnect()))

/** Sends one record and reads it back. */
const roundTrip = Effect.fnUntraced(function* (kafka: KafkaJs, topic: string, value: string) {
  const producer = yield* disconnecting(kafka.producer())
  const consumer = yield* disconnecting(kafka.consumer({ groupId: `${topic}-${value}`, maxWaitTimeInMs: 100 }))
  yield* Effect.promise(() => producer.connect())
  yield* Effect.promise(() => producer.send({ topic, messages: [{ value }] }))
  yield* Effect.promise(() => consumer.subscribe({ topic, fromBeginning: true }))
  return yield* Effect.callback<ReadonlyArray<string>>((resume) => {
    const seen: Array<string> = []
    consumer
      .run({
        eachMessage: async ({ message }) => {
          seen.push(message.value?.toString() ?? "")
          if (seen.includes(value)) resume(Effect.succeed(seen))
        }
      })
      .catch((error: unknown) => resume(Effect.die(error)))
  })
}, Effect.scoped)

/** A process that starts a Kafka, prints its address and waits. */
const startOwner = (options: Kafka.KafkaOptions) =>
  Effect.sync(() =>
    spawn(
      process.execPath,
      [
        "--input-type=module-typescript",
        "--eval",
        `import { Effect } from "effect"
         import { start } from ${JSON.stringify(new URL("kafka.ts", import.meta.url).href)}
         const program = start(${JSON.stringify(options)}).pipe(
           Effect.andThen((kafka) => Effect.sync(() => console.log(kafka.brokers[0]))),
           Effect.andThen(Effect.never)
         )
         await Effect.runPromise(Effect.scoped(program))`
      ],
      { cwd: import.meta.dirname, stdio: ["ignore", "pipe", "inherit"] }
    )
  )

const owner = Effect.fnUntraced(function* (options: Kafka.KafkaOptions) {
  const child = yield* Effect.acquireRelease(startOwner(options), (started) =>
    Effect.sync(() => started.kill("SIGKILL"))
  )
  const address = yield* Effect.callback<string>((resume) => {
    createInterface({ input: child.stdout }).once("line", (line) => resume(Effect.succeed(line)))
  })
  return { child, address }
})

describe("the shared Kafka", () => {
  it.live("takes a record and gives it back", () =>
    Effect.gen(function* () {
      const kafka = client({ brokers: [...inject("brokers")] })
      assert.deepStrictEqual(yield* roundTrip(kafka, `shared-${Date.now()}`, "one"), ["one"])
    })
  )
})

class Secured extends Context.Service<Secured, Kafka.Kafka>()("test/kafka/Secured") {
  static readonly layer = Layer.effect(Secured, Kafka.start({ own: true, sasl: true, tls: true, proxy: true }))
}

describe.runIf(inject("own"))("a Kafka of its own", () => {
  layer(Secured.layer, { excludeTestServices: true, timeout: 60_000 })((it) => {
    const lists = Effect.fnUntraced(function* (config: KafkaConfig) {
      const admin = yield* disconnecting(client({ retry: { retries: 0 }, ...config }).admin())
      yield* Effect.promise(() => admin.connect())
      return yield* Effect.promise(() => admin.listTopics())
    }, Effect.scoped)

    const mechanisms = ({ password, username }: { readonly username: string; readonly password: string }) =>
      [
        { mechanism: "plain", username, password },
        { mechanism: "scram-sha-256", username, password },
        { mechanism: "scram-sha-512", username, password },
        { mechanism: "oauthbearer", oauthBearerProvider: async () => ({ value: Kafka.unsecuredToken() }) }
      ] satisfies ReadonlyArray<SASLOptions>

    it.effect("accepts each SASL mechanism, and no wrong password", () =>
      Effect.gen(function* () {
        const { sasl } = yield* Secured
        if (sasl === undefined) return assert.fail("no SASL listener")
        for (const option of mechanisms(sasl)) {
          assert.isArray(yield* lists({ brokers: [...sasl.brokers], sasl: option }))
        }
        for (const option of mechanisms({ ...sasl, password: "wrong" }).slice(0, 3)) {
          assert.isTrue(Exit.isFailure(yield* Effect.exit(lists({ brokers: [...sasl.brokers], sasl: option }))))
        }
      })
    )

    it.effect("accepts TLS with its certificate only", () =>
      Effect.gen(function* () {
        const { tls } = yield* Secured
        if (tls === undefined) return assert.fail("no TLS listener")
        const brokers = [...tls.brokers]
        assert.isArray(yield* lists({ brokers, ssl: { ca: tls.ca } }))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(lists({ brokers, ssl: true }))))
      })
    )

    it.effect("accepts SASL over TLS", () =>
      Effect.gen(function* () {
        const { sasl, saslTls, tls } = yield* Secured
        if (sasl === undefined || tls === undefined || saslTls === undefined) return assert.fail("no listener")
        for (const option of mechanisms(sasl)) {
          assert.isArray(yield* lists({ brokers: [...saslTls.brokers], ssl: { ca: tls.ca }, sasl: option }))
        }
      })
    )

    it.effect("is reached through its proxy only, when a client starts there", () =>
      Effect.gen(function* () {
        const kafka = yield* Secured
        const proxy = kafka.nodes[0]?.proxy
        if (proxy === undefined) return assert.fail("no proxy")
        const through = client({ brokers: [...kafka.proxied] })
        assert.deepStrictEqual(yield* roundTrip(through, "proxied", "one"), ["one"])
        yield* proxy.refuse
        assert.isTrue(Exit.isFailure(yield* Effect.exit(lists({ brokers: [...kafka.proxied] }))))
        yield* proxy.heal
        assert.include(yield* roundTrip(through, "proxied", "two"), "two")
      })
    )

    it.effect("keeps its records over SIGKILL and a restart", () =>
      Effect.gen(function* () {
        const running = yield* Secured
        const kafka = client({ brokers: [...running.brokers] })
        yield* roundTrip(kafka, "kept", "before")
        yield* running.kill(0)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(lists({ brokers: [...running.brokers] }))))
        yield* running.restart(0)
        assert.include(yield* roundTrip(kafka, "kept", "after"), "before")
      })
    )
  })
})

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "kafka-folder-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

describe.runIf(inject("folder"))("a Kafka whose owner is killed", () => {
  it.live("ends by itself", () =>
    Effect.gen(function* () {
      const { address, child } = yield* owner({ folder: join(yield* temporary, "new") })
      assert.isTrue(yield* accepts(address))
      child.kill("SIGKILL")
      yield* Effect.repeat(accepts(address), { schedule: Schedule.spaced("50 millis"), while: (open) => open }).pipe(
        Effect.timeout("10 seconds")
      )
    })
  )
})

/** Sends one record to a Kafka that runs only for that, and reads all that there are. */
const visit = Effect.fnUntraced(function* (options: Kafka.KafkaOptions, value: string) {
  const { brokers } = yield* Kafka.start(options)
  return yield* roundTrip(client({ brokers: [...brokers] }), "visited", value)
}, Effect.scoped)

describe.runIf(inject("folder"))("a Kafka with a folder of its own", () => {
  it.live(
    "starts again on its records, unless it is to be fresh, and leaves nothing but its data",
    () =>
      Effect.gen(function* () {
        const folder = join(yield* temporary, "new")
        assert.deepStrictEqual(yield* visit({ folder, heap: "256m" }, "one"), ["one"])
        assert.deepStrictEqual(readdirSync(folder), ["node-1"])
        assert.deepStrictEqual(yield* visit({ folder, heap: "256m" }, "two"), ["one", "two"])
        assert.deepStrictEqual(yield* visit({ folder, heap: "256m", fresh: true }, "three"), ["three"])
      }),
    // the next one waits most of its time
    { concurrent: true }
  )

  it.live(
    "is refused to a second process, and waits for a first one that was killed",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporary
        const { address, child } = yield* owner({ folder })
        yield* roundTrip(client({ brokers: [address] }), "visited", "one")
        const refused = yield* Effect.flip(Effect.scoped(Kafka.start({ folder })))
        assert.strictEqual(refused.usedBy, address)
        child.kill("SIGKILL")
        assert.deepStrictEqual(yield* visit({ folder }, "two"), ["one", "two"])
        assert.isFalse(yield* accepts(address))
      }),
    { concurrent: true }
  )
})

describe.runIf(inject("own"))("a Kafka of three nodes", () => {
  it.live("moves the leaders of a node that is killed", () =>
    Effect.gen(function* () {
      const running = yield* Kafka.start({ nodes: 3 })
      assert.strictEqual(running.brokers.length, 3)
      const admin = yield* disconnecting(client({ brokers: running.brokers.slice(1) }).admin())
      yield* Effect.promise(() => admin.connect())
      // kafkajs, which would wait for leaders, fails when a node does not know the topic yet
      yield* Effect.promise(() =>
        admin.createTopics({ topics: [{ topic: "replicated", numPartitions: 3 }], waitForLeaders: false })
      )
      const leaders = Effect.tryPromise(() => admin.fetchTopicMetadata({ topics: ["replicated"] })).pipe(
        Effect.map(({ topics }) =>
          topics.flatMap(({ partitions }) => partitions.map(({ leader }) => leader)).toSorted((a, b) => a - b)
        ),
        Effect.retry(Schedule.spaced("100 millis"))
      )
      const until = (condition: (now: ReadonlyArray<number>) => boolean) =>
        Effect.timeout(
          Effect.repeat(leaders, { schedule: Schedule.spaced("100 millis"), until: condition }),
          "20 seconds"
        )
      yield* until((now) => now.join() === "1,2,3")
      yield* running.kill(0)
      yield* until((now) => now.length === 3 && now.every((leader) => leader === 2 || leader === 3))
    })
  )
})

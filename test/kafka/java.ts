/** What a Kafka of our own needs from the machine: Java, Kafka's jars (by Maven, once) and, for TLS, a certificate. */
import { Effect, Schema } from "effect"
import { createHash } from "node:crypto"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { exec } from "./exec.ts"

const here = dirname(fileURLToPath(import.meta.url))
const cache = join(here, "..", "..", ".cache")
const oldestJava = 17

/** No Kafka to be had. */
export class KafkaUnavailable extends Schema.TaggedError<KafkaUnavailable>()("KafkaUnavailable", {
  /** `true`: this machine has nothing to start one with, so tests are skipped. `false`: it should have worked. */
  missing: Schema.Boolean,
  reason: Schema.String,
  /** The address of the Kafka that another process runs in the same folder. */
  usedBy: Schema.optionalKey(Schema.String)
}) {
  override get message() {
    return this.reason
  }
}

export const missing = (reason: string) => new KafkaUnavailable({ missing: true, reason })
export const broken = (reason: string) => new KafkaUnavailable({ missing: false, reason })

const javaTool = (name: "java" | "keytool") =>
  process.env["JAVA_HOME"] === undefined ? name : join(process.env["JAVA_HOME"], "bin", name)

/** The `java` to use, and what it says of itself. */
const version = Effect.gen(function* () {
  const command = javaTool("java")
  const output = yield* exec(command, ["-version"]).pipe(
    Effect.mapError((error) => (error.absent ? missing(`no Java: ${command} was not found`) : broken(error.message)))
  )
  const major = Number(/version "(\d+)/.exec(output)?.[1] ?? 0)
  if (major < oldestJava) return yield* missing(`Kafka 4.1 needs Java ${oldestJava} or newer, ${command} is ${major}`)
  return { command, output }
})

/** The `java` to use. */
export const java = Effect.map(version, ({ command }) => command)

/** A class path of the jars that a pom names. Fetched once, then kept under this name in the repository's cache folder. */
export const jars = Effect.fnUntraced(function* (pom: string, name: string) {
  const libs = join(cache, name)
  if (existsSync(libs)) return join(libs, "*")
  yield* Effect.promise(() => mkdir(cache, { recursive: true }))
  // fetched into a folder of its own, then renamed: a second process must never see half of the jars
  yield* Effect.acquireUseRelease(
    Effect.promise(() => mkdtemp(join(cache, `${name}-`))),
    (folder) =>
      exec("mvn", ["-q", "-B", "-f", pom, "dependency:copy-dependencies", `-DoutputDirectory=${folder}`]).pipe(
        Effect.mapError((error) =>
          missing(error.absent ? "Java is there, but no Maven to fetch jars with" : `Maven failed: ${error.detail}`)
        ),
        Effect.andThen(
          Effect.promise(() =>
            rename(folder, libs).catch((error: NodeJS.ErrnoException) => {
              // another process was faster
              if (!existsSync(libs)) throw error
            })
          )
        )
      ),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  )
  return join(libs, "*")
})

/** The class path of Kafka. */
export const classPath = jars(join(here, "pom.xml"), "kafka-libs-4.1.0")

/** What Kafka's processes are started with. Fails where there can be none. */
export const prepare = Effect.gen(function* () {
  const { command, output } = yield* version
  const classes = yield* classPath
  const name = createHash("sha256").update(`${output}${classes}`).digest("hex").slice(0, 12)
  return { command, classes, archive: join(cache, `kafka-4.1.0-${name}.jsa`) }
})

/** A self-signed certificate for 127.0.0.1, as Kafka reads it and as its clients do: `tool` is Java's, and writes into `folder`. */
export const certificate = Effect.fnUntraced(function* (
  folder: string,
  tool: (args: ReadonlyArray<string>) => Effect.Effect<string, KafkaUnavailable>
) {
  const keystore = `${folder}/server.p12`
  const password = "changeit"
  const store = ["-alias", "server", "-keystore", keystore, "-storetype", "PKCS12", "-storepass", password]
  const names = ["-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1"]
  const key = ["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30"]
  yield* tool(["-genkeypair", ...store, ...names, ...key])
  const output = yield* tool(["-exportcert", "-rfc", ...store])
  const ca = /-----BEGIN CERTIFICATE-----[^]*-----END CERTIFICATE-----\n/.exec(output)?.[0]
  if (ca === undefined) return yield* broken(`keytool gave no certificate: ${output.slice(-2000)}`)
  return { keystore, password, ca }
})

/** The `keytool` that belongs to that Java. */
export const keytool = (args: ReadonlyArray<string>) => {
  const command = javaTool("keytool")
  return exec(command, args).pipe(
    Effect.mapError((error) =>
      error.absent
        ? missing(`Java is there, but ${command}, which makes the certificate of the TLS listener, is not`)
        : broken(error.message)
    )
  )
}

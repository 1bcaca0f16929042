/**
 * The packages as a user gets them: what `files` names, with the `exports` that `publishConfig` puts in place of the ones that lead to
 * the sources, beside the packages that they need.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterAll, beforeAll } from "vitest"
import { skipping } from "../packages/driver/test/client.ts"
import { unsupported } from "../packages/platformatic/test/supported.ts"

interface Manifest {
  readonly name: string
  readonly version: string
  readonly private?: boolean
  readonly files: ReadonlyArray<string>
  readonly exports: Readonly<Record<string, unknown>>
  readonly bin?: Readonly<Record<string, string>>
  readonly publishConfig: { readonly exports: Readonly<Record<string, unknown>> }
}

const root = dirname(import.meta.dirname)
const folder = mkdtempSync(join(tmpdir(), "packages-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const packages = readdirSync(join(root, "packages"))
  .map((name) => ({
    path: join(root, "packages", name),
    manifest: JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8")) as Manifest
  }))
  .filter(({ manifest }) => manifest.private !== true)

const installed = (name: string) => join(folder, "node_modules", name)

const node = (...args: ReadonlyArray<string>): Promise<{ readonly code: number; readonly output: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [...args], { cwd: folder, timeout: 50_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), output: stdout + stderr })
    )
  })

const tsc = (...args: ReadonlyArray<string>) =>
  node(join(root, "node_modules", "typescript", "bin", "tsc"), ...args, "--pretty", "false")

beforeAll(async () => {
  const built = await tsc("-b", ...packages.map(({ path }) => path))
  assert.strictEqual(built.code, 0, built.output)
  for (const { manifest, path } of packages) {
    const target = installed(manifest.name)
    mkdirSync(target, { recursive: true })
    for (const name of manifest.files.filter((pattern) => !pattern.startsWith("!"))) {
      cpSync(join(path, name), join(target, name), { recursive: true })
    }
    writeFileSync(
      join(target, "package.json"),
      JSON.stringify({ ...manifest, exports: manifest.publishConfig.exports })
    )
  }
  for (const scope of ["@effect", "@platformatic"]) mkdirSync(installed(scope), { recursive: true })
  for (const [from, name] of [
    ["packages/kafkajs", "effect"],
    ["packages/kafkajs", "kafkajs"],
    ["packages/platformatic", "@platformatic/kafka"],
    ["packages/cli", "cli-progress"],
    ["packages/observability", "uplot"],
    ["packages/cli", "@effect/platform-node"],
    [".", "@effect/vitest"]
  ] as const) {
    symlinkSync(realpathSync(join(root, from, "node_modules", name)), installed(name), "junction")
  }
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }))
}, 60_000)

const program = `
import { ConcurrentConsumer, FailurePolicy, Handler } from "@concurrent-kafka/core"
import type { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { redrive } from "@concurrent-kafka/cli"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { MemoryKafka } from "@concurrent-kafka/testing"
import { Deferred, Effect, Layer } from "effect"

export const client: Layer.Layer<KafkaClient, unknown> = KafkaJs.layer({ brokers: ["127.0.0.1:9092"] })

export const back = redrive({ from: "orders.dead-letter", to: "orders" }).pipe(Effect.provide(client))

const all = Deferred.makeUnsafe<number>()
let handled = 0
const count = Handler.make("orders", (record) => {
  if (record.partition < 0) return Effect.fail("no partition")
  if (++handled === 20) Deferred.doneUnsafe(all, Effect.succeed(handled))
  return Effect.void
})
const consumer = ConcurrentConsumer.layerHandler(count, { groupId: "count", onFailure: FailurePolicy.skip })
// @ts-expect-error a handler that can fail needs a policy
ConcurrentConsumer.layerHandler(count, { groupId: "count" })

const orders = Effect.gen(function* () {
  const kafka = yield* MemoryKafka
  yield* kafka.createTopic("orders")
  yield* kafka.produce("orders", Array.from({ length: 20 }, (_, i) => ({ value: "order " + i })))
})
const kafka = Layer.provideMerge(Layer.effectDiscard(orders), MemoryKafka.layer())
console.log(await Effect.runPromise(Deferred.await(all).pipe(Effect.provide(consumer), Effect.provide(kafka))))
`

describe("the published packages", () => {
  it("export the same modules as in the repository", () => {
    assert.isAbove(packages.length, 2)
    for (const { manifest } of packages) {
      assert.deepStrictEqual(Object.keys(manifest.publishConfig.exports), Object.keys(manifest.exports), manifest.name)
    }
  })

  it("have types for TypeScript and code for Node", { timeout: 60_000 }, async () => {
    writeFileSync(join(folder, "program.ts"), program)
    const compilerOptions = {
      module: "NodeNext",
      target: "ES2024",
      lib: ["ES2024", "DOM"],
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      // the declarations of the packages are checked too
      skipLibCheck: false
    }
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["program.ts"] }))
    const checked = await tsc("-p", folder)
    assert.strictEqual(checked.output, "")
    const ran = await node(join(folder, "program.js"))
    assert.strictEqual(ran.output, "20\n")
  })

  it("bring the files of the live page", { timeout: 60_000 }, async () => {
    writeFileSync(
      join(folder, "page.js"),
      `import { LivePage } from "@concurrent-kafka/observability"
import { Effect, Layer } from "effect"
import { HttpRouter } from "effect/http"
const page = Layer.provideMerge(LivePage.layer(), HttpRouter.layer)
console.log(await Effect.runPromise(Effect.as(Effect.scoped(Layer.build(page)), "there")))
`
    )
    assert.strictEqual((await node(join(folder, "page.js"))).output, "there\n")
  })

  it("run a module on a thread", { timeout: 60_000 }, async () => {
    writeFileSync(join(folder, "handler.worker.js"), `export const handler = ({ offset }) => Number(offset) * 2`)
    writeFileSync(
      join(folder, "threads.js"),
      `import { WorkerPool } from "@concurrent-kafka/workers"
import { Effect } from "effect"
const pool = WorkerPool.make({ module: new URL("./handler.worker.js", import.meta.url), size: 1 })
const place = { topic: "t", partition: 0, offset: 21n, timestamp: 0n, epoch: 1 }
const doubled = Effect.flatMap(pool, ({ handle }) => handle({ ...place, key: null, value: null, headers: [] }))
console.log(await Effect.runPromise(Effect.scoped(doubled)))
`
    )
    assert.strictEqual((await node(join(folder, "threads.js"))).output, "42\n")
  })

  /** What cannot be imported of these packages, a line each. */
  const refusedOf = async (some: typeof packages): Promise<ReadonlyArray<string>> => {
    const modules = some.flatMap(({ manifest: { name } }) =>
      readdirSync(join(installed(name), "src"))
        .filter((file) => file.endsWith(".ts"))
        .map((file) => (file === "index.ts" ? name : `${name}/${file.slice(0, -".ts".length)}`))
    )
    const code = `
for (const name of ${JSON.stringify([...modules, ...some.map(internalOf)])}) {
  await import(name).catch((error) => console.log(name, error.code))
}`
    const { output } = await node("--input-type=module", "--eval", code)
    return output.trim().split("\n")
  }
  const internalOf = ({ manifest: { name } }: (typeof packages)[number]) =>
    `${name}/internal/${readdirSync(join(installed(name), "src", "internal"))[0]!.slice(0, -".ts".length)}`
  const notExported = (some: typeof packages) => some.map((one) => `${internalOf(one)} ERR_PACKAGE_PATH_NOT_EXPORTED`)
  const needsNewerNode = ({ manifest }: (typeof packages)[number]) => manifest.name.endsWith("/platformatic")

  it("let each public module be imported, and no internal one", { timeout: 60_000 }, async () => {
    const some = packages.filter((one) => !needsNewerNode(one))
    assert.deepStrictEqual(await refusedOf(some), notExported(some))
  })

  it(
    "let those of the one that needs a newer Node be imported, too",
    { timeout: 60_000, ...skipping(unsupported) },
    async () => {
      const some = packages.filter(needsNewerNode)
      assert.strictEqual(some.length, 1)
      assert.deepStrictEqual(await refusedOf(some), notExported(some))
    }
  )

  it("run as the commands that they name", { timeout: 60_000 }, async () => {
    const commands = packages.flatMap(({ manifest: { bin = {}, name, version } }) =>
      Object.entries(bin).map(([command, file]) => ({ command, version, file: join(installed(name), file) }))
    )
    assert.deepStrictEqual(
      commands.map(({ command }) => command),
      ["concurrent-kafka"]
    )
    for (const { command, file, version } of commands) {
      const { code, output } = await node(file, "--version")
      assert.strictEqual(output, `${command} v${version}\n`)
      assert.strictEqual(code, 0)
      assert.match(readFileSync(file, "utf8"), /^#!\/usr\/bin\/env node\n/)
    }
  })
})

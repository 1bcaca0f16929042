/** What the documents say, held against the code: examples are type-checked and run, tables compared. */
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import { HandlerTimeout } from "@concurrent-kafka/core/Handler"
import { healthCodes } from "@concurrent-kafka/core/Health"
import { machineRows } from "@concurrent-kafka/core/Diagnostics"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import { execFile } from "node:child_process"
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { afterAll, beforeAll } from "vitest"

const root = dirname(import.meta.dirname)
const read = (file: string) => readFileSync(join(root, file), "utf8")
const readme = read("README.md")
const documents = [
  "README.md",
  ...globSync(["docs/*.md", "examples/*/README.md"], { cwd: root }).toSorted(),
  "packages/cli/README.md",
  "packages/core/README.md",
  "packages/driver/README.md",
  "packages/kafkajs/README.md",
  "packages/observability/README.md",
  "packages/platformatic/README.md",
  "packages/testing/README.md",
  "packages/workers/README.md"
]

// ---------------------------------------------------------------------------------------------------------------------
// Reading a document
// ---------------------------------------------------------------------------------------------------------------------

/** Fences of TypeScript, with the comment above each: `run` or `check`. */
const fences = (text: string) =>
  [...text.matchAll(/(?:<!-- (\w+) -->\n)?```ts\n([\s\S]*?)```/g)].map(([, marker, code = ""]) => ({ marker, code }))

/** The cells of the table below a comment, without its head. */
const table = (text: string, marker: string): ReadonlyArray<ReadonlyArray<string>> => {
  const [, below] = text.split(`<!-- ${marker} -->\n`)
  assert.isDefined(below, `there is a table "${marker}"`)
  const lines = below!.split("\n")
  const rows = lines.slice(
    0,
    lines.findIndex((line) => !line.startsWith("|"))
  )
  return rows.slice(2).map((row) =>
    row
      .slice(1, -1)
      .split(" | ")
      .map((cell) => cell.trim())
  )
}

/** Everything in backticks. */
const names = (cell: string | undefined): ReadonlyArray<string> =>
  [...(cell ?? "").matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name)

const sorted = (list: ReadonlyArray<string>) => list.toSorted()

// ---------------------------------------------------------------------------------------------------------------------
// Running what is in it
// ---------------------------------------------------------------------------------------------------------------------

interface Ran {
  readonly code: number
  readonly output: string
}

const node = (args: ReadonlyArray<string>): Promise<Ran> =>
  new Promise((resolve) => {
    execFile(process.execPath, [...args], { cwd: root }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), output: stdout + stderr })
    )
  })

/** As `KafkaJs`, with a Kafka in memory that holds 20 orders, and a SIGTERM when all of them are committed. */
const standIn = `
import { MemoryKafka } from "@concurrent-kafka/testing"
import { Effect, Layer } from "effect"

const orders = Effect.gen(function* () {
  const kafka = yield* MemoryKafka
  yield* kafka.createTopic("orders")
  yield* kafka.produce("orders", Array.from({ length: 20 }, (_, i) => ({ value: "order " + i })))
  kafka.onCommitUnsafe(({ entries }) => {
    if (entries.some(({ offset }) => offset === 20n)) process.kill(process.pid, "SIGTERM")
  })
})
export const KafkaJs = {
  layer: (_: unknown) => Layer.effectDiscard(orders).pipe(Layer.provideMerge(MemoryKafka.layer()))
}
`

let folder = ""
beforeAll(() => {
  mkdirSync(join(root, ".cache"), { recursive: true })
  folder = mkdtempSync(join(root, ".cache", "readme-"))
  // the packages by their names, as a program of a user has them
  symlinkSync(join(root, "test", "node_modules"), join(folder, "node_modules"), "junction")
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const write = (name: string, code: string): string => {
  const file = join(folder, name)
  writeFileSync(file, code)
  return file
}

/** What TypeScript says of these files, with the settings of the repository. */
const typeErrors = async (files: Readonly<Record<string, string>>): Promise<ReadonlyArray<string>> => {
  for (const [name, code] of Object.entries(files)) write(name, code)
  const compilerOptions = {
    composite: false,
    noEmit: true,
    rootDir: root,
    types: ["node"],
    typeRoots: [join(root, "node_modules", "@types")]
  }
  const config = write(
    "tsconfig.json",
    JSON.stringify({ extends: join(root, "tsconfig.json"), compilerOptions, files: Object.keys(files), references: [] })
  )
  const { output } = await node([
    join(root, "node_modules", "typescript", "bin", "tsc"),
    "-p",
    config,
    "--pretty",
    "false"
  ])
  return output.split("\n").filter((line) => Object.keys(files).some((name) => line.includes(`${name}(`)))
}

describe("the examples", () => {
  const examples = documents.flatMap((file) => fences(read(file)).map((fence, index) => ({ file, index, ...fence })))
  /** One that others import says what it is called in its first line. */
  const fileOf = (file: string, index: number, code = "") =>
    /^\/\/ (\w+\.worker\.ts)\n/.exec(code)?.[1] ?? `${file.replaceAll(/\W/g, "-")}-${index}.ts`

  it("all say whether they are run or only checked", () => {
    assert.isAbove(examples.length, 3)
    for (const { file, marker } of examples) assert.include(["run", "check"], marker, file)
  })

  it("are right for TypeScript", { timeout: 60_000 }, async () => {
    const files = Object.fromEntries(examples.map(({ code, file, index }) => [fileOf(file, index, code), code]))
    assert.deepStrictEqual(await typeErrors(files), [])
    const wrong = `${examples[0]!.code}\nexport const wrong: number = shipOrder\n`
    assert.lengthOf(await typeErrors({ "wrong.ts": wrong }), 1)
  })

  it("handle, commit, and end at SIGTERM: the first of the README", { timeout: 120_000 }, async () => {
    const [first] = fences(readme)
    assert.strictEqual(first!.marker, "run")
    assert.isAtMost(first!.code.trim().split("\n").length, 25)
    write("KafkaJs.ts", standIn)
    const { code, output } = await node([
      write("first.ts", first!.code.replace("@concurrent-kafka/kafkajs", "./KafkaJs.ts"))
    ])
    for (let i = 0; i < 20; i++) assert.include(output, `shipped order ${i}`)
    assert.strictEqual(code, 130, output)
  })

  it("print what they say: the others that are run", { timeout: 120_000 }, async () => {
    for (const { code, file, index } of examples.filter(({ marker }) => marker === "run").slice(1)) {
      const ran = await node([write(fileOf(file, index), code)])
      const expected = [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map(([, text]) => text)
      assert.isAbove(expected.length, 0)
      assert.deepStrictEqual(ran.output.trim().split("\n"), expected)
    }
  })
})

describe("the tables of the README", () => {
  const options = table(readme, "options")
  const membership = table(readme, "membership")
  const namesOf = (rows: ReadonlyArray<ReadonlyArray<string>>) => rows.flatMap(([name]) => names(name))

  it("name exactly the options, the errors and the members that the code has", { timeout: 60_000 }, async () => {
    const all = (type: string, found: ReadonlyArray<string>) =>
      `[${found.map((name) => JSON.stringify(name)).join(", ")}] as const satisfies ReadonlyArray<${type}>`
    const same = (name: string, type: string, found: ReadonlyArray<string>) => `
const ${name} = ${all(type, found)}
export const ${name}Complete: Exclude<${type}, (typeof ${name})[number]> extends never ? true : Exclude<${type}, (typeof ${name})[number]> = true
`
    const code = `
import type { ConsumerError, Decision, HandlerOptions, KafkaClientError, MembershipOptions, OnFailure, HealthCode, PublishError } from "@concurrent-kafka/core"
${same("options", "Exclude<keyof HandlerOptions | keyof OnFailure<never, never>, keyof MembershipOptions>", namesOf(options))}
${same("membership", "keyof MembershipOptions", namesOf(membership))}
${same("consumer", 'ConsumerError["reason"]["_tag"]', namesOf(table(readme, "consumer errors")))}
${same("client", 'KafkaClientError["reason"]', namesOf(table(readme, "client errors")))}
${same("health", "HealthCode", namesOf(table(readme, "health")))}
${same("publish", 'PublishError["reason"]', namesOf(table(readme, "publish errors")))}
${same("decisions", 'Decision["_tag"]', namesOf(table(read("docs/failures.md"), "decisions")))}
`
    assert.deepStrictEqual(await typeErrors({ "names.ts": code }), [])
    assert.lengthOf(await typeErrors({ "less.ts": code.replace('"concurrency", ', "") }), 1)
    assert.isAbove((await typeErrors({ "more.ts": code.replace('"concurrency", ', '"concurency", ') })).length, 0)
  })

  it("give the defaults that the code has", () => {
    const source = read("packages/core/src/internal/options.ts")
    const inCode = new Map(
      [...source.matchAll(/(?:integer|millis|oneOf|limit)\(\s*"(\w+)",\s*options\.\w+,\s*([^,)]+)/g)].map(
        ([, name = "", value = ""]) => [name, value.trim()]
      )
    )
    const units = { ms: 1, s: 1000, MiB: 1024 * 1024 } as const
    const valueOf = (cell: string): string | number => {
      const [text] = names(cell)
      if (text !== undefined) return text
      const [, digits, unit] = /^([\d,]+)(?: (ms|s|MiB))?$/.exec(cell) ?? []
      assert.isDefined(digits, cell)
      return Number(digits!.replaceAll(",", "")) * (unit === undefined ? 1 : units[unit as keyof typeof units])
    }
    const product = (expression: string): string | number =>
      expression.startsWith('"')
        ? expression
        : expression.split("*").reduce((all, factor) => all * Number(factor.replaceAll("_", "").trim()), 1)
    let compared = 0
    for (const [name, cell] of [...options, ...membership]) {
      const option = names(name)[0]!
      const value = inCode.get(option)
      if (value === undefined || cell === "none") continue
      assert.strictEqual(valueOf(cell!), product(value), option)
      compared++
    }
    // all that the code gives a default for, aside from topicTimeout, which has none
    assert.strictEqual(compared, [...inCode.keys()].filter((name) => name !== "topicTimeout").length)
  })

  it("say of each health code what its documentation in the code says", () => {
    const rows = table(readme, "health")
    assert.deepStrictEqual(
      rows.flatMap(([name]) => names(name)),
      [...healthCodes]
    )
    const inCode = new Map<string, ReadonlyArray<string>>()
    for (const line of read("packages/core/src/Health.ts").matchAll(/^ \* \| (`.*) \|$/gm)) {
      const [codes, ...verdict] = line[1]!.split(" | ")
      for (const code of names(codes))
        if ((healthCodes as ReadonlyArray<string>).includes(code)) inCode.set(code, verdict)
    }
    for (const [cell, ...verdict] of rows) {
      const [code] = names(cell)
      // what comes after the first word of a cell is said in a sentence below the table
      const short = inCode.get(code!)!.map((text) => /^\w+/.exec(text)![0])
      assert.deepStrictEqual(verdict.slice(0, 3), short, code)
    }
  })

  it("name the variables that the client reads", () => {
    const source = read("packages/driver/src/internal/environment.ts")
    const read_ = [...source.matchAll(/"(KAFKA_[A-Z_]+)"/g)].map(([, name = ""]) => name)
    const told = table(readme, "environment").flatMap(([name]) => names(name))
    assert.deepStrictEqual(sorted(told), sorted([...new Set(read_)]))
  })
})

describe("the documents", () => {
  it("name every row of the state machines", () => {
    const text = read("docs/state-machines.md")
    for (const rows of Object.values(machineRows)) {
      for (const row of rows) assert.include(text, `\n| ${row} |`)
    }
    const told = [...text.matchAll(/^\| ([PRK]\d+[ab]?) \|/gm)].map(([, row = ""]) => row)
    assert.deepStrictEqual(sorted(told), sorted(Object.values(machineRows).flat()))
  })

  it("name tests that are there for each promise", () => {
    for (const marker of ["guarantees", "promises"]) {
      for (const row of table(readme, marker)) {
        const [alone, chaos] = row.at(-1)!.split("chaos ")
        const [tests, scenarios] = [names(alone), names(chaos)]
        assert.isAbove(tests.length + scenarios.length, 0, row[0])
        for (const name of tests) {
          const folders = name.endsWith(".broker")
            ? ["test/integration"]
            : ["packages/core/test", "packages/driver/test"]
          const found = folders.filter((folder) => existsSync(join(root, folder, `${name}.test.ts`)))
          assert.strictEqual(found.length, 1, `${row[0]}: ${name}`)
        }
        for (const name of scenarios) assert.include(read("test/chaos/README.md"), `| \`${name}\` |`, row[0])
      }
    }
  })

  it("name every header of a dead letter", () => {
    const record = { topic: "t", partition: 0, offset: 0n, timestamp: 0n, key: null, value: null, headers: [] }
    const cause = Cause.fail(new HandlerTimeout({ afterMillis: 1 }))
    const { headers = [] } = DeadLetter.make({
      topic: "d",
      record,
      groupId: "g",
      attempts: 1,
      cause,
      reason: "r",
      firstFailedAt: 0,
      lastFailedAt: 0
    })
    const told = table(read("docs/failures.md"), "dead letter headers").flatMap(([name]) => names(name))
    assert.deepStrictEqual(
      told,
      headers.map(([name]) => name)
    )
  })

  it("link to files that are there", () => {
    for (const file of documents) {
      for (const [, target = ""] of read(file).matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
        if (target.startsWith("https://")) continue
        assert.isTrue(existsSync(join(root, dirname(file), target)), `${file}: ${target}`)
      }
    }
  })

  it("name scripts that are there, and tasks that the launcher has", () => {
    const { scripts } = JSON.parse(read("package.json")) as { readonly scripts: Readonly<Record<string, string>> }
    const launcher = read("scripts/run.mjs")
    for (const file of documents) {
      for (const [, task = ""] of read(file).matchAll(/npm run (\w+)/g)) {
        assert.property(scripts, task, file)
        assert.match(launcher, new RegExp(`^  ${task}: `, "m"))
      }
    }
  })

  it("are written in ASCII", () => {
    for (const file of documents) {
      // eslint-disable-next-line no-control-regex
      assert.match(read(file), /^[\x00-\x7f]*$/, file)
    }
  })
})

import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { isBuiltin } from "node:module"
import { join } from "node:path"
import { exportsOf, instability, misdirection, usesOf } from "../scripts/imports.ts"
import type { Exports } from "../scripts/imports.ts"

const noFollow = (): Exports => new Map()

/** What a module `effect/M` could look like. */
const moduleText = `
/**
 * Of the module.
 *
 * @stability stable
 */

/** @stability stable */
export const good = 1

/** @stability unstable */
export const bad: { (a: 1): 1; (a: 2): 2 } = (a: any) => a

/** @stability experimental */
export function trial() {}

export const untagged = 1

const void_ = 1
export {
  /**
   * @stability stable
   */
  void_ as void
}
const try_ = 1
export {
  /** @stability unstable */
  try_ as try
}

/** @stability stable */
export interface Both {}
// between the comment and its declaration
/** @stability stable */
export const Both = 1

/** @stability stable */
export interface Mixed {}
/** @stability unstable */
export const Mixed = 1

/** @stability stable */
export declare namespace Space {
  /** @stability unstable */
  export type Bad = 1
  export type Inherited = 1
}

/** @stability stable */
export class Klass {
  static readonly member = 1
}

/** @stability unstable */
export * as Sub from "./Sub.ts"

/** @stability stable */
export * as Nested from "./All.ts"

export * from "./All.ts"
`

const modules: Record<string, Exports> = {
  "effect/M": exportsOf("M.ts", moduleText, (specifier) => {
    assert.strictEqual(specifier, "./All.ts")
    const all = "/** @stability unstable */ export const passedOn = 1\n/** @stability stable */ export const firm = 1"
    return exportsOf("All.ts", all, noFollow)
  })
}

/** The complaints about a source of core, each with its line. */
const complaints = (source: string) =>
  usesOf("probe.ts", source).flatMap((use) => {
    const problem = instability(use, modules[use.module])
    return problem === undefined ? [] : [`${use.line} ${problem}`]
  })

const assertClean = (...lines: ReadonlyArray<string>) => assert.deepStrictEqual(complaints(lines.join("\n")), [])
const assertComplains = (lines: ReadonlyArray<string>, ...expected: ReadonlyArray<string>) =>
  assert.deepStrictEqual(complaints(lines.join("\n")), expected)

const star = `import * as M from "effect/M"`

describe("stable exports only", () => {
  it("lets stable members through, in values, types and heritage", () =>
    assertClean(
      star,
      `import { good, Both as Other } from "effect/M"`,
      `import type { Space } from "effect/M"`,
      `export { good as better } from "effect/M"`,
      `const a = M.good + M.void + M["good"]`,
      `const b: M.Both = M.Both`,
      `class C extends M.Klass.member<M.Space.Inherited>() implements M.Both {}`,
      `type D = typeof M.good | import("effect/M").Both`,
      `const { good: e, Both } = M`
    ))

  it("does not look into comments, strings and names that only look alike", () =>
    assertClean(
      star,
      `// M.bad`,
      `/* M.bad */`,
      "const a = `M.bad ${M.good} 'M.trial'`",
      `const b = "M.bad" + 'M.trial' + /M.bad/.source`,
      `const c = { M: 1, bad: 2 }`,
      `const d = c.M.bad`,
      `interface E { M: { bad: 1 }; get: (x: 1) => [M: 1] }`,
      `type F = E["M"]`
    ))

  it("finds an unstable member in an expression", () =>
    assertComplains([star, ``, `const a = M.good`, `M.bad(1)`], "4 effect/M.bad is unstable"))

  it("finds it in a template, behind a line break and a comment, and through optional access", () =>
    assertComplains(
      [star, "const a = `${M.bad}`", `const b = M`, `  // .good`, `  .trial()`, `const c = M?.bad`],
      "2 effect/M.bad is unstable",
      "3 effect/M.trial is experimental",
      "6 effect/M.bad is unstable"
    ))

  it("finds it in a type, a type query, and a heritage clause", () =>
    assertComplains(
      [star, `type A = Array<M.Mixed>`, `type B = typeof M.bad`, `class C extends M.bad() {}`],
      "2 effect/M.Mixed is unstable",
      "3 effect/M.bad is unstable",
      "4 effect/M.bad is unstable"
    ))

  it("finds it in a named import, a type import, an import type and a re-export", () =>
    assertComplains(
      [
        `import { bad as fine } from "effect/M"`,
        `import type { Mixed } from "effect/M"`,
        `import { type Mixed as T } from "effect/M"`,
        `export { try as attempt } from "effect/M"`,
        `type A = import("effect/M").Mixed`
      ],
      "1 effect/M.bad is unstable",
      "2 effect/M.Mixed is unstable",
      "3 effect/M.Mixed is unstable",
      "4 effect/M.try is unstable",
      "5 effect/M.Mixed is unstable"
    ))

  it("finds it under its exported name, not under the name inside its module", () =>
    assertComplains(
      [star, `M.void`, `M.try`, `M.void_`],
      "3 effect/M.try is unstable",
      "4 effect/M.void_ was not found"
    ))

  it("finds it inside a namespace, a module that is exported as a name and one that is exported wholly", () =>
    assertComplains(
      [
        star,
        `type A = M.Space.Bad`,
        `M.Sub.anything`,
        `M.passedOn`,
        `import { Nested } from "effect/M"`,
        `Nested.firm`,
        `Nested.passedOn`,
        `M.Nested.passedOn`,
        `const { passedOn } = Nested`
      ],
      "2 effect/M.Space.Bad is unstable",
      "3 effect/M.Sub is unstable",
      "4 effect/M.passedOn is unstable",
      "7 effect/M.Nested.passedOn is unstable",
      "8 effect/M.Nested.passedOn is unstable",
      "9 effect/M.Nested.passedOn is unstable"
    ))

  it("finds it when it is destructured or asked for by text", () =>
    assertComplains(
      [star, `const { bad, good } = M`, `M["trial"]`],
      "2 effect/M.bad is unstable",
      "3 effect/M.trial is experimental"
    ))

  it("complains about what has no tag and about what is not there", () =>
    assertComplains(
      [star, `M.untagged`, `M.nothing`, `import * as N from "effect/N"`, `N.x`],
      "4 effect/N was not found",
      "2 effect/M.untagged has no @stability tag",
      "3 effect/M.nothing was not found",
      "5 effect/N was not found"
    ))

  it("complains when it cannot tell what is used", () => {
    const whole = "effect/M is passed on as a whole, so that what is used of it cannot be told"
    assertComplains(
      [star, `f(M)`, `M[name]`, `export { M }`, `const { ...rest } = M`, `const o = { M }`, `await import("effect/M")`],
      ...[2, 3, 4, 5, 6, 7].map((line) => `${line} ${whole}`)
    )
    assertComplains([`export * from "effect/M"`, `export * as N from "effect/M"`], `1 ${whole}`, `2 ${whole}`)
  })

  it("reads the sources of effect", () => {
    const source = (name: string) => {
      const text = readFileSync(join(import.meta.dirname, "..", "node_modules", "effect", "src", name), "utf8")
      return exportsOf(name, text, noFollow)
    }
    const effect = source("Effect.ts")
    for (const name of ["void", "try", "gen", "Effect", "catch", "fn", "forkIn"]) {
      assert.strictEqual(effect.get(name)?.[0]?.stability, "stable", name)
    }
    assert.isTrue(
      source("Schema.ts")
        .get("Struct")
        ?.some((entry) => entry.stability === "stable")
    )
    assert.isTrue(
      source("TxQueue.ts")
        .get("TxQueue")
        ?.some((entry) => entry.stability === "unstable")
    )
  })

  it("says which file cannot be read", () => assert.throws(() => usesOf("broken.ts", "const const"), /broken\.ts/))
})

const dependencies = new Set(["effect", "kafkajs", "@concurrent-kafka/core"])
const allowed = (path: string, module: string) =>
  assert.isUndefined(misdirection(path, module, isBuiltin, dependencies), `${path} imports ${module}`)
const refused = (path: string, module: string, because: RegExp) =>
  assert.match(misdirection(path, module, isBuiltin, dependencies) ?? "allowed", because, `${path} imports ${module}`)

describe("directions", () => {
  it("go from the drivers and the in-memory Kafka to core", () => {
    allowed("packages/kafkajs/src/KafkaJs.ts", "@concurrent-kafka/core")
    allowed("packages/kafkajs/src/KafkaJs.ts", "@concurrent-kafka/core/KafkaClient")
    allowed("packages/testing/src/MemoryKafka.ts", "@concurrent-kafka/core/KafkaClient")
    allowed("packages/core/src/Topic.ts", "./internal/options.ts")
    allowed("packages/core/src/internal/pump.ts", "../Topic.ts")
    allowed("packages/core/src/Topic.ts", "effect/Effect")
  })

  it("never go back, nor across", () => {
    refused("packages/core/src/Topic.ts", "@concurrent-kafka/testing", /core may not import/)
    refused("packages/core/src/Topic.ts", "@concurrent-kafka/kafkajs/KafkaJs", /core may not import/)
    refused("packages/kafkajs/src/KafkaJs.ts", "@concurrent-kafka/testing", /kafkajs may not import/)
    refused("packages/testing/src/MemoryKafka.ts", "@concurrent-kafka/kafkajs", /testing may not import/)
    refused("packages/core/src/Topic.ts", "@concurrent-kafka/test/kafka", /core may not import/)
  })

  it("do not avoid the name of a package", () => {
    refused("packages/testing/src/MemoryKafka.ts", "../../core/src/Topic.ts", /reaches into the package core/)
    refused("packages/core/src/Topic.ts", "../../kafkajs/src/KafkaJs.ts", /reaches into the package kafkajs/)
    refused("packages/core/src/Topic.ts", "../test/helper.ts", /leaves the sources/)
    refused("packages/core/src/Topic.ts", "../../../test/kafka/kafka.ts", /leaves the sources/)
  })

  it("never reach the internals of another package, also from tests", () => {
    refused("packages/kafkajs/src/KafkaJs.ts", "@concurrent-kafka/core/internal/options", /internal to core/)
    refused("packages/kafkajs/test/KafkaJs.test.ts", "../../core/src/internal/options.ts", /internal to core/)
    refused("test/simulation/main.ts", "@concurrent-kafka/core/internal/options", /internal to core/)
    refused("examples/quickstart/src/main.ts", "../../../packages/core/src/internal/options.ts", /internal to core/)
    allowed("packages/core/test/options.test.ts", "../src/internal/options.ts")
  })

  it("lead to Node only where it is allowed", () => {
    refused("packages/core/src/Topic.ts", "node:fs", /modules of Node/)
    refused("packages/core/src/Topic.ts", "buffer", /modules of Node/)
    refused("packages/testing/src/MemoryKafka.ts", "node:crypto", /modules of Node/)
    allowed("packages/kafkajs/src/KafkaJs.ts", "node:zlib")
    allowed("packages/core/test/Topic.test.ts", "node:fs")
  })

  it("lead to declared dependencies only", () => {
    allowed("packages/kafkajs/src/KafkaJs.ts", "kafkajs")
    allowed("packages/kafkajs/src/KafkaJs.ts", "kafkajs/src/network/requestQueue")
    refused("packages/core/src/Topic.ts", "lodash/fp", /lodash is not among the dependencies/)
    refused("packages/core/src/Topic.ts", "@effect/platform-node/NodeRuntime", /@effect\/platform-node is not among/)
  })

  it("that only show when it runs are for the package whose users name what is imported", () => {
    const [inName, inText] = usesOf("file.ts", "await import(kafkajs)\nawait import(`kafkajs`)").map(
      ({ module }) => module
    )
    refused("packages/kafkajs/src/KafkaJs.ts", inName!, /cannot be told/)
    refused("packages/kafkajs/src/KafkaJs.ts", inText!, /cannot be told/)
    allowed("packages/workers/src/internal/load.ts", inName!)
  })

  it("are unknown for a package without a rule", () =>
    refused("packages/unheard/src/index.ts", "effect", /has no rule/))

  it("are free for what is not published", () => {
    allowed("packages/bench/src/main.ts", "@concurrent-kafka/testing")
    allowed("packages/bench/src/main.ts", "../../../test/kafka/kafka.ts")
    allowed("examples/quickstart/src/main.ts", "@concurrent-kafka/kafkajs")
    allowed("test/simulation/main.ts", "node:fs")
  })
})

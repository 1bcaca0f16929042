/** `parity.md` names tests that are there, for as many scenarios as it says. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { parseSync } from "oxc-parser"

const root = dirname(import.meta.dirname)
const text = readFileSync(join(import.meta.dirname, "parity.md"), "utf8")

interface Row {
  readonly scenario: string
  /** `undefined`: there is none, and the title is the reason. */
  readonly file: string | undefined
  readonly title: string
}

const rowsOf = (part: string): ReadonlyArray<Row> =>
  [...part.matchAll(/^\| `([^`]+)` \| (?:`([^`]+)`|none) \| (.+) \|$/gm)].map(
    ([, scenario = "", file, title = ""]) => ({
      scenario,
      file,
      title
    })
  )

const groups = [...text.matchAll(/^## (.+) \((\d+)\)\n([^#]*)/gm)].map(([, name = "", count = "", part = ""]) => ({
  name,
  count: Number(count),
  rows: rowsOf(part)
}))
const rows = groups.flatMap((group) => group.rows)

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && "type" in value
const nodes = (value: unknown): ReadonlyArray<Node> => (Array.isArray(value) ? value : [value]).filter(isNode)
const children = (node: Node) => Object.values(node).flatMap(nodes)

/** `it.effect.each` of `it.effect.each([1])("a title")`, as a list. */
const calleeOf = (node: Node | undefined): ReadonlyArray<string> => {
  if (node?.type === "Identifier") return [String(node["name"])]
  if (node?.type === "CallExpression") return calleeOf(nodes(node["callee"])[0])
  if (node?.type !== "MemberExpression") return []
  return [...calleeOf(nodes(node["object"])[0]), ...calleeOf(nodes(node["property"])[0])]
}

const textOf = (source: string, node: Node | undefined): ReadonlyArray<string> =>
  node?.type === "TemplateLiteral" || (node?.type === "Literal" && typeof node["value"] === "string")
    ? [source.slice(node.start + 1, node.end - 1)]
    : []

const isSkipped = (call: Node): boolean =>
  calleeOf(call).some((name) => name === "skip" || name === "todo") ||
  nodes(call["arguments"]).some(
    (argument) =>
      argument.type === "ObjectExpression" &&
      nodes(argument["properties"]).some(
        (property) =>
          calleeOf(nodes(property["key"])[0])[0] === "skip" && nodes(property["value"])[0]?.["value"] === true
      )
  )

/**
 * The titles of tests that are run: the first argument of `it`, and of what it has, or the first of a case, which is a list in a list.
 * Nothing of what is skipped, itself or with all that is around it, and nothing of comments.
 */
const titlesOf = (source: string): ReadonlySet<string> => {
  const visit = (node: Node): ReadonlyArray<string> => {
    if (node.type === "CallExpression" && isSkipped(node)) return []
    const inner = children(node).flatMap(visit)
    if (node.type === "CallExpression" && ["it", "test"].includes(calleeOf(node)[0] ?? ""))
      return [...textOf(source, nodes(node["arguments"])[0]), ...inner]
    if (node.type !== "ArrayExpression") return inner
    const cases = nodes(node["elements"]).filter(({ type }) => type === "ArrayExpression")
    return [...cases.flatMap((one) => textOf(source, nodes(one["elements"])[0])), ...inner]
  }
  const { errors, program } = parseSync("a.ts", source, { sourceType: "module" })
  assert.deepStrictEqual(errors, [])
  return new Set(nodes(program).flatMap(visit))
}

describe("parity.md", () => {
  it("has each scenario of each group once", () => {
    for (const group of groups) {
      assert.strictEqual(group.rows.length, group.count, group.name)
      assert.strictEqual(new Set(group.rows.map(({ scenario }) => scenario)).size, group.count, group.name)
    }
    assert.strictEqual(rows.length, 168)
  })

  it("says how many have no test, and why, which are no more than 30", () => {
    const none = rows.filter(({ file }) => file === undefined)
    assert.include(text, `\n${none.length} have none: `)
    assert.isAtMost(none.length, 30)
    for (const { title } of none) assert.match(title, /^(FastStream's|asyncio:) /)
  })

  it("names tests that are there, and run", () => {
    const titles = new Map<string, ReadonlySet<string>>()
    for (const { file, scenario, title } of rows) {
      if (file === undefined) continue
      assert.isTrue(existsSync(join(root, file)), `${scenario}: ${file}`)
      if (!titles.has(file)) titles.set(file, titlesOf(readFileSync(join(root, file), "utf8")))
      assert.isTrue(titles.get(file)!.has(title), `${scenario}: ${file}: ${title}`)
    }
  })

  it("would not take a title that is only spoken of, or of a test that does not run", () => {
    const source = `
      // it("commented out", () => {})
      /* it.effect("this one too", () => {}) */
      it.effect("one", () => says("spoken of", ["in a list", 1]))
      it.live.each([["a case", 1], [\`with \${a} value\`, 2]])("%s", () => {})
      it.skip("skipped", () => {})
      it.effect.skip("skipped, too", () => {})
      it.live.skip.each([["a case of it", 1]])("each: %s", () => {})
      it("with an option", { skip: true }, () => {})
      describe.skip("a suite", () => { it("within", () => {}) })
      it.todo("later")
      it.skipIf(windows)("on some machines", () => {})`
    assert.deepStrictEqual([...titlesOf(source)], ["one", "%s", "a case", "with ${a} value", "on some machines"])
  })
})

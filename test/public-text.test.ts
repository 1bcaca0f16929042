/** What must not be in any file of the repository, because it belongs to one machine or was left for later. */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")

// put together here, so that this file does not find itself
const joined = (...parts: ReadonlyArray<string>) => parts.join("")
const words = [joined("TO", "DO"), joined("FIX", "ME"), joined("XX", "X:")]
const homes = ["home", "root", "work", "Users"].map((folder) => `${folder}/`)
const registries = [
  ["registry", "npmjs", "org"],
  ["registry", "npmmirror", "com"],
  ["registry", "yarnpkg", "com"],
  ["npm", "pkg", "github", "com"],
  ["repo1", "maven", "org"],
  ["repo", "maven", "apache", "org"],
  ["packages", "confluent", "io"],
  ["pypi", "org"],
  ["files", "pythonhosted", "org"],
  ["static", "crates", "io"],
  ["index", "crates", "io"],
  ["proxy", "golang", "org"],
  ["deb", "debian", "org"]
].map((labels) => labels.join("."))

const escaped = (text: string) => text.replaceAll(".", "\\.")
const patterns: ReadonlyArray<readonly [what: string, pattern: RegExp]> = [
  ["a word for something left for later", new RegExp(`\\b(${words.join("|")})\\b`)],
  ["an absolute path of one machine", new RegExp(`(?<![\\w.~-])/(${homes.join("|")})`)],
  ["an absolute path of one machine", /\b[A-Z]:\\Users\\/],
  ["the host of a package registry", new RegExp(`\\b(${registries.map(escaped).join("|")})\\b`, "i")]
]
const lockPatterns: typeof patterns = [
  ["a resolved address", /\b(tarball|resolved)\b/],
  ["a resolved address", /\bresolution:.*https?:/]
]

const isLockFile = (file: string) => /(^|\/)(pnpm-lock\.yaml|package-lock\.json|yarn\.lock)$/.test(file)

const problems = (file: string, text: string): ReadonlyArray<string> =>
  text
    .split("\n")
    .flatMap((line, index) =>
      [...patterns, ...(isLockFile(file) ? lockPatterns : [])].flatMap(([what, pattern]) =>
        pattern.test(line) ? [`${file}:${index + 1}: ${what}: ${line.trim().slice(0, 120)}`] : []
      )
    )

describe("the text of the repository", () => {
  it("has nothing of one machine, no registry and nothing left for later", () => {
    const tracked = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" }).split("\0")
    const files = tracked.filter(
      (file) => file !== "" && existsSync(join(root, file)) && statSync(join(root, file)).isFile()
    )
    assert.include(files, "package.json")
    const found = files.flatMap((file) => {
      const text = readFileSync(join(root, file), "utf8")
      return text.includes("\0") ? [] : problems(file, text)
    })
    assert.deepStrictEqual(found, [])
  })

  it("would be found out", () => {
    const caught = (file: string, line: string) => assert.strictEqual(problems(file, `a\n${line}\nb`).length, 1, line)
    caught("a.ts", `// ${words[0]}: later`)
    caught("a.ts", `/* ${words[1]} */`)
    caught("a.md", `see ${joined("/ho", "me/someone/notes")}`)
    caught("a.ts", `import "${joined("/ro", "ot/x.ts")}"`)
    caught("run.sh", `cd=${joined("/wo", "rk/main")}`)
    caught(".npmrc", `registry=https://${registries[0] ?? ""}/`)
    caught("pnpm-lock.yaml", `  resolution: {integrity: x, ${joined("tar", "ball")}: y}`)
    caught("pnpm-lock.yaml", `  resolution: ${joined("http", "s://")}example.test/a.tgz`)
  })

  it("may speak of folders inside the repository and of work", () => {
    for (const line of [
      "src/home/index.ts",
      "https://example.test/work/",
      "./root/",
      "home/work",
      "tarball of a package"
    ]) {
      assert.deepStrictEqual(problems("README.md", line), [])
    }
  })
})

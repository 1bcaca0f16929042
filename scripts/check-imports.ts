/** Checks every source of the project against the rules of `imports.ts`. */
import { globSync, readFileSync, statSync } from "node:fs"
import { isBuiltin } from "node:module"
import { dirname, join, relative, resolve } from "node:path"
import { exportsOf, instability, misdirection, rules, usesOf } from "./imports.ts"
import type { Exports } from "./imports.ts"

const root = dirname(import.meta.dirname)
const effectSources = join(root, "node_modules", "effect", "src")

const isFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() === true

const cache = new Map<string, Exports>()
const exportsOfFile = (file: string): Exports => {
  const known = cache.get(file)
  if (known !== undefined) return known
  const found = exportsOf(file, readFileSync(file, "utf8"), (specifier) =>
    specifier.startsWith(".") ? exportsOfFile(resolve(dirname(file), specifier)) : new Map()
  )
  cache.set(file, found)
  return found
}

const effectModule = (module: string): Exports | undefined => {
  const name = module === "effect" ? "index" : module.slice("effect/".length)
  const file = [`${name}.ts`, join(name, "index.ts")].map((path) => join(effectSources, path)).find(isFile)
  return file === undefined ? undefined : exportsOfFile(file)
}

const manifestNames = (name: string): ReadonlySet<string> => {
  const manifest = JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8")) as Record<
    string,
    object
  >
  return new Set([manifest["dependencies"], manifest["peerDependencies"]].flatMap((names) => Object.keys(names ?? {})))
}

const files = globSync(["packages/*/{src,test}/**/*.ts", "examples/*/**/*.ts", "test/**/*.ts", "scripts/**/*.ts"], {
  cwd: root,
  exclude: (path) => /(^|\/)(node_modules|dist)$/.test(path)
}).map((path) => relative(root, join(root, path)).replaceAll("\\", "/"))

let wrong = 0
let checked = 0
for (const path of files.toSorted((a, b) => (a < b ? -1 : 1))) {
  const uses = usesOf(path, readFileSync(join(root, path), "utf8"))
  const [, own, folder] = /^packages\/([^/]+)\/(\w+)\//.exec(path) ?? []
  const dependencies = own === undefined ? new Set<string>() : manifestNames(own)
  const stable = own !== undefined && folder === "src" && rules[own]?.stable === true
  const report = (line: number, problem: string) => {
    wrong += 1
    process.stdout.write(`${path}:${line}: ${problem}\n`)
  }
  const seen = new Set<string>()
  for (const use of uses) {
    checked += 1
    if (!seen.has(use.module)) {
      seen.add(use.module)
      const problem = misdirection(path, use.module, isBuiltin, dependencies)
      if (problem !== undefined) report(use.line, problem)
    }
    if (stable && (use.module === "effect" || use.module.startsWith("effect/"))) {
      const problem = instability(use, effectModule(use.module))
      if (problem !== undefined) report(use.line, problem)
    }
  }
}
process.stdout.write(`${checked} imported names in ${files.length} files, ${wrong} not allowed\n`)
process.exitCode = wrong === 0 ? 0 : 1

/**
 * What a source file imports and uses of it, and whether it may: the logic behind `check-imports.ts`, without any file of the project.
 */
import { parseSync } from "oxc-parser"
import type { Comment } from "oxc-parser"

// ---------------------------------------------------------------------------------------------------------------------
// What a file uses
// ---------------------------------------------------------------------------------------------------------------------

/** One mention of another module. */
export interface Use {
  readonly module: string
  /** `["Effect", "gen"]`-like names below the module, outermost first. Empty: the module as a whole, or only for its effects. */
  readonly path: ReadonlyArray<string>
  readonly line: number
  /** The module object itself is passed on, so that what is used of it cannot be told. */
  readonly whole: boolean
}

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string"

const children = (node: Node): ReadonlyArray<Node> =>
  Object.values(node).flatMap((value) => (Array.isArray(value) ? value.filter(isNode) : isNode(value) ? [value] : []))

const child = (node: Node, key: string): Node | undefined => {
  const value = node[key]
  return isNode(value) ? value : undefined
}

const list = (node: Node, key: string): ReadonlyArray<Node> => {
  const value = node[key]
  return Array.isArray(value) ? value.filter(isNode) : []
}

/** The name of an identifier, or the text of a string. */
const nameOf = (node: Node | undefined): string | undefined => {
  if (node === undefined) return undefined
  if (node.type === "Identifier" && typeof node["name"] === "string") return node["name"]
  return node.type === "Literal" && typeof node["value"] === "string" ? node["value"] : undefined
}

const parse = (file: string, text: string) => {
  const result = parseSync(file, text, { sourceType: "module" })
  const error = result.errors[0]
  if (error !== undefined) throw new Error(`${file}: ${error.message}`)
  return { program: result.program as unknown as Node, comments: result.comments }
}

/** `A.B.C` in an expression or a type as far as it is made of plain names, given the innermost `A` and the nodes around it. */
const chain = (innermost: Node, around: ReadonlyArray<Node>): ReadonlyArray<string> => {
  const names: Array<string> = []
  let inner = innermost
  for (const outer of around.toReversed()) {
    let name: string | undefined
    if (outer.type === "TSQualifiedName" && child(outer, "left") === inner) name = nameOf(child(outer, "right"))
    else if (outer.type === "MemberExpression" && child(outer, "object") === inner) {
      const property = child(outer, "property")
      name = outer["computed"] === true && property?.type !== "Literal" ? undefined : nameOf(property)
    }
    if (name === undefined) break
    names.push(name)
    inner = outer
  }
  return names
}

const qualifier = (node: Node | undefined): ReadonlyArray<string> => {
  if (node === undefined) return []
  if (node.type === "TSQualifiedName") return [...qualifier(child(node, "left")), ...qualifier(child(node, "right"))]
  return [nameOf(node) ?? ""]
}

/** A name that stands for itself, such as a property or the label of a tuple's member. */
const isLabel = (node: Node, parent: Node) =>
  parent["label"] === node ||
  parent["exported"] === node ||
  (parent.type === "TSQualifiedName" && parent["right"] === node) ||
  (parent["computed"] !== true &&
    (parent["key"] === node || (parent.type === "MemberExpression" && parent["property"] === node)))

/** What is imported is known only when it runs. */
const computed = "(computed)"

/** Everything that a file mentions of other modules. */
export const usesOf = (file: string, text: string): ReadonlyArray<Use> => {
  const { program } = parse(file, text)
  const uses: Array<Use> = []
  /** Local names of modules, and of what was imported from a module: that may be a module again. */
  const imported = new Map<string, { readonly module: string; readonly path: ReadonlyArray<string> }>()
  const line = (node: Node) => text.slice(0, node.start).split("\n").length
  const use = (node: Node, module: string | undefined, path: ReadonlyArray<string>, whole = false) => {
    if (module !== undefined) uses.push({ module, path, line: line(node), whole })
  }

  for (const statement of list(program, "body")) {
    const module = nameOf(child(statement, "source"))
    if (statement.type === "ImportDeclaration") {
      const specifiers = list(statement, "specifiers")
      use(statement, module, [])
      for (const specifier of specifiers) {
        const local = nameOf(child(specifier, "local")) ?? ""
        const isModule = specifier.type === "ImportNamespaceSpecifier"
        const path = isModule ? [] : [nameOf(child(specifier, "imported")) ?? "default"]
        if (!isModule) use(specifier, module, path)
        if (module !== undefined) imported.set(local, { module, path })
      }
    }
    if (statement.type === "ExportNamedDeclaration" && module !== undefined) {
      use(statement, module, [])
      for (const specifier of list(statement, "specifiers")) {
        use(specifier, module, [nameOf(child(specifier, "local")) ?? ""])
      }
    }
    if (statement.type === "ExportAllDeclaration") use(statement, module, [], true)
  }

  const visit = (node: Node, around: ReadonlyArray<Node>) => {
    const parent = around.at(-1)
    if (node.type === "ImportDeclaration") return
    if ((node.type === "ExportNamedDeclaration" || node.type === "ExportAllDeclaration") && child(node, "source"))
      return
    if (node.type === "TSImportType") {
      const path = qualifier(child(node, "qualifier"))
      use(node, nameOf(child(node, "source")), path, path.length === 0)
    }
    if (node.type === "ImportExpression") {
      const source = child(node, "source")
      use(node, (source?.type === "Literal" ? nameOf(source) : undefined) ?? computed, [], true)
    }
    if (node.type === "TSExternalModuleReference") use(node, nameOf(child(node, "expression")), [], true)
    if (node.type === "Identifier" && parent !== undefined) {
      const origin = imported.get(nameOf(node) ?? "")
      if (origin !== undefined && !isLabel(node, parent)) {
        const { module, path } = origin
        const below = chain(node, around)
        const pattern = parent.type === "VariableDeclarator" ? child(parent, "id") : undefined
        if (below.length > 0) use(node, module, [...path, ...below])
        else if (pattern?.type === "ObjectPattern") {
          for (const property of list(pattern, "properties")) {
            const name = property["computed"] === true ? undefined : nameOf(child(property, "key"))
            use(property, module, name === undefined ? path : [...path, name], name === undefined && path.length === 0)
          }
        } else if (path.length === 0) use(node, module, [], true)
      }
    }
    for (const next of children(node)) visit(next, [...around, node])
  }
  visit(program, [])
  return uses
}

// ---------------------------------------------------------------------------------------------------------------------
// What a module of effect says about its exports
// ---------------------------------------------------------------------------------------------------------------------

export type Stability = "stable" | "unstable" | "experimental" | "untagged"

export interface Export {
  readonly stability: Stability
  /** Of a namespace, or of a module that is exported under a name. */
  readonly members: () => Exports
}

/** All declarations of a name: overloads, a type beside its constructor, a namespace beside its type. */
export type Exports = ReadonlyMap<string, ReadonlyArray<Export>>

const tag = (doc: string | undefined): Stability => {
  const found = /@stability\s+(\w+)/.exec(doc ?? "")?.[1]
  return found === "stable" || found === "unstable" || found === "experimental" ? found : "untagged"
}

/** The exports of a module, given its source and how to read the modules that it re-exports wholly. */
export const exportsOf = (file: string, text: string, follow: (specifier: string) => Exports): Exports => {
  const { comments, program } = parse(file, text)
  const docs = comments.filter((comment: Comment) => comment.type === "Block" && comment.value.startsWith("*"))
  const onlyTrivia = (from: number, to: number) =>
    text
      .slice(from, to)
      .replace(/\/\*[^]*?\*\/|\/\/[^\n]*/g, "")
      .trim() === ""
  const docOf = (node: Node) => docs.findLast((doc) => doc.end <= node.start && onlyTrivia(doc.end, node.start))?.value

  const collect = (statements: ReadonlyArray<Node>): Exports => {
    const found = new Map<string, Array<Export>>()
    const add = (name: string | undefined, entry: Export) => {
      if (name !== undefined) found.set(name, [...(found.get(name) ?? []), entry])
    }
    const none = (): Exports => new Map()
    for (const statement of statements) {
      if (statement.type === "ExportAllDeclaration") {
        const name = nameOf(child(statement, "exported"))
        const source = nameOf(child(statement, "source")) ?? ""
        if (name !== undefined) {
          // asked for only when needed: a barrel names all modules
          const members = () => follow(source)
          add(name, { stability: tag(docOf(statement)), members })
        } else {
          for (const [exported, entries] of follow(source)) {
            for (const entry of entries) add(exported, entry)
          }
        }
      }
      if (statement.type !== "ExportNamedDeclaration") continue
      const stability = tag(docOf(statement))
      for (const specifier of list(statement, "specifiers")) {
        // the comment of a renamed export stands inside the braces
        add(nameOf(child(specifier, "exported")), {
          stability: tag(docOf(specifier) ?? docOf(statement)),
          members: none
        })
      }
      const declaration = child(statement, "declaration")
      if (declaration === undefined) continue
      if (declaration.type === "VariableDeclaration") {
        for (const declarator of list(declaration, "declarations")) {
          add(nameOf(child(declarator, "id")), { stability, members: none })
        }
      } else {
        const body = declaration.type === "TSModuleDeclaration" ? child(declaration, "body") : undefined
        const members = body === undefined ? none : () => collect(list(body, "body"))
        add(nameOf(child(declaration, "id")), { stability, members })
      }
    }
    return found
  }
  return collect(list(program, "body"))
}

/** Why a use of a module is not a use of something stable; `undefined` when it is. */
export const instability = (use: Use, exports: Exports | undefined): string | undefined => {
  if (exports === undefined) return `${use.module} was not found`
  if (use.whole) return `${use.module} is passed on as a whole, so that what is used of it cannot be told`
  let level = exports
  for (const [index, part] of use.path.entries()) {
    const name = [use.module, ...use.path.slice(0, index + 1)].join(".")
    const found = level.get(part)
    // below the first name there are members of values and classes too, which are as stable as what they belong to
    if (found === undefined) return index === 0 ? `${name} was not found` : undefined
    const tags = found.map(({ stability }) => stability).filter((stability) => stability !== "untagged")
    // what is inside a namespace often has no tag of its own
    if (tags.length === 0 && index === 0) return `${name} has no @stability tag`
    const bad = tags.find((stability) => stability !== "stable")
    if (bad !== undefined) return `${name} is ${bad}`
    level = new Map(found.flatMap(({ members }) => [...members()]))
  }
  return undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Who may import whom
// ---------------------------------------------------------------------------------------------------------------------

export interface Rule {
  /** Our packages that it may import, by the last part of their names. */
  readonly ours: ReadonlyArray<string>
  readonly node: boolean
  /** Only exports of effect that are tagged stable. */
  readonly stable: boolean
  /** It may import what its user names. */
  readonly computed?: boolean
}

const scope = "@concurrent-kafka/"

/** What is published. Everything else (tests, benchmarks, examples, scripts) may import all, but no internals of others. */
export const rules: Readonly<Record<string, Rule>> = {
  cli: { ours: ["core", "kafkajs"], node: true, stable: false },
  core: { ours: [], node: false, stable: true },
  driver: { ours: ["core"], node: true, stable: false },
  kafkajs: { ours: ["core", "driver"], node: true, stable: false },
  observability: { ours: ["core"], node: true, stable: false },
  platformatic: { ours: ["core", "driver"], node: true, stable: false },
  testing: { ours: ["core"], node: false, stable: false },
  workers: { ours: ["core"], node: true, stable: false, computed: true }
}

const packageOf = (path: string) => /^packages\/([^/]+)\//.exec(path)?.[1]

const resolve = (from: string, specifier: string) => {
  const parts = from.split("/").slice(0, -1)
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop()
    else if (part !== ".") parts.push(part)
  }
  return parts.join("/")
}

/**
 * Why the file at `path` may not import `module`; `undefined` when it may.
 *
 * `dependencies` are the names in the manifest of its package: asked for published sources only.
 */
export const misdirection = (
  path: string,
  module: string,
  isNodeModule: (module: string) => boolean,
  dependencies: ReadonlySet<string>
): string | undefined => {
  const own = packageOf(path)
  const published = own !== undefined && own !== "bench" && path.startsWith(`packages/${own}/src/`)
  const rule = published ? rules[own] : undefined
  if (published && rule === undefined) return `the package ${own} has no rule in scripts/imports.ts`

  if (module.startsWith(".")) {
    const target = resolve(path, module)
    const other = packageOf(target)
    if (other === own || other === undefined) {
      return published && !target.startsWith(`packages/${own}/src/`)
        ? `${module} leaves the sources of ${own}`
        : undefined
    }
    if (published) return `${module} reaches into the package ${other}: import it by name`
    return target.includes("/internal/") ? `${module} is internal to ${other}` : undefined
  }
  if (module.startsWith(scope)) {
    const [other = "", ...rest] = module.slice(scope.length).split("/")
    if (rest[0] === "internal") return `${module} is internal to ${other}`
    if (rule !== undefined && !rule.ours.includes(other)) return `${own} may not import ${module}`
  }
  if (rule === undefined) return undefined
  if (module === computed)
    return rule.computed === true ? undefined : `what is imported cannot be told, and ${own} may not import everything`
  if (isNodeModule(module))
    return rule.node ? undefined : `${own} may not import modules of Node, as it runs elsewhere too`
  const parts = module.split("/")
  const name = module.startsWith("@") ? parts.slice(0, 2).join("/") : (parts[0] ?? "")
  return dependencies.has(name) ? undefined : `${name} is not among the dependencies of ${own}`
}

/**
 * What is said of data that does not fit a schema: where, and what was expected there.
 *
 * Invariant (`test/topic.test.ts`, "errors tell nothing of the record"): no text comes from the data. Schema's own text may
 * quote it: messages that filters and transformations make when they run are left out, and so are names in a path that the schema
 * does not know, because the keys of a map are data too.
 */
import type * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"

/** Marks the issue of a text that is no JSON. */
export const notJson: { readonly expected: string } = { expected: "JSON" }

const most = 3
const longest = 500

export const describe = (issue: SchemaIssue.Issue): string => {
  const found: Array<string> = []
  collect(issue, "", undefined, undefined, found)
  const text = found.length > most ? `${found.slice(0, most).join("; ")}; and more` : found.join("; ")
  return text.length > longest ? `${text.slice(0, longest)}...` : text
}

/** What the author of the schema calls it. */
const expectedOf = (ast: SchemaAST.AST): string =>
  SchemaIssue.defaultLeafHook(new SchemaIssue.InvalidType(ast)).replace(/^Expected /, "expected ")

/** `within` is the schema of the value that `path` goes through last, `expected` what the nearest check or transformation wants. */
const collect = (
  issue: SchemaIssue.Issue,
  path: string,
  within: SchemaAST.AST | undefined,
  expected: string | undefined,
  found: Array<string>
): void => {
  const say = (what: string): void => void found.push(path === "" ? what : `${path}: ${what}`)
  switch (issue._tag) {
    case "Composite":
      for (const inner of issue.issues) collect(inner, path, issue.ast, undefined, found)
      return
    case "Pointer":
      return collect(
        issue.issue,
        issue.path.reduce<string>((at, name) => step(at, name, within), path),
        undefined,
        expected,
        found
      )
    case "Encoding":
      return collect(issue.issue, path, within, expectedOf(issue.ast), found)
    case "Filter": {
      const wants = issue.filter.annotations?.expected
      return collect(
        issue.issue,
        path,
        within,
        typeof wants === "string" ? `expected ${wants}` : "does not pass a check of its schema",
        found
      )
    }
    case "AnyOf":
      if (issue.issues.length === 1) return collect(issue.issues[0]!, path, within, undefined, found)
      return say(expectedOf(issue.ast))
    case "InvalidType":
      return say(expectedOf(issue.ast))
    case "InvalidValue":
      return say(issue.annotations === notJson ? "expected JSON" : (expected ?? "expected a valid value"))
    case "MissingKey":
      return say("is missing")
    case "UnexpectedKey":
      return say("is not in the schema")
    case "Forbidden":
      return say("is forbidden by its schema")
    case "OneOf":
      return say("expected exactly one member of a union to match")
  }
}

const step = (path: string, name: PropertyKey, within: SchemaAST.AST | undefined): string => {
  if (typeof name === "number") return `${path}[${name}]`
  const known = within?._tag === "Objects" && within.propertySignatures.some((property) => property.name === name)
  const shown = known ? String(name) : "*"
  return path === "" ? shown : `${path}.${shown}`
}

/**
 * Comparing and showing what a test expects with what is there.
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Formatter from "effect/Formatter"
import { ExpectationFailed } from "../ExpectationFailed.ts"

/** More lines than this help nobody. */
const maxLines = 40

export const show = (value: unknown): string => Formatter.format(value)

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : show(error))

const showAll = (values: ReadonlyArray<unknown>): string => (values.length === 0 ? "none" : values.map(show).join(" "))

/** The same values, in any order, each as often. */
const sameValues = (expected: ReadonlyArray<unknown>, actual: ReadonlyArray<unknown>): boolean => {
  if (expected.length !== actual.length) return false
  const left = [...actual]
  for (const value of expected) {
    const at = left.findIndex((other) => Equal.equals(value, other))
    if (at < 0) return false
    left.splice(at, 1)
  }
  return true
}

const shorten = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length <= maxLines
    ? lines
    : [...lines.slice(0, maxLines), `(${lines.length - maxLines} more lines are not shown)`]

export const failed = (
  expectation: string,
  expected: unknown,
  actual: unknown,
  state: ReadonlyArray<string>
): ExpectationFailed => {
  const text = (value: unknown) =>
    Array.isArray(value) ? showAll(value) : typeof value === "string" ? value : show(value)
  const lines = [
    expectation,
    `  expected: ${text(expected)}`,
    `  actual:   ${text(actual)}`,
    ...shorten(state).map((line) => `  ${line}`)
  ]
  return new ExpectationFailed({ expectation, expected, actual, message: lines.join("\n") })
}

/** Fails unless both have the same values, in any order. */
export const expectValues = (
  expectation: string,
  expected: ReadonlyArray<unknown>,
  actual: ReadonlyArray<unknown>,
  state: () => ReadonlyArray<string>
): Effect.Effect<void, ExpectationFailed> =>
  Effect.suspend(() =>
    sameValues(expected, actual) ? Effect.void : Effect.fail(failed(expectation, expected, actual, state()))
  )

/**
 * What is said of an error that somebody else has made: nothing that it could hold of a record, and never by a throw. Its message may
 * quote what could not be read, its getters may throw, and anything can be thrown at all.
 */
import type * as Cause from "effect/Cause"

/** as tags and classes are called; a parsed record may have a `_tag` or a `name`, too */
const looksLikeName = /^[A-Za-z_$@][\w.$/@-]{0,99}$/

/** Its `_tag`, or else its name, where that looks like one; of what is no object, its type. */
export const nameOf = (error: unknown): string => {
  if ((typeof error !== "object" && typeof error !== "function") || error === null) return typeof error
  try {
    const name = "_tag" in error && typeof error._tag === "string" ? error._tag : "name" in error && error.name
    if (typeof name === "string" && looksLikeName.test(name)) return name
  } catch {
    // "unknown"
  }
  return "unknown"
}

/** The message of one of ours, or of a policy or producer, beside which no record was. */
export const messageOf = (error: unknown): string | undefined => {
  try {
    return error instanceof Error && typeof error.message === "string" ? error.message : undefined
  } catch {
    return undefined
  }
}

/**
 * The place in the code where it was made. The stack begins with the message, and a line of that may look like a frame: frames are the
 * last lines, and not in the message.
 */
export const frameOf = (error: unknown): string | undefined => {
  try {
    if (!(error instanceof Error)) return undefined
    const { message, stack } = error as { readonly message: unknown; readonly stack?: unknown }
    if (typeof message !== "string" || typeof stack !== "string") return undefined
    const lines = stack.split("\n").map((line) => line.trim())
    const first = lines.findLastIndex((line) => !/^at .*(:\d+:\d+|native|<anonymous>)\)?$/.test(line)) + 1
    return lines.slice(first).find((line) => !message.includes(line))
  } catch {
    return undefined
  }
}

/** A cause in words: the names of its errors, and where each was made. */
export const describe = (cause: Cause.Cause<unknown>): string =>
  cause.reasons
    .map((reason) => {
      if (reason._tag === "Interrupt") return "interrupted"
      const error: unknown = reason._tag === "Fail" ? reason.error : reason.defect
      const frame = frameOf(error)
      return `${reason._tag === "Fail" ? "" : "defect "}${nameOf(error)}${frame === undefined ? "" : ` ${frame}`}`
    })
    .join("; ")

const longestShown = 100

/** Text of a record, where it may be shown: it can be anybody's input, and must not forge lines. */
export const printable = (text: string): string => {
  const shown = text.replace(/\p{C}/gu, " ")
  return shown.length > longestShown ? `${shown.slice(0, longestShown)}...` : shown
}

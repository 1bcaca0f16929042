import { onCi } from "../../../test/kafka/skips.ts"

/** Why nothing of a client that needs this Node can be tried on another one; on CI it is tried, and fails. */
export const unsupportedOn = (version: string, ci: boolean): string | undefined => {
  const [major = 0, minor = 0] = version.split(".").map(Number)
  if (ci || major > 22 || (major === 22 && minor >= 22)) return undefined
  return `@platformatic/kafka needs Node 22.22 or newer, and this is ${version}`
}

export const unsupported: string | undefined = unsupportedOn(process.versions.node, onCi)

/**
 * The history as text. All of it goes into a hash, by which two runs of one seed are compared; only the end is kept, unless
 * somebody wants to read it.
 */
import { createHash } from "node:crypto"
import type { World } from "./world.ts"

const keptLines = 400

export class Trace {
  readonly world: World
  readonly verbose: boolean
  private readonly hash = createHash("sha1")
  private readonly lines: Array<string> = []
  count = 0

  constructor(world: World, verbose: boolean) {
    this.world = world
    this.verbose = verbose
  }

  log(who: string, what: string): void {
    const line = `${((this.world.now - 1_000_000) / 1000).toFixed(3).padStart(8)} ${who.padEnd(6)} ${what}`
    this.count++
    this.hash.update(line).update("\n")
    this.lines.push(line)
    if (!this.verbose && this.lines.length > 2 * keptLines) this.lines.splice(0, keptLines)
  }

  get text(): ReadonlyArray<string> {
    return this.verbose ? this.lines : this.lines.slice(-keptLines)
  }

  digest(): string {
    return this.hash.copy().digest("hex")
  }
}

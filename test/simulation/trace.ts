/**
 * The history as text. All of it goes into a hash, by which two runs of one seed are compared; only the end is kept, unless
 * somebody wants to read it.
 */
import { createHash } from "node:crypto"
import type { World } from "@concurrent-kafka/testing/World"

const keptLines = 400
/** characters: each call of the hash costs more than what it does with a line */
const hashedAtOnce = 16_384

const stamp = (now: number): string => ((now - 1_000_000) / 1000).toFixed(3).padStart(8)

export class Trace {
  readonly world: World
  readonly verbose: boolean
  private readonly hash = createHash("sha1")
  private readonly lines: Array<string> = []
  private unhashed = ""
  count = 0
  /** what the cluster tells of itself: only to be read, no part of the hash */
  aside: (() => ReadonlyArray<string>) | undefined = undefined
  private taken = 0

  constructor(world: World, verbose: boolean) {
    this.world = world
    this.verbose = verbose
  }

  log(who: string, what: string): void {
    const line = `${stamp(this.world.now)} ${who.padEnd(6)} ${what}`
    this.takeAside()
    this.count++
    this.unhashed += `${line}\n`
    if (this.unhashed.length > hashedAtOnce) this.hashAll()
    this.lines.push(line)
    if (!this.verbose && this.lines.length > 2 * keptLines) this.lines.splice(0, keptLines)
  }

  private takeAside(): void {
    const all = this.aside?.() ?? []
    while (this.taken < all.length) {
      const line = all[this.taken++]!
      const space = line.indexOf(" ")
      const what = line.slice(space + 1)
      // what sessions are told and what is committed is in the history already
      if (what.startsWith("group ") || what.startsWith("fault "))
        this.lines.push(`${stamp(Number(line.slice(0, space)))} KAFKA  ${what}`)
    }
  }

  get text(): ReadonlyArray<string> {
    return this.verbose ? this.lines : this.lines.slice(-keptLines)
  }

  private hashAll(): void {
    this.hash.update(this.unhashed)
    this.unhashed = ""
  }

  digest(): string {
    this.hashAll()
    return this.hash.copy().digest("hex")
  }
}

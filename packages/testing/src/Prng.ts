/**
 * Chance that is owned by a seed.
 *
 * @since 0.1.0
 */
import type { RandomSource } from "./Faults.ts"

/**
 * Every choice of a simulation comes out of one of these, so that a seed says everything.
 *
 * **Cost**: some nanoseconds a number. Not for secrets.
 *
 * **Source**: sfc32.
 *
 * @since 0.1.0
 * @category models
 */
export class Prng implements RandomSource {
  private a: number
  private b: number
  private c: number
  private counter = 1

  /** The same seed and name give the same numbers; another name gives others. */
  constructor(seed: number, name: string) {
    let hash = 2166136261 ^ seed
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619)
    this.a = hash | 0
    this.b = Math.imul(seed, 0x9e3779b9) | 0
    this.c = (Math.floor(seed / 2 ** 32) ^ 0x85ebca6b) | 0
    for (let i = 0; i < 16; i++) this.next()
  }

  /** At least 0, below 1. */
  next(): number {
    const t = (((this.a + this.b) | 0) + this.counter) | 0
    this.counter = (this.counter + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = ((this.c << 21) | (this.c >>> 11)) + t
    return (t >>> 0) / 4294967296
  }

  /** An integer from `low` to `high`, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** One of these, each as likely; the list must not be empty. */
  pick<A>(from: ReadonlyArray<A>): A {
    return from[Math.floor(this.next() * from.length)]!
  }

  /** One of the names, by weight; names with weight 0 never. */
  weighted<K extends string>(weights: Readonly<Partial<Record<K, number>>>): K {
    const entries = Object.entries(weights) as Array<[K, number]>
    let roll = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [key, weight] of entries) {
      roll -= weight
      if (roll < 0) return key
    }
    return entries.findLast(([, weight]) => weight > 0)![0]
  }

  /** Between the two, short ones more often than long ones. */
  skewed(low: number, high: number): number {
    return Math.round(low + (high - low) * this.next() ** 3)
  }
}

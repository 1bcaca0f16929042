/**
 * What waits for its turn, by number, in rounds. The smallest number comes first; what comes back when a larger number had its turn
 * already waits for the next round. So the oldest goes first, and yet nobody waits for ever: a record that fails and is to be tried
 * again at once, for ever, would else keep away all that are younger.
 *
 * Invariants (tests in `test/rounds.test.ts`): who waits has its turn before any other has two of those that follow; what is not
 * below the limit keeps nobody back who is.
 */
import { Heap } from "./heap.ts"

export class Rounds<A> {
  private now: Heap<A>
  private next: Heap<A>
  /** number of the last one that had its turn in this round */
  private passed = Number.NEGATIVE_INFINITY
  private readonly rank: (a: A) => number

  constructor(rank: (a: A) => number) {
    this.rank = rank
    this.now = new Heap(rank)
    this.next = new Heap(rank)
  }

  get size(): number {
    return this.now.size + this.next.size
  }
  get all(): ReadonlyArray<A> {
    return this.next.size === 0 ? this.now.all : [...this.now.all, ...this.next.all]
  }

  push(item: A): void {
    if (this.rank(item) > this.passed) this.now.push(item)
    else this.next.push(item)
  }

  /** Whose turn it is, of those below this number. */
  first(below: number): A | undefined {
    const first = this.now.first
    if (first !== undefined && this.rank(first) < below) return first
    const { now, next } = this
    if (next.first === undefined || this.rank(next.first) >= below) return undefined
    this.now = next
    this.next = now
    this.passed = Number.NEGATIVE_INFINITY
    return next.first
  }

  /** It has its turn: the one that `first` told. */
  pop(): void {
    const item = this.now.pop()
    if (item !== undefined) this.passed = this.rank(item)
  }

  clear(): void {
    this.now.clear()
    this.next.clear()
    this.passed = Number.NEGATIVE_INFINITY
  }
}

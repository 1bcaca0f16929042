/** A binary heap: the smallest first, by a number that each element has. */
export class Heap<A> {
  private items: Array<A> = []
  private readonly rank: (a: A) => number

  constructor(rank: (a: A) => number) {
    this.rank = rank
  }

  get size(): number {
    return this.items.length
  }
  get first(): A | undefined {
    return this.items[0]
  }
  get all(): ReadonlyArray<A> {
    return this.items
  }

  push(item: A): void {
    const { items, rank } = this
    let i = items.push(item) - 1
    const own = rank(item)
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (rank(items[parent]!) <= own) break
      items[i] = items[parent]!
      i = parent
    }
    items[i] = item
  }

  pop(): A | undefined {
    const { items, rank } = this
    const first = items[0]
    const last = items.pop()
    if (items.length === 0 || last === undefined) return first
    const own = rank(last)
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= items.length) break
      if (child + 1 < items.length && rank(items[child + 1]!) < rank(items[child]!)) child++
      if (rank(items[child]!) >= own) break
      items[i] = items[child]!
      i = child
    }
    items[i] = last
    return first
  }

  /** Throws out what is not wanted any more. */
  keep(wanted: (item: A) => boolean): void {
    const kept = this.items.filter(wanted)
    this.items = []
    for (const item of kept) this.push(item)
  }

  clear(): void {
    this.items = []
  }
}

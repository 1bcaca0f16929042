/**
 * The frames of Kafka's protocol in one direction of a connection: a length of four bytes, then so many bytes. They are followed as
 * the bytes pass, whatever the pieces in which they come; no more is held back than the first bytes of a frame.
 */

/** Length, api key, api version, correlation id. */
const requestHead = 12
/** Length, correlation id. */
const answerHead = 8

class Frames {
  private readonly head: Buffer
  private readonly passes: (head: Buffer) => boolean
  private have = 0
  /** bytes of the frame that come after its head */
  private left = 0
  private pass = true

  constructor(headLength: number, passes: (head: Buffer) => boolean) {
    this.head = Buffer.alloc(headLength)
    this.passes = passes
  }

  /** What of it goes on. */
  take(chunk: Buffer): ReadonlyArray<Buffer> {
    const on: Array<Buffer> = []
    let at = 0
    while (at < chunk.length) {
      if (this.left === 0) {
        const copied = chunk.copy(this.head, this.have, at)
        this.have += copied
        at += copied
        if (this.have < this.head.length) return on
        this.have = 0
        this.left = 4 + this.head.readInt32BE(0) - this.head.length
        this.pass = this.passes(this.head)
        if (this.pass) on.push(Buffer.from(this.head))
      }
      const piece = chunk.subarray(at, at + this.left)
      at += piece.length
      this.left -= piece.length
      if (this.pass && piece.length > 0) on.push(piece)
    }
    return on
  }
}

/** Both directions of a connection. `eats` is asked once for each request; its answer is then taken out of the stream. */
export const eating = (eats: (apiKey: number) => boolean, eaten: () => void) => {
  const correlations = new Set<number>()
  const requests = new Frames(requestHead, (head) => {
    if (eats(head.readInt16BE(4))) correlations.add(head.readInt32BE(8))
    return true
  })
  const answers = new Frames(answerHead, (head) => {
    if (!correlations.delete(head.readInt32BE(4))) return true
    eaten()
    return false
  })
  return {
    request: (chunk: Buffer) => requests.take(chunk),
    answer: (chunk: Buffer) => answers.take(chunk)
  }
}

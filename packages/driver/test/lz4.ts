/** Frames of lz4 as its text has them, of blocks that are given, readable or not. */

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

/** Blocks that depend on none before them, of 4 MiB at most; no checksums, and no size of the whole. */
const head = Buffer.concat([uint32(0x184d2204), Buffer.from([0x60, 0x70, 0x73])])

/** A frame of packed blocks. */
export const lz4Frame = (...blocks: ReadonlyArray<Buffer>): Buffer =>
  Buffer.concat([head, ...blocks.flatMap((block) => [uint32(block.length), block]), uint32(0)])

/** A frame of blocks that are not packed. */
export const lz4Stored = (...blocks: ReadonlyArray<Buffer>): Buffer =>
  Buffer.concat([head, ...blocks.flatMap((block) => [uint32(block.length + 0x80000000), block]), uint32(0)])

/** The beginning of a block: one byte, and its repetition, whose length goes on for so many bytes, each of which adds 255 to it. */
export const repetition = (length: number): Buffer =>
  Buffer.concat([Buffer.from([0x1f, 0x61, 1, 0]), Buffer.alloc(length, 255)])

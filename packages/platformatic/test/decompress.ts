/** For programs on other clients that have no codecs of their own. */
export { decompress } from "../src/internal/codecs.ts"

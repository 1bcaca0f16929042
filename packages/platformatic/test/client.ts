/** @platformatic/kafka, for the suites of all clients. */
import type { Client } from "../../driver/test/client.ts"
import * as Effect from "effect/Effect"
import { Platformatic } from "../src/index.ts"
import type { Linked } from "../src/internal/broker.ts"
import { openClient } from "../src/internal/client.ts"
import { unsupported } from "./supported.ts"

export const client: Client = {
  library: { name: "platformatic", open: openClient },
  layer: Platformatic.layer,
  layerConfig: Platformatic.layerConfig,
  socketsOf: (broker) => (broker as Linked).links.flatMap(({ socket }) => (socket === undefined ? [] : [socket])),
  registerCodecs: Effect.void,
  unknownCodec: [5, "number 5"],
  logs: false,
  module: import.meta.url,
  classicOnly: undefined,
  unsupported
}

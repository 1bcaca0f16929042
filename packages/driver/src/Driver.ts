/**
 * What makes a client out of a library's connections: sessions, producers, admins and the layers that provide them.
 *
 * @since 0.1.0
 */
export { addressText } from "./internal/address.ts"
export { makeAdmin } from "./internal/admin.ts"
export { Cluster } from "./internal/cluster.ts"
export { type DriverLayers, type Library, type OpenCluster, layers, requestTimeoutOf } from "./internal/layers.ts"
export { leaderOf } from "./internal/offsets.ts"
export { checkOptions, type ClientSettings } from "./internal/options.ts"
export { clusterWire, makeProducer, producerSettings } from "./internal/producer.ts"
export { makeSession } from "./internal/session.ts"

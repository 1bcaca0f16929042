import { producing } from "../../driver/test/suites/producing.ts"
import { client } from "./client.ts"

producing(client)

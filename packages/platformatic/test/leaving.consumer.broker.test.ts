import { leaving } from "../../driver/test/suites/leaving.ts"
import { client } from "./client.ts"

leaving(client, "consumer")

import { cooperative } from "../../driver/test/suites/cooperative.ts"
import { client } from "./client.ts"

cooperative(client)

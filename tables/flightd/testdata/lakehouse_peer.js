// Runs a query and lists the catalog with @lakehouse-rs/flight-sql-client, and prints the rows as JSON.
const { createFlightSqlClient } = require("@lakehouse-rs/flight-sql-client");
const { tableFromIPC } = require("apache-arrow");

const [address, token, sql] = process.argv.slice(2);
const [host, port] = address.split(":");
const text = (buffer) =>
  JSON.stringify(tableFromIPC(buffer).toArray(), (_, v) => (typeof v === "bigint" ? Number(v) : v));
(async () => {
  const client = await createFlightSqlClient({ username: "token", password: token, tls: false, host, port: Number(port), headers: [] });
  console.log(text(await client.query(sql)));
  console.log(text(await client.getDbSchemas({})));
  console.log(text(await client.getTables({ tableNameFilterPattern: "t%", includeSchema: false })));
})().catch((e) => {
  console.error(e);
  process.exit(1);
});

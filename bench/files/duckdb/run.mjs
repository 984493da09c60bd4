// Runs one SQL statement in DuckDB and prints the seconds it took, without what
// node took to start: node run.mjs '{"sql": "…", "settings": {…}}'
import { DuckDBInstance } from '@duckdb/node-api';

const { sql, settings } = JSON.parse(process.argv[2]);
const db = await DuckDBInstance.create(':memory:', settings);
const connection = await db.connect();
try {
  const start = process.hrtime.bigint();
  await connection.run(sql);
  console.log(Number(process.hrtime.bigint() - start) / 1e9);
} catch (e) {
  console.error(String(e.message).split('\n')[0]);
  process.exitCode = 1;
}

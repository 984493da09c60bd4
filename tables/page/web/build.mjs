// Builds the page into the given directory, or into ../dist. Builds are reproducible, so that the
// committed files can be compared with a new build.
import { build } from "esbuild";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";

const committed = "../dist";
const dist = process.argv[2] ?? committed;
const maxCompressedBytes = 1_000_000;
const permissive = new Set(["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD"]);

// Compressors differ between machines, so an unchanged file keeps its compressed form.
const compressedFiles = readdirSync(committed).filter((file) => file.endsWith(".gz")).map((file) => readFileSync(`${committed}/${file}`));
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
const { metafile } = await build({
  entryPoints: { page: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  outdir: dist,
  splitting: true,
  chunkNames: "[name]-[hash]",
  metafile: true,
  logLevel: "warning",
});
// The browser preloads the scripts that the first view needs.
const [, { imports }] = Object.entries(metafile.outputs).find(([name]) => name.endsWith("/page.js"));
const preloads = imports.filter(({ kind }) => kind === "import-statement").map(({ path }) => `<link rel="modulepreload" href="${path.split("/").pop()}">\n`);
writeFileSync(`${dist}/index.html`, readFileSync("src/index.html", "utf8").replace("<script", `${preloads.join("")}<script`));
cpSync("src/icon.svg", `${dist}/icon.svg`);

// Collect the licences of exactly those packages that are in the bundle.
const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const match = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (match) packages.add(match[1]);
}
let licences = "The page contains these packages, under these licences.\n";
for (const name of [...packages].sort()) {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  if (!permissive.has(license)) throw new Error(`${name}: the licence ${license} is not one of ${[...permissive]}`);
  licences += `\n${"=".repeat(76)}\n${name} ${version}: ${license}\n`;
  for (const file of readdirSync(folder).filter((file) => /^(licen[cs]e|notice)/i.test(file)).sort()) {
    licences += `\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
  }
}
writeFileSync(`${dist}/licences.txt`, licences);

// Write large files only in compressed form, which nearly all clients accept.
let totalBytes = 0;
for (const file of readdirSync(dist)) {
  const content = readFileSync(`${dist}/${file}`);
  const compressed = compressedFiles.find((old) => decompressesTo(old, content)) ?? gzipSync(content, { level: 9 });
  totalBytes += compressed.length;
  if (content.length > 1000) {
    writeFileSync(`${dist}/${file}.gz`, compressed);
    rmSync(`${dist}/${file}`);
  }
  console.log(`${file}: ${content.length} bytes, ${compressed.length} compressed`);
}
if (totalBytes >= maxCompressedBytes) throw new Error(`the compressed page has ${totalBytes} bytes: it must have less than ${maxCompressedBytes}`);

function decompressesTo(old, content) {
  try {
    return gunzipSync(old).equals(content);
  } catch {
    return false; // the old file may be damaged, for example by a merge
  }
}

// Builds the page into ../dist. The same input gives the same bytes, so that the committed files
// can be compared with a build.
import { build } from "esbuild";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";

const dist = "../dist";
const mostCompressed = 1_000_000;
const permissive = new Set(["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD"]);

// Compressors differ, so a file that was compressed before stays if its content is unchanged.
const packed = readdirSync(dist).filter((file) => file.endsWith(".gz")).map((file) => readFileSync(`${dist}/${file}`));
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
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
// What the first view is made of is asked for at once.
const [, { imports }] = Object.entries(metafile.outputs).find(([name]) => name.endsWith("/page.js"));
const preloads = imports.filter(({ kind }) => kind === "import-statement").map(({ path }) => `<link rel="modulepreload" href="${path.split("/").pop()}">\n`);
writeFileSync(`${dist}/index.html`, readFileSync("src/index.html", "utf8").replace("<script", `${preloads.join("")}<script`));
cpSync("src/icon.svg", `${dist}/icon.svg`);

// The licences of all that is in the bundle, and of nothing else.
const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (found) packages.add(found[1]);
}
let licences = "The page holds these packages, under these licences.\n";
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

// Large files are there packed alone, as nearly all clients are sent them.
let compressed = 0;
for (const file of readdirSync(dist)) {
  const content = readFileSync(`${dist}/${file}`);
  const small = packed.find((old) => unpacks(old, content)) ?? gzipSync(content, { level: 9 });
  compressed += small.length;
  if (content.length > 1000) {
    writeFileSync(`${dist}/${file}.gz`, small);
    rmSync(`${dist}/${file}`);
  }
  console.log(`${file}: ${content.length} bytes, ${small.length} compressed`);
}
if (compressed >= mostCompressed) throw new Error(`the page has ${compressed} bytes compressed, more than ${mostCompressed}`);

function unpacks(old, content) {
  try {
    return gunzipSync(old).equals(content);
  } catch {
    return false; // a merge may have left it broken
  }
}

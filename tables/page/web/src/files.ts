// Guesses the encoding and the delimiter of a file from its beginning. Converts files to uncompressed UTF-8, the only
// form of text that the server accepts.

const maxHead = 64 << 10;

export interface Beginning {
  encoding: string;
  sep: string;
  rows: string[][]; // the first rows of a text file; in CSV, the very first contains the column names
}

export const separators: Record<string, string> = { ",": "comma", ";": "semicolon", "\t": "tab", "|": "bar" };
// Encodings that both browsers and iconv know by these names.
export const encodings: Record<string, string> = { "utf-8": "UTF-8", "windows-1252": "Latin-1 (Windows-1252)", "utf-16le": "UTF-16" };

export const isCompressed = (file: File) => /\.gz$/i.test(file.name);
export const plainName = (file: File) => file.name.replace(/\.gz$/i, "");

function unpack(file: File): ReadableStream<Uint8Array<ArrayBuffer>> {
  return isCompressed(file) ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
}

export async function toPlainText(file: File, encoding: string): Promise<Blob> {
  if (encoding === "utf-8" && !isCompressed(file)) return file;
  let bytes = unpack(file);
  if (encoding !== "utf-8") bytes = bytes.pipeThrough(new TextDecoderStream(encoding)).pipeThrough(new TextEncoderStream());
  return new Response(bytes).blob();
}

export async function readBeginning(file: File, format: string, encoding?: string, sep?: string): Promise<Beginning> {
  const result: Beginning = { encoding: encoding || "utf-8", sep: sep || ",", rows: [] };
  if (format !== "csv" && format !== "tsv" && format !== "jsonl") return result;
  const bytes = await head(unpack(file));
  if (!encoding) result.encoding = encodingOf(bytes);
  const text = new TextDecoder(result.encoding).decode(bytes, { stream: true });
  if (format === "jsonl") {
    result.rows = text.split("\n").filter((line) => line.trim()).slice(0, 6).map((line) => [line]);
    return result;
  }
  if (format === "tsv") {
    result.rows = text.split(/\r?\n/, 6).map((line) => line.split("\t"));
    return result;
  }
  const line = text.split("\n", 1)[0].replace(/"[^"]*"/g, "");
  const occurrences = (c: string) => line.split(c).length;
  if (!sep) result.sep = Object.keys(separators).reduce((a, b) => (occurrences(b) > occurrences(a) ? b : a));
  result.rows = records(text, result.sep, 6);
  return result;
}

async function head(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const reader = stream.getReader();
  const bytes = new Uint8Array(maxHead);
  let length = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes.set(part.value.subarray(0, maxHead - length), length);
    length = Math.min(maxHead, length + part.value.length);
    if (length === maxHead) break;
  }
  await reader.cancel();
  return bytes.subarray(0, length);
}

function encodingOf(bytes: Uint8Array): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return "utf-8";
  } catch {
    return "windows-1252";
  }
}

function records(text: string, sep: string, maxRecords: number): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let field = "";
  let quoted = false;
  const end = () => (row.push(field.replace(/\r$/, "")), (field = ""));
  for (let i = 0; i < text.length && rows.length < maxRecords; i++) {
    const c = text[i];
    if (quoted && c === '"' && text[i + 1] === '"') field += text[i++];
    else if (c === '"' && (quoted || !field)) quoted = !quoted;
    else if (!quoted && c === sep) end();
    else if (!quoted && c === "\n") {
      end();
      rows.push(row);
      row = [];
    } else field += c;
  }
  if (rows.length < maxRecords && (row.length || field)) rows.push([...row, field]);
  return rows;
}

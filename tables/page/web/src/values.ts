// Formats a cell's value as a short string. It reads Arrow's buffers directly, so that only the beginning
// of a large cell is decoded, and times keep all digits.
import { DataType, type Decimal, type Field, type Float, RecordBatch, type Time, TimeUnit, type Timestamp, Type, Vector } from "apache-arrow";

const maxChars = 300;
const decoder = new TextDecoder();
const perSecond: Record<number, bigint> = {
  [TimeUnit.SECOND]: 1n,
  [TimeUnit.MILLISECOND]: 1000n,
  [TimeUnit.MICROSECOND]: 1000000n,
  [TimeUnit.NANOSECOND]: 1000000000n,
};

export interface Cell {
  text: string;
  cut?: boolean;
  null?: boolean;
}

export function isNumber(type: DataType): boolean {
  return DataType.isInt(type) || DataType.isFloat(type) || DataType.isDecimal(type);
}

export function isTime(type: DataType): boolean {
  return DataType.isTimestamp(type) || DataType.isDate(type);
}

// cell returns a cell's text, truncated to at most chars characters.
export function cell(batch: RecordBatch, row: number, column: number, chars = maxChars): Cell {
  const vector = batch.getChildAt(column);
  if (!vector || !vector.isValid(row)) return { text: "", null: true };
  return formatValid(vector, row, chars);
}

function formatValid(vector: Vector, row: number, chars: number): Cell {
  const type = vector.type as DataType;
  const data = vector.data[0];
  switch (type.typeId) {
    case Type.Utf8:
    case Type.LargeUtf8:
    case Type.Binary:
    case Type.LargeBinary: {
      const from = Number(data.valueOffsets[row]);
      const to = Number(data.valueOffsets[row + 1]);
      const bytes = data.values.subarray(from, Math.min(to, from + chars * 4));
      const isText = type.typeId === Type.Utf8 || type.typeId === Type.LargeUtf8;
      const text = isText ? decoder.decode(bytes) : Array.from(bytes as Uint8Array, (b) => b.toString(16).padStart(2, "0")).join("");
      return shorten(text, chars, to - from > bytes.length);
    }
    case Type.Timestamp:
      return { text: timestamp(BigInt(data.values[row]), perSecond[(type as Timestamp).unit], !!(type as Timestamp).timezone) };
    case Type.Date:
      return { text: day(vector.get(row) as number) };
    case Type.Time:
      return { text: timestamp(BigInt(data.values[row]), perSecond[(type as Time).unit], false).slice(11) };
    case Type.Decimal:
      return { text: decimal(vector.get(row) as Uint32Array, (type as Decimal).scale) };
    case Type.Float:
      return { text: float(vector.get(row) as number, significantDigits[(type as Float).precision]) };
    case Type.Interval:
      return { text: interval(vector.get(row) as Int32Array) };
    case Type.List:
    case Type.Map:
    case Type.Struct:
      return shorten(nested(vector, row, chars), chars, false);
    default:
      return shorten(String(vector.get(row)), chars, false);
  }
}

function shorten(text: string, chars: number, cut: boolean): Cell {
  const characters = text.length > chars;
  return { text: characters ? text.slice(0, chars) : text, cut: cut || characters };
}

// instant formats a time, even if it is outside the range of Date.
export function instant(ms: number): string {
  const date = new Date(ms);
  if (!Number.isNaN(date.valueOf())) return date.toISOString().replace(/^[+]0*/, "");
  // The calendar repeats every 400 years.
  const cycle = 146097 * 86400000;
  const cycles = Math.floor(ms / cycle);
  const part = new Date(ms - cycles * cycle);
  return `${part.getUTCFullYear() + 400 * cycles}${part.toISOString().slice(4)}`;
}

const lastDay = 2147483647 * 86400000;
function day(ms: number): string {
  return Math.abs(ms) === lastDay ? formatInfinity(ms > 0) : instant(ms).split("T")[0];
}

const formatInfinity = (positive: boolean) => (positive ? "infinity" : "-infinity");

function timestamp(value: bigint, unit: bigint, zone: boolean): string {
  if (value === 9223372036854775807n || value === -9223372036854775807n) return formatInfinity(value > 0n);
  const second = value >= 0n ? value / unit : -((unit - 1n - value) / unit);
  const rest = value - second * unit;
  const digits = String(unit).length - 1;
  const fraction = rest ? `.${String(rest).padStart(digits, "0").replace(/0+$/, "")}` : "";
  return instant(Number(second) * 1000).slice(0, -5) + fraction + (zone ? "Z" : "");
}

function decimal(words: Uint32Array, scale: number): string {
  let value = 0n;
  for (let i = words.length - 1; i >= 0; i--) value = (value << 32n) | BigInt(words[i]);
  value = BigInt.asIntN(words.length * 32, value);
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, "0");
  const point = digits.length - scale;
  return (value < 0n ? "-" : "") + digits.slice(0, point) + (scale ? `.${digits.slice(point)}` : "");
}

// interval formats an interval of months, days and nanoseconds as DuckDB does.
function interval(parts: Int32Array): string {
  if (parts.length < 4) return String(parts);
  const months = parts[0];
  const nanos = (BigInt(parts[3]) << 32n) | BigInt(parts[2] >>> 0);
  const units = (n: number, unit: string) => (n ? `${n} ${unit}${Math.abs(n) === 1 ? "" : "s"} ` : "");
  const text = units(Math.trunc(months / 12), "year") + units(months % 12, "month") + units(parts[1], "day");
  if (!nanos && text) return text.trim();
  const size = nanos < 0n ? -nanos : nanos;
  const seconds = size / 1000000000n;
  const two = (n: bigint) => String(n).padStart(2, "0");
  const rest = size % 1000000000n ? `.${String(size % 1000000000n).padStart(9, "0").replace(/0+$/, "")}` : "";
  return `${text}${nanos < 0n ? "-" : ""}${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}${rest}`;
}

const significantDigits = [5, 9, 17]; // enough to distinguish all values of float16, float32 and float64

// float formats a number with the fewest digits that distinguish it from all others of its type.
function float(value: number, digits: number): string {
  if (Object.is(value, -0)) return "-0";
  if (digits === 17 || !Number.isFinite(value)) return String(value);
  for (let n = 1; n < digits; n++) {
    const short = Number(value.toPrecision(n));
    if (digits === 9 ? Math.fround(short) === value : short === value) return String(short);
  }
  return String(Number(value.toPrecision(digits)));
}

const unitNames = ["s", "ms", "us", "ns"]; // by TimeUnit

// typeName returns a type's name, spelled as by the server and the command line.
export function typeName(type: DataType): string {
  if (DataType.isInt(type)) return `${type.isSigned ? "" : "u"}int${type.bitWidth}`;
  if (DataType.isFloat(type)) return `float${16 << type.precision}`;
  if (DataType.isDecimal(type)) return `decimal${type.bitWidth === 256 ? "256" : ""}(${type.precision}, ${type.scale})`;
  if (DataType.isTimestamp(type)) return `timestamp[${unitNames[type.unit]}${type.timezone ? `, tz=${type.timezone}` : ""}]`;
  if (DataType.isDate(type)) return type.unit ? "date64" : "date32";
  if (DataType.isTime(type)) return `time${type.bitWidth}[${unitNames[type.unit]}]`;
  if (DataType.isDuration(type)) return `duration[${unitNames[type.unit]}]`;
  if (DataType.isList(type)) return `list<${typeOfField(type.children[0], ", nullable")}>`;
  if (DataType.isStruct(type)) return `struct<${type.children.map((f) => typeOfField(f, " nullable")).join(", ")}>`;
  if (DataType.isMap(type)) {
    const [key, value] = (type.children[0].type as DataType).children as Field[];
    return `map<${typeName(key.type)}, ${typeName(value.type)}${value.nullable ? ", items_nullable" : ""}>`;
  }
  return String(type).toLowerCase().replace(/^large(?=utf8|binary)/, "large_");
}

const typeOfField = (field: Field, nullable: string) => `${field.name}: ${typeName(field.type)}${field.nullable ? nullable : ""}`;

// nested formats a list, map or struct, with its values formatted like cells.
function nested(vector: Vector, row: number, chars: number): string {
  const data = vector.data[0];
  const children = data.children.map((child) => new Vector([child]));
  const formatAt = (values: Vector, index: number, name = false): string => {
    if (!values.isValid(index)) return "null";
    const { text, cut } = formatValid(values, index, chars);
    return name || DataType.isUtf8(values.type) ? JSON.stringify(cut ? `${text}…` : text) : text;
  };
  if (vector.type.typeId === Type.Struct) {
    return `{${(vector.type.children as Field[]).map((f, i) => `${JSON.stringify(f.name)}: ${formatAt(children[i], row)}`).join(", ")}}`;
  }
  const map = vector.type.typeId === Type.Map;
  const entries = map ? children[0].data[0].children.map((child) => new Vector([child])) : children;
  const parts: string[] = [];
  let length = 0;
  for (let at = Number(data.valueOffsets[row]); at < Number(data.valueOffsets[row + 1]) && length <= chars; at++) {
    parts.push(map ? `${formatAt(entries[0], at, true)}: ${formatAt(entries[1], at)}` : formatAt(entries[0], at));
    length += parts[parts.length - 1].length + 2;
  }
  return map ? `{${parts.join(", ")}}` : `[${parts.join(", ")}]`;
}

// number returns a value's position on an axis; for a time, in milliseconds since 1970.
export function number(batch: RecordBatch, row: number, column: number): number | null {
  const vector = batch.getChildAt(column);
  if (!vector || !vector.isValid(row)) return null;
  const type = vector.type as DataType;
  if (DataType.isDecimal(type)) return Number(cell(batch, row, column).text);
  const value = DataType.isTimestamp(type) ? (Number(vector.data[0].values[row]) * 1000) / Number(perSecond[type.unit]) : Number(vector.get(row));
  // An axis of times is limited to the range of Date.
  return Number.isFinite(value) && (!isTime(type) || Math.abs(value) <= 8.64e15) ? value : null;
}

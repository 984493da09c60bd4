package formats

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowext "github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
)

// texts lists texts that each type accepts, with the text that a writer writes for the value if it
// differs, and texts that the type refuses.
var texts = []struct {
	typ               arrow.DataType
	accepted, refused string // separated by spaces; "a→b" means that a is written as b
}{
	{arrow.FixedWidthTypes.Boolean, "true false TRUE→true False→false", "1 0 t yes"},
	{arrow.PrimitiveTypes.Int8, "-128 127 0", "128 -129 300 1.5 1.0 1e2 x 0x1"},
	{arrow.PrimitiveTypes.Int64, "9223372036854775807 -9223372036854775808 9007199254740993", "9223372036854775808 -9223372036854775809 1_0"},
	{arrow.PrimitiveTypes.Uint8, "255 0", "256 -1"},
	{arrow.PrimitiveTypes.Uint64, "18446744073709551615", "18446744073709551616 -1"},
	{arrow.FixedWidthTypes.Float16, "65504 0.5 -0 NaN +Inf -Inf 6e-08→5.9604645e-08 0.1→0.099975586", "70000 65520 65519 2049 1e300 x"},
	{arrow.PrimitiveTypes.Float32, "0.1 1.6777216e+07 16777216→1.6777216e+07 NaN -0 18446744073709551616→1.8446744e+19 18446744000000000000→1.8446744e+19", "16777217 1e39 0x1p4 1_0 18446744073709552000"},
	{arrow.PrimitiveTypes.Float64, "0.1 5e-324 1e+308 9007199254740992→9.007199254740992e+15 1152921504606847000→1.152921504606847e+18 18446744073709551616→1.8446744073709552e+19 18446744073709552000→1.8446744073709552e+19", "9007199254740993 1e309 9223372036854775807 18446744073709551615 -100000000000000000001"},
	{arrow.ListOf(arrow.PrimitiveTypes.Float64), "[18446744073709551616]→[1.8446744073709552e+19] [18446744073709551615.5]→[1.8446744073709552e+19] [16777217]", "[9007199254740993] [18446744073709551615]"},
	{&arrow.Decimal32Type{Precision: 7, Scale: 2}, "99999.99 -0.5 .5→0.5 1e2→100", "100000 1.005 1/2 . - 1e9"},
	{&arrow.Decimal64Type{Precision: 15, Scale: 15}, "0.999999999999999 1e-15→0.000000000000001", "1 1e-16"},
	{&arrow.Decimal128Type{Precision: 10, Scale: 2}, "1.50→1.5 1.500→1.5 0 -0→0 00.10→0.1 100e-2→1 0e-9→0", "1.005 123456789 1e99999999999 NaN ,"},
	{&arrow.Decimal128Type{Precision: 38}, "99999999999999999999999999999999999999 -99999999999999999999999999999999999999", "100000000000000000000000000000000000000 0.5"},
	{arrow.FixedWidthTypes.Date32, "2026-01-31 2024-02-29 2000-02-29 1969-12-31 -0001-02-28 5881580-07-11 2026-01-31T00:00→2026-01-31", "2026-02-29 2100-02-29 2024-02-30 2026-04-31 2026-12-32 2026-01-00 2026-02-30 2026-13-01 5881580-07-12 2026-01-31T01:00 2026-01-31T00:00:00Z 20260131 31.1.2026"},
	{arrow.FixedWidthTypes.Date64, "2026-01-31 2026-01-31T12:00:00.5", "2026-01-31T12:00:00.0005 2026-01-31T00:00:00Z"},
	{arrow.FixedWidthTypes.Time32s, "23:59:59 00:00→00:00:00", "24:00:00 23:59:60 23:59:59.5 -01:00 5"},
	{arrow.FixedWidthTypes.Time64ns, "23:59:59.999999999 12:00:00.5→12:00:00.500000000", "12:00:00.0000000001 12:00:00."},
	{&arrow.TimestampType{Unit: arrow.Second}, "2026-01-31T23:59:59 2026-01-31→2026-01-31T00:00:00 12026-01-31T00:00:00", "2026-01-31T23:59:59.5 2026-01-31T23:59:59Z 2026-01-31x 1769904000 2026-01-31T24:00:00"},
	{&arrow.TimestampType{Unit: arrow.Nanosecond}, "2262-04-11T23:47:16.854775807 1677-09-21T00:12:43.145224192", "2262-04-11T23:47:16.854775808 1677-09-21T00:12:43.145224191"},
	{&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "America/New_York"}, "2026-01-31T00:00:00Z→2026-01-30T19:00:00-05:00 2026-07-31T00:00:00.5+02:00→2026-07-30T18:00:00.5-04:00 2026-01-31T00:00:00+0130→2026-01-30T17:30:00-05:00", "2026-01-31T00:00:00 2026-01-31T00:00:00+25:00 2026-01-31T00:00:00+1:00 2026-01-31T00:00:00+01:00:0"},
	{&arrow.DurationType{Unit: arrow.Millisecond}, "-5ms 7→7ms 2s→2000ms 3000us→3ms 9223372036854775807ms", "1500us 9223372036854775807s 5m 1.5s ms"},
	{arrow.BinaryTypes.Binary, "AP8= YWI=", "AP8 A=== YWJ= é"},
	{&arrow.FixedSizeBinaryType{ByteWidth: 2}, "AP8=", "AP8B"},
	{arrowext.NewUUIDType(), "00000000-0000-0000-0000-0000000000ff", "00000000-0000-0000-0000-0000000000 AP8→"},
	{arrow.BinaryTypes.String, "(null) 007 null é", ""},
	{arrow.Null, "", "x null"},
	{arrow.ListOf(arrow.PrimitiveTypes.Int64), "[9007199254740993,-9223372036854775808,null] [] [9223372036854775807]", "[9223372036854775808] [1.5] [true] {} 1 [1 [1,] [[1]]"},
	{arrow.ListOf(arrow.PrimitiveTypes.Uint64), "[18446744073709551615]", "[-1] [18446744073709551616]"},
	{arrow.ListOf(arrow.PrimitiveTypes.Int8), "[-128,127]", "[300] [-129] [1.5]"},
	{arrow.ListOf(arrow.FixedWidthTypes.Boolean), "[true,false]", "[1] [0] [\"x\"]"},
	{arrow.ListOf(arrow.BinaryTypes.String), `["a","",null,"\u00e9"]→["a","",null,"é"] ["\ud83d\ude00"]→["😀"]`, `[1] [true] ["\ud83d"] ["\ude00x"]`},
	{arrow.ListOf(&arrow.Decimal128Type{Precision: 10, Scale: 2}), `["1.25"] [1.25]→["1.25"]`, `["1.005"] [1.005]`},
	{arrow.ListOf(arrow.FixedWidthTypes.Float16), `[0.5,"NaN","-Inf"]`, `[70000]`},
	{arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int8), `[1]`, `[null]`},
	{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8), `[1,null]`, `[1] [1,2,3]`},
	{
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Uint64, Nullable: true}, arrow.Field{Name: "b", Type: arrow.FixedWidthTypes.Boolean}),
		`{"b":true,"a":18446744073709551615}→{"a":18446744073709551615,"b":true} {"b":false}→{"a":null,"b":false}`, `{"a":1} {"b":null} {"b":true,"c":1} {"b":true,"b":true} [1] {"a":-1,"b":true}`,
	},
	{arrow.MapOf(arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32), `[{"key":9007199254740993,"value":0.5}] [{"value":1,"key":2}]→[{"key":2,"value":1}] []`, `[{"key":null,"value":1}] [{"value":1}] {"a":1} [1] [{"key":1,"value":16777217}]`},
}

// parseText parses a text as a value of a type, and returns the text that a writer writes for this value.
func parseText(t arrow.DataType, text string) (string, error) {
	b := array.NewBuilder(memory.DefaultAllocator, t)
	defer b.Release()
	if err := newAdder(b, arrow.Field{Type: t, Nullable: true}).add([]byte(text), false); err != nil {
		return "", err
	}
	a := b.NewArray()
	if a.Len() != 1 {
		return "", nil
	}
	out, _, err := TextAppender(a)(nil, 0)
	return string(out), err
}

// TestTextsOfTypes checks that a text is read exactly or refused, by itself and in a list.
func TestTextsOfTypes(t *testing.T) {
	for _, c := range texts {
		for text := range strings.FieldsSeq(c.accepted) {
			text, want, hasArrow := strings.Cut(text, "→")
			if !hasArrow {
				want = text
			}
			if got, err := parseText(c.typ, text); err != nil || got != want {
				t.Errorf("%s: parseText(%q) = %q, %v, want %q", c.typ, text, got, err, want)
			}
			if _, nested := c.typ.(arrow.NestedType); nested {
				continue
			}
			if got, err := parseText(arrow.ListOf(c.typ), fmt.Sprintf("[%q]", text)); (err != nil || got != "["+want+"]" && got != `["`+want+`"]`) && c.typ.ID() != arrow.BOOL {
				t.Errorf("list<%s>: parseText([%q]) = %q, %v, want a list of the same value", c.typ, text, got, err)
			}
		}
		for text := range strings.FieldsSeq(c.refused) {
			if got, err := parseText(c.typ, text); err == nil {
				t.Errorf("%s: parseText(%q) = %q, want an error", c.typ, text, got)
			}
			if got, err := parseText(arrow.ListOf(c.typ), fmt.Sprintf("[%q]", text)); err == nil {
				t.Errorf("list<%s>: parseText([%q]) = %q, want an error", c.typ, text, got)
			}
		}
	}
}

// FuzzText checks that an accepted text is written as a text with the same value.
func FuzzText(f *testing.F) {
	for _, c := range texts {
		for text := range strings.FieldsSeq(c.accepted + " " + c.refused) {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range texts {
			got, err := parseText(c.typ, text)
			if err != nil || got == "" {
				continue
			}
			if second, err := parseText(c.typ, got); err != nil || second != got {
				t.Errorf("%s: %q is written as %q, but reading the written text returns %q, %v", c.typ, text, got, second, err)
			}
		}
	})
}

// TestTextsAreExactOrRefused checks that each text is read exactly or refused with an error, and never
// lost or changed.
func TestTextsAreExactOrRefused(t *testing.T) {
	known := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)},
		{Name: "f", Type: arrow.ListOf(arrow.FixedWidthTypes.Boolean)},
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}},
		{Name: "z", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "u", Type: arrow.PrimitiveTypes.Uint8},
	}, nil)
	for _, c := range []struct{ name, text, want string }{ // as JSON lines, or the error
		{"x.csv", "a\n1\n\n3\n", `{"a":1}|{"a":null}|{"a":3}|`},
		{"x.csv", "a\r\n\r\nx\r\n\"\"\r\n", `{"a":null}|{"a":"x"}|{"a":""}|`},
		{"x.csv", "a,b\n\n1,2\n\n", `{"a":1,"b":2}|`},
		{"x.csv", "a,b\n,\"\"\n\"\",x\n", `{"a":null,"b":""}|{"a":"","b":"x"}|`},
		{"x.csv", "a,b\n1,\n\"\",\"\"\n", `{"a":1,"b":null}|{"a":null,"b":""}|`},
		{"x.csv", "a\n\"x\r\ny\"\n\"\r\"\n", `{"a":"x\r\ny"}|{"a":"\r"}|`},
		{"x.csv", "a,b\n1,x\n\"1\n\",caf\xe9\n", `x.csv, line 4: column "b": the text is not valid UTF-8`},
		{"x.csv", "a,caf\xe9\n1,x\n", `x.csv, line 1: name of column 2: the text is not valid UTF-8`},
		{"x.jsonl", "{\"a\":1,\"b\":\"x\"}\n{\"b\":\"caf\xe9\"}\n", `x.jsonl, line 2: column "b": the text is not valid UTF-8`},
		{"x.jsonl", "{\"b\":{\"c\":[\"caf\xe9\\n\"]}}\n", `x.jsonl, line 1: column "b": the text is not valid UTF-8`},
		{"x.jsonl", "{\"caf\xe9\":1}\n", `x.jsonl, line 1: the text is not valid UTF-8`},
		{"x.jsonl", `{"b":"\ud800"}`, `x.jsonl, line 1: column "b": the text is not valid UTF-8, or contains an unpaired surrogate`},
		{"x.csv", "\x1f\x8b\x08\x00", `x.csv: the gzip data is cut off at byte 4`},
		{"x.jsonl", "\x28\xb5\x2f\xfd", `x.jsonl: the zstd data is cut off at byte 4`},
		{"x.csv", "l\n\"[9007199254740993,9223372036854775807]\"\n", `{"l":[9007199254740993,9223372036854775807]}|`},
		{"x.csv", "u\n+255\n", `{"u":255}|`},
		{"x.csv", "t\n1769853600\n", `x.csv, line 2: column "t": "1769853600" is not a valid timestamp[us]: use a format such as 2026-01-31T23:59:59`},
		{"x.csv", "z\n2026-01-31 12:00\n", `x.csv, line 2: column "z": "2026-01-31 12:00" is not a valid timestamp[us, tz=UTC]: use a format such as 2026-01-31T23:59:59Z or 2026-01-31T23:59:59+01:00`},
		{"x.csv", "s,l\nx,[1.5]\n", `x.csv, line 2: column "l": "1.5" is not a valid int64`},
		{"x.csv", "s,f\nx,[true]\n\"a\nb\",[1]\n", `x.csv, line 4: column "f": a number 1 is not a valid bool`},
		{"x.jsonl", "{\"f\":[true]}\n{\"f\":[1]}\n", `x.jsonl, line 2: column "f": a number 1 is not a valid bool`},
		{"x.jsonl", `{"l":[9223372036854775808]}`, `x.jsonl, line 1: column "l": "9223372036854775808" is not a valid int64`},
		{"x.jsonl", `{"l":[1],"l":[2]}`, `x.jsonl, line 1: column "l" appears twice`},
	} {
		for _, in := range []*Input{fileOf(t, c.name, c.text), pipeOf(t, c.name, c.text)} {
			in.Known = known
			got, err := content(t, in)
			if _, got, _ = strings.Cut(got, "\n"); err == nil && strings.ReplaceAll(got, "\n", "|") != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("content(%q) = %s, %v, want %s", c.text, got, err, c.want)
			}
		}
	}
}

// TestPackedValues checks that values in dictionaries, runs and extensions are written like other
// values.
func TestPackedValues(t *testing.T) {
	for _, c := range []struct {
		typ        arrow.DataType
		json, want string
	}{
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `["a",null,""]`, "a\n\n\"\"\n"},
		{arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16), `[7,7,null]`, "7\n7\n\n"},
		{arrow.ListOf(arrowext.NewBool8Type()), `[[true,null]]`, "\"[1,null]\"\n"},
	} {
		a, _, err := array.FromJSON(memory.DefaultAllocator, c.typ, strings.NewReader(c.json))
		must.Do(t, err)
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.typ, Nullable: true}}, nil)
		if got := encode(t, CSV(), false, schema, array.NewRecordBatch(schema, []arrow.Array{a}, int64(a.Len()))); got != "x\n"+c.want {
			t.Errorf("%s: wrote %q, want %q", c.typ, got, c.want)
		}
	}
}

package formats

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func fileOf(t testing.TB, name, text string) *Input {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must.Do(t, os.WriteFile(path, []byte(text), 0o666))
	f := must.Get(os.Open(path))(t)
	t.Cleanup(func() { _ = f.Close() })
	return &Input{Name: name, File: f, Format: must.Get(Standard().ForInput(name))(t)}
}

// pipeOf returns an input that reads the text from a pipe, which is not a regular file.
func pipeOf(t testing.TB, name, text string) *Input {
	t.Helper()
	r, w, err := os.Pipe()
	must.Do(t, err)
	t.Cleanup(func() { _ = r.Close() })
	go func() {
		_, _ = io.WriteString(w, text)
		_ = w.Close()
	}()
	return &Input{Name: name, File: r, Format: must.Get(Standard().ForInput(name))(t)}
}

// content returns an input's types and, on the next lines, its rows as JSON lines.
func content(t testing.TB, in *Input) (string, error) {
	t.Helper()
	r, err := in.Read(t.Context())
	if err != nil {
		return "", err
	}
	defer r.Release()
	var b bytes.Buffer
	for _, f := range r.Schema().Fields() {
		fmt.Fprintf(&b, "%s %s, ", f.Name, f.Type)
	}
	b.WriteString("\n")
	w, err := JSONL().Write(&b, r.Schema(), WriteOptions{})
	if err != nil {
		return "", err
	}
	for r.Next() {
		if err := w.Write(r.RecordBatch()); err != nil {
			return "", err
		}
	}
	return b.String(), r.Err()
}

func TestTypesOfText(t *testing.T) {
	for csv, want := range map[string]string{
		"a\n1\n-2\n":                                  `a int64`,
		"a\n1\n2.5\n":                                 `a float64`,
		"a\n1e3\nNaN\n-Inf\n":                         `a float64`,
		"a\n00501\n10001\n":                           `a utf8`, // leading zeros are not numbers
		"a\n12345678901234567890\n":                   `a utf8`, // a float64 would lose digits
		"a\n9007199254740993\n1.5\n":                  `a utf8`,
		"a\n9223372036854775807\n":                    `a int64`,
		"a\n-0\n1\n":                                  `a float64`,
		"a\n1_000\n":                                  `a utf8`,
		"a\n0x10\n":                                   `a utf8`,
		"a\ntrue\nFALSE\n":                            `a bool`,
		"a\ntrue\n1\n":                                `a utf8`,
		"a\n2026-01-31\n":                             `a date32`,
		"a\n2026-01-31\n2026-01-31 12:00:00\n":        `a timestamp[us]`,
		"a\n2026-01-31T12:00:00.123456789\n":          `a timestamp[ns]`,
		"a\n2026-01-31 12:00:00Z\n":                   `a timestamp[us, tz=UTC]`,
		"a\n2026-01-31 12:00:00\n2026-02-30\n":        `a utf8`,
		"a,b\n1,\n,x\n":                               `a int64, b utf8`,
		"a,b\n,\n,\n":                                 `a utf8, b utf8`,
		"\ufeffa;b,\"c\"\"d\"\n1,\"x\ny\"\n":          `a;b int64, c"d utf8`,
		"a\r\n1\r\n":                                  `a int64`,
		"a\n":                                         `a utf8`,
		"a,b\n" + strings.Repeat("1,2\n", 20_000):     `a int64, b int64`,
		"a\n" + strings.Repeat("1\n", 20_000) + "x\n": `a utf8`, // types are inferred from all rows
	} {
		for _, in := range []*Input{fileOf(t, "x.csv", csv), pipeOf(t, "x.csv", csv)} {
			got, err := content(t, in)
			types, rows, _ := strings.Cut(got, ", \n")
			if err != nil || types != want {
				t.Errorf("%.60q: inferred %s, %v, want %s", csv, types, err, want)
			}
			if n := strings.Count(rows, "\n"); strings.Count(csv, "\n") > 20_000 && n != strings.Count(csv, "\n")-1 {
				t.Errorf("%.60q: read %d rows, want one for each line after the header", csv, n)
			}
		}
	}
}

// TestSeparator checks that any single byte may separate the fields of CSV.
func TestSeparator(t *testing.T) {
	for sep, text := range map[string]string{";": "a;b\n1;\"x;y\"\n", "\t": "a\tb\n1\tx;y\n", "": "a,b\n1,x;y\n"} {
		in := fileOf(t, "x.csv", text)
		in.Sep = sep
		if got, err := content(t, in); err != nil || got != "a int64, b utf8, \n{\"a\":1,\"b\":\"x;y\"}\n" {
			t.Errorf("separator %q: read %s, %v, want the fields between the separators", sep, got, err)
		}
	}
	for name, sep := range map[string]string{"x.csv": "ab", "y.csv": "\"", "x.jsonl": ";"} {
		in := fileOf(t, name, "a\n1\n")
		in.Sep = sep
		if _, err := content(t, in); err == nil || !strings.Contains(err.Error(), name+": ") || !strings.Contains(err.Error(), "separator") {
			t.Errorf("%s with separator %q: got %v, want an error about the separator", name, sep, err)
		}
	}
}

func TestTypesOfJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"b":"x"}` + "\n\n" + `{"b":null,"c":true}`:           "a int64, b utf8, c bool, \n" + `{"a":1,"b":"x","c":null}` + "\n" + `{"a":null,"b":null,"c":true}` + "\n",
		`{"a":9223372036854775807}`:                                  "a int64, \n" + `{"a":9223372036854775807}` + "\n",
		`{"a":1}` + "\n" + `{"a":1.5}`:                               "a float64, \n" + `{"a":1}` + "\n" + `{"a":1.5}` + "\n",
		`{"a":[1,null],"o":{"x":"2026-01-31","y":[]}}`:               "a list<item: int64, nullable>, o struct<x: date32 nullable, y: list<item: utf8, nullable> nullable>, \n" + `{"a":[1,null],"o":{"x":"2026-01-31","y":[]}}` + "\n",
		`{"a":"2026-01-31T12:00:00Z"}`:                               "a timestamp[us, tz=UTC], \n" + `{"a":"2026-01-31T12:00:00Z"}` + "\n",
		`{"a":"NaN","b":"-Inf"}` + "\n" + `{"a":1.5,"b":"x"}`:        "a float64, b utf8, \n" + `{"a":"NaN","b":"-Inf"}` + "\n" + `{"a":1.5,"b":"x"}` + "\n",
		strings.Repeat("{\"a\":1234}\n", 20_000) + `{"a":1.5,"b":2}`: "a float64, b int64, \n" + strings.Repeat("{\"a\":1234,\"b\":null}\n", 20_000) + "{\"a\":1.5,\"b\":2}\n",
		`{"a":"007","a b":"é\u0000"}`:                                "a utf8, a b utf8, \n" + `{"a":"007","a b":"é\u0000"}` + "\n",
	} {
		for _, in := range []*Input{fileOf(t, "x.jsonl", text), pipeOf(t, "x.ndjson", text)} {
			if got, err := content(t, in); err != nil || got != want {
				t.Errorf("reading %s:\ngot %s%v, want\n%s", text, got, err, want)
			}
		}
	}
}

func TestErrorPositions(t *testing.T) {
	var manyColumns strings.Builder
	for i := range maxColumns + 1 {
		fmt.Fprintf(&manyColumns, ",\"c%d\":1", i)
	}
	wide := "{" + manyColumns.String()[1:] + "}\n"
	known := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int8}}, nil)
	for _, c := range []struct {
		in   *Input
		want string
	}{
		{fileOf(t, "x.csv", ""), "x.csv: the file is empty"},
		{fileOf(t, "little.csv", "a\x00,\x00b\x00\n\x001\x00,\x002\x00\n\x00"), "little.csv: not plain text: it looks like UTF-16LE"},
		{fileOf(t, "big.tsv", "\x00a\x00\t\x00b\x00\n\x001\x00\t\x002\x00\n"), "big.tsv: not plain text: it looks like UTF-16BE"},
		{fileOf(t, "mark.jsonl", "\xff\xfe\x00\x00{\x00\x00\x00"), "mark.jsonl: not plain text: it looks like UTF-32;"},
		{fileOf(t, "mark.csv", "\xff\xfea\x00\n\x001\x00\n\x00\x00\xdc\n\x00"), "mark.csv, line 3: column \"a\": the text is not valid utf-16le"},
		{fileOf(t, "odd.csv", "\xfe\xff\x00a\x00"), "odd.csv, line 1: name of column 1: the text is not valid utf-16be"},
		{fileOf(t, "wide.jsonl", strings.Repeat("{\x00\x00\x00}\x00\x00\x00", 2)), "wide.jsonl: not plain text: it looks like UTF-32LE"},
		{fileOf(t, "x.csv", strings.ReplaceAll(wide, "\"", "")), "65537 columns: the limit is 65536"},
		{fileOf(t, "x.jsonl", wide), "x.jsonl, line 1: too large: more than 65536 columns"},
		{fileOf(t, "x.csv", "a,a\n"), `x.csv, line 1: column 2 has the name "a"`},
		{fileOf(t, "x.csv", "a,\n"), `x.csv, line 1: column 2 has the name ""`},
		{fileOf(t, "x.csv", "a,b\n1,2\n3\n"), "x.csv, line 3: the record has 1 field, but the header has 2"},
		{fileOf(t, "x.csv", "a\n1\n\"x\n"), "x.csv, line 3: the quoted field that begins here is never closed"},
		{fileOf(t, "x.csv", "a\n\""+strings.Repeat("x", maxRecordSize+1<<20)), "the record is larger than 64 MiB"},
		{&Input{Name: "k.csv", File: fileOf(t, "k.csv", "a\n1\n300\n").File, Format: CSV(), Known: known}, `k.csv, line 3: column "a": "300" is not a valid int8`},
		{fileOf(t, "x.jsonl", "{\"a\":1}\n[1]\n"), "x.jsonl, line 2: each line must be a JSON object"},
		{fileOf(t, "x.jsonl", " {\"a\":1}\t\r\n\v{\"a\":1}\n"), "x.jsonl, line 2: each line must be a JSON object"},
		{fileOf(t, "x.jsonl", "{\"a\":1}\n\n{\"a\":\n"), "x.jsonl, line 3: unexpected end of JSON input"},
		{fileOf(t, "x.jsonl", "{\"a\":1} {}\n"), "x.jsonl, line 1: invalid character '{' after"},
		{fileOf(t, "x.jsonl", "{\"a\":1}\n{\"a\":\"x\"}\n"), `x.jsonl: column "a": up to line 2, the values have several types`},
		{fileOf(t, "x.jsonl", "\n"), "x.jsonl: the file contains no object"},
		{fileOf(t, "x.jsonl", `{"a":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+"}"), "more than 100 levels deep"},
		{fileOf(t, "x.jsonl", `{"a":"`+strings.Repeat("x", maxRecordSize)), "x.jsonl, line 1: too large: the record is larger than 64 MiB"},
		{fileOf(t, "x.parquet", "PAR1, but no more"), "x.parquet: "},
		{fileOf(t, "x.arrow", "ARROW1, but no more"), "x.arrow: "},
		{fileOf(t, "x.feather", "FEA1\x00\x00\x00\x00"), "x.feather: Feather version 1 is not supported"},
		{fileOf(t, "x.arrow", "no arrow"), "x.arrow: cannot read the file as an Arrow file or stream"},
		{pipeOf(t, "x.arrow", "ARROW1\x00\x00 in a pipe"), "x.arrow: cannot read the file as an Arrow file or stream"},
		{&Input{Name: "x", Format: Table()}, "cannot read format"},
	} {
		must.Fail(t, must.Err(content(t, c.in)), c.want, "reading %s", c.in.Name)
	}
	if _, err := Standard().ForOutput("rows.txt"); err == nil || !strings.Contains(err.Error(), "rows.txt: the file name does not indicate the format") {
		t.Errorf("ByExtension of an unknown extension = %v, want an error that names the file", err)
	}
}

var mixed = arrow.NewSchema([]arrow.Field{
	{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	{Name: "z", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
}, nil)

func mixedRows(t testing.TB, rows int) arrow.RecordBatch {
	t.Helper()
	var b strings.Builder
	for i := range rows {
		fmt.Fprintf(&b, `{"i":%d,"f":%d.25,"s":"a \"b\", %d\nc","b":true,"d":"2026-01-31","t":"2026-01-31 12:00:00.%06d","z":"2026-01-31 12:00:00.5Z"},{},`, i, i, i, i+1)
	}
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, mixed, strings.NewReader("["+strings.TrimSuffix(b.String(), ",")+"]"))
	must.Do(t, err)
	return batch
}

// encode returns a file or stream with the given batches.
func encode(t testing.TB, format *Format, stream bool, columns *arrow.Schema, batches ...arrow.RecordBatch) string {
	t.Helper()
	var b bytes.Buffer
	w := must.Get(format.Write(&b, columns, WriteOptions{Stream: stream}))(t)
	for _, batch := range batches {
		must.Do(t, w.Write(batch))
	}
	must.Do(t, w.Close())
	return b.String()
}

// TestRoundTrip checks that each format keeps rows, in files, streams and pipes, and that Count gets the bytes that are
// read.
func TestRoundTrip(t *testing.T) {
	batch, want := mixedRows(t, 100), ""
	for _, f := range mixed.Fields() {
		want += fmt.Sprintf("%s %s, ", f.Name, f.Type)
	}
	want += "\n" + encode(t, JSONL(), false, mixed, batch, batch)
	for _, c := range []struct {
		name   string
		format *Format
		stream bool
	}{{"x.csv", CSV(), false}, {"x.jsonl", JSONL(), false}, {"x.parquet", Parquet(), false}, {"x.arrow", Arrow(), false}, {"x.arrows", Arrow(), true}} {
		text := encode(t, c.format, c.stream, mixed, batch, batch)
		for i, in := range []*Input{fileOf(t, c.name, text), pipeOf(t, c.name, text)} {
			counted := 0
			in.Count = func(n int) { counted += n }
			got, err := content(t, in)
			if err != nil || got != want || counted == 0 && (i == 1 || c.format.Name == "csv" || c.format.Name == "jsonl") {
				t.Errorf("%s, pipe %d: read %.200s… and counted %d bytes, %v, want %.200s…", c.name, i, got, counted, err, want)
			}
		}
	}
}

// TestDamagedFiles checks that reading a damaged file returns rows or an error, and never panics.
func TestDamagedFiles(t *testing.T) {
	batch := mixedRows(t, 20)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 3))
	for name, format := range map[string]*Format{"x.parquet": Parquet(), "x.csv": CSV(), "x.jsonl": JSONL(), "x.arrow": Arrow()} {
		undamaged := []byte(encode(t, format, random.IntN(2) == 0, mixed, batch))
		path := filepath.Join(t.TempDir(), name)
		for range 200 {
			damaged := bytes.Clone(undamaged)
			damaged = damaged[:len(damaged)-random.IntN(2)*random.IntN(len(damaged))]
			for range random.IntN(4) {
				damaged[random.IntN(len(damaged))] = byte(random.Uint32())
			}
			must.Do(t, os.WriteFile(path, damaged, 0o666))
			f := must.Get(os.Open(path))(t)
			func() {
				defer func() {
					if p := recover(); p != nil {
						t.Errorf("seed %d: reading a damaged %s panicked: %v", seed, name, p)
					}
				}()
				_, _ = content(t, &Input{Name: name, File: f, Format: format})
			}()
			_ = f.Close()
		}
	}
}

// TestParquetWithFalseSchema checks that a Parquet file is refused if the schema that Arrow's writers
// add to it claims far too many columns.
func TestParquetWithFalseSchema(t *testing.T) {
	undamaged := encode(t, Parquet(), false, mixed, mixedRows(t, 1))
	f := must.Get(file.NewParquetReader(strings.NewReader(undamaged)))(t)
	encodedSchema := *f.MetaData().KeyValueMetadata().FindValue("ARROW:schema")
	message := must.Get(base64.StdEncoding.DecodeString(encodedSchema))(t)
	matches := 0
	for offset := 0; offset < len(message)-4; offset += 4 {
		if binary.LittleEndian.Uint32(message[offset:]) != uint32(mixed.NumFields()) {
			continue
		}
		matches++
		forged := bytes.Clone(message)
		binary.LittleEndian.PutUint32(forged[offset:], 1<<30)
		text := strings.Replace(undamaged, encodedSchema, base64.StdEncoding.EncodeToString(forged), 1)
		if _, err := content(t, fileOf(t, "x.parquet", text)); err == nil {
			t.Errorf("a schema that claims 2^30 columns at byte %d was accepted", offset)
		}
	}
	if matches == 0 {
		t.Error("the encoded schema does not contain the column count, so nothing was tested")
	}
}

func TestTable(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"name":"ab\u001b[31m\n","n":5},{"name":null,"n":-123},{"name":"`+strings.Repeat("é", 50)+`"}]`))
	must.Do(t, err)
	got := encode(t, Table(), true, schema, batch) + encode(t, Table(), true, schema)
	wide := strings.Repeat("é", 39) + "…"
	want := "name" + strings.Repeat(" ", 38) + "n\nab·[31m·" + strings.Repeat(" ", 34) + "5\n∅" + strings.Repeat(" ", 41) + "-123\n" + wide + "  ∅\nname  n\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTruncatedArrow checks that a truncated file is refused, even if it was cut between two batches,
// and that a false length is refused before memory is allocated for it.
func TestTruncatedArrow(t *testing.T) {
	batch := mixedRows(t, 20)
	var b bytes.Buffer
	w := must.Get(Arrow().Write(&b, mixed, WriteOptions{}))(t)
	batchEnds := []int{}
	for range 2 {
		must.Do(t, w.Write(batch))
		batchEnds = append(batchEnds, b.Len())
	}
	must.Do(t, w.Close())
	for _, end := range batchEnds {
		if _, err := content(t, fileOf(t, "x.arrow", b.String()[:end])); err == nil {
			t.Errorf("a file cut to %d of %d bytes was accepted", end, b.Len())
		}
	}
	forged := append([]byte{0xff, 0xff, 0xff, 0xff, 0xf8, 0xff, 0xff, 0x7f}, make([]byte, 100)...)
	var err error
	allocated := procs.Allocated(func() { _, err = content(t, fileOf(t, "x.arrows", string(forged))) })
	if err == nil || allocated > 100<<20 {
		t.Errorf("a schema of 2 GiB is claimed: error %v after %d allocated bytes, want at most 100 MiB", err, allocated)
	}
}

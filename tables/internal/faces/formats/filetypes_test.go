package formats

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// valuesOfFiles are the texts that a column of one file can have.
var valuesOfFiles = [][]string{
	{""}, {"1", "-2", "9007199254740993"}, {"1", "2.5"}, {"x", "01"}, {"true", "false"}, {"2026-01-31"}, {"2026-01-31 10:00:00.123456789"}, {"2026-01-31T10:00:00Z"}, {"", "7"}, {"NaN"},
}

// jsonOfFiles is valuesOfFiles for JSON lines, without pairs that no column can have.
var jsonOfFiles = [][]string{
	{"null"}, {"1", "-2"}, {"1", "2.5"}, {`{"a":1}`}, {`{"b":"x","a":null}`}, {"[]", "[null]"}, {`["y"]`}, {"true"}, {`"t"`}, {"12345678901234567890"},
}

// randomFiles returns the text of a file, and the texts of files that together have the same rows in the same order.
func randomFiles(r *rand.Rand, format *Format) (whole string, parts []string) {
	columns := []string{"a", "b", "c"}[:1+r.IntN(3)]
	separator := map[string]string{"csv": ",", "tsv": "\t"}[format.Name]
	values := valuesOfFiles
	if format.Name == "jsonl" {
		values = jsonOfFiles
	}
	// line returns a line of the given columns.
	line := func(order []int, row []string) string {
		fields := make([]string, len(order))
		for i, c := range order {
			if fields[i] = row[c]; format.Name == "jsonl" {
				fields[i] = fmt.Sprintf("%q:%s", columns[c], row[c])
			}
		}
		if format.Name == "jsonl" {
			return "{" + strings.Join(fields, ",") + "}\n"
		}
		return strings.Join(fields, separator) + "\n"
	}
	inOrder := []int{0, 1, 2}[:len(columns)]
	if format.Name != "jsonl" {
		whole = line(inOrder, columns)
	}
	for range 2 + r.IntN(4) {
		order, part := r.Perm(len(columns)), ""
		if format.Name != "jsonl" {
			part = line(order, columns)
		}
		choices := make([][]string, len(columns))
		for c := range choices {
			choices[c] = values[r.IntN(len(values))]
		}
		for range r.IntN(4) {
			row := make([]string, len(columns))
			for c := range row {
				row[c] = choices[c][r.IntN(len(choices[c]))]
			}
			if len(row) == 1 && row[0] == "" {
				continue // an empty line is no record
			}
			whole += line(inOrder, row)
			part += line(order, row)
		}
		parts = append(parts, part)
	}
	return whole, parts
}

// rowsOf returns the types and the rows of files as text.
func rowsOf(ctx context.Context, format *Format, files []string) (columns, rows string, err error) {
	r, err := ReadFiles(ctx, files, func(name string) (*Input, error) {
		in := &Input{Name: name, Format: format}
		if in.File, err = os.Open(name); err == nil && format == nil {
			in.Format, err = Standard().ForInput(name)
		}
		return in, err
	})
	if err != nil {
		return "", "", err
	}
	defer r.Release()
	var names []string
	for _, f := range r.Schema().Fields() {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	for _, name := range names {
		columns += fmt.Sprintf("%s %s;", name, r.Schema().Field(r.Schema().FieldIndices(name)[0]).Type)
	}
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			for _, name := range names {
				column := r.RecordBatch().Column(r.Schema().FieldIndices(name)[0])
				text, err := json.Marshal(column.GetOneForMarshal(i))
				if err != nil { // NaN
					text = []byte(column.ValueStr(i))
				}
				rows += string(text) + "|"
			}
			rows += "\n"
		}
	}
	return columns, rows, r.Err()
}

// TestTypesOfFiles checks that several text files have the types and rows that a single file with their rows has, and
// that an error in one case is an error in the other. PARTD_FILES is the number of cases.
func TestTypesOfFiles(t *testing.T) {
	cases, r, dir := procs.Number(t, "PARTD_FILES", 300), procs.Rand(t), t.TempDir()
	failures := 0
	for range cases {
		format := []*Format{CSV(), TSV(), JSONL(), JSONL()}[r.IntN(4)]
		whole, parts := randomFiles(r, format)
		write := func(name, text string) string {
			path := filepath.Join(dir, name)
			must.Do(t, os.WriteFile(path, []byte(text), 0o600))
			return path
		}
		wantColumns, wantRows, wantErr := rowsOf(t.Context(), format, []string{write("whole", whole)})
		var files []string
		for i, part := range parts {
			files = append(files, write(fmt.Sprint(i), part))
		}
		columns, rows, err := rowsOf(t.Context(), format, files)
		if (err == nil) != (wantErr == nil) || columns != wantColumns || rows != wantRows {
			t.Fatalf("%s files %q: %s\n%s%v, want %s\n%s%v", format, parts, columns, rows, err, wantColumns, wantRows, wantErr)
		}
		if err != nil {
			failures++
		}
	}
	if failures > cases/2 {
		t.Errorf("%d of %d cases are errors", failures, cases)
	}
}

// TestFilesThatDiffer checks the errors about several files, and that text gets the types of a Parquet or Arrow file.
func TestFilesThatDiffer(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"n.csv": "n,v\n1,a\n", "x.csv": "n,v\nx,b\n", "m.csv": "n\n2\n", "n.jsonl": `{"n":1}`, "o.jsonl": `{"n":"x"}`, "none.jsonl": "\n", "p.jsonl": `{"n":2,"v":"c"}`,
	} {
		must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	float := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}, {Name: "n", Type: arrow.PrimitiveTypes.Float64}}, nil)
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, float, strings.NewReader(`[{"v":"f","n":2.5}]`))
	must.Do(t, err)
	defer b.Release()
	writeRows(t, filepath.Join(dir, "f.arrows"), b)
	for _, c := range []struct{ files, want string }{
		{"n.csv x.csv", `n utf8;v utf8; "1"|"a"|,"x"|"b"|`},
		{"n.csv m.csv", `m.csv: the columns differ from those of n.csv: there is no column "v"`},
		{"m.csv n.csv", `n.csv: the columns differ from those of m.csv: there is another column "v"`},
		{"n.jsonl o.jsonl", `o.jsonl, after the files before it: column "n": up to line 1, the values have several types`},
		{"none.jsonl n.jsonl", `n int64; 1|`},
		{"n.jsonl none.jsonl", `n int64; 1|`},
		{"none.jsonl none.jsonl", `none.jsonl: the file contains no object with a column`},
		{"n.csv f.arrows", `n float64;v utf8; 1|"a"|,2.5|"f"|`},
		{"f.arrows n.csv p.jsonl", `n float64;v utf8; 2.5|"f"|,1|"a"|,2|"c"|`},
		{"x.csv f.arrows", `x.csv, line 2: column "n": "x" is not a valid float64`},
	} {
		files := strings.Fields(c.files)
		for i, name := range files {
			files[i] = filepath.Join(dir, name)
		}
		columns, rows, err := rowsOf(t.Context(), nil, files)
		got := columns + " " + strings.ReplaceAll(strings.TrimSuffix(rows, "\n"), "\n", ",")
		if err != nil {
			got = strings.ReplaceAll(err.Error(), dir+"/", "")
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: got %s, want %s", c.files, got, c.want)
		}
	}
}

// TestPipes checks that pipes, which can be read only once, also get the types of all files.
func TestPipes(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i, text := range []string{"n\n", "n\n10\n9\n"} {
		path := filepath.Join(dir, fmt.Sprint(i, ".csv"))
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Skip(err)
		}
		go func() { _ = os.WriteFile(path, []byte(text), 0o600) }()
		files = append(files, path)
	}
	_, rows, err := rowsOf(t.Context(), nil, files)
	if err != nil || rows != "10|\n9|\n" {
		t.Errorf("got %q, %v; want integers", rows, err)
	}
}

// TestReadFiles checks that the rows of files whose programs store texts and lists differently get the types of the
// first file, and that other differences are errors that name the column.
func TestReadFiles(t *testing.T) {
	text, large := arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString
	items := func(t arrow.DataType) arrow.DataType {
		return arrow.StructOf(arrow.Field{Name: "name", Type: t, Nullable: true})
	}
	shared := arrow.NewSchema([]arrow.Field{{Name: "t", Type: text}, {Name: "l", Type: arrow.ListOf(items(text))}}, nil)
	for _, c := range []struct {
		t, l  arrow.DataType
		error string
	}{
		{text, arrow.ListOf(items(text)), ""},
		{large, arrow.LargeListOf(items(large)), ""},
		{arrow.BinaryTypes.StringView, arrow.ListOf(items(arrow.BinaryTypes.StringView)), ""},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: text}, arrow.LargeListOf(items(text)), ""},
		{arrow.PrimitiveTypes.Int64, arrow.ListOf(items(text)), `column "t" is int64, not utf8`},
		{text, text, `column "l" is utf8, not list<`},
	} {
		var files []string
		dir := t.TempDir()
		for i, columns := range []*arrow.Schema{shared, arrow.NewSchema([]arrow.Field{{Name: "l", Type: c.l}, {Name: "t", Type: c.t}}, nil)} {
			files = append(files, filepath.Join(dir, fmt.Sprint(i, ".arrows")))
			value := `[{"name":"x"},{"name":null}]`
			if c.l == text && i == 1 {
				value = `"x"`
			}
			b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(`[{"t":"1","l":`+value+`}]`))
			must.Do(t, err)
			writeRows(t, files[i], b)
			b.Release()
		}
		r := must.Get(ReadFiles(t.Context(), files, func(name string) (*Input, error) {
			f, err := os.Open(name)
			return &Input{Name: name, File: f, Format: Arrow()}, err
		}))(t)
		rows := 0
		for r.Next() {
			b := r.RecordBatch()
			rows += int(b.NumRows())
			if got := b.Column(0).ValueStr(0) + b.Column(1).ValueStr(0); !b.Schema().Equal(shared) || got != `1[{"name":"x"},{"name":null}]` {
				t.Errorf("%s, %s: the row is %s with %s", c.t, c.l, got, b.Schema())
			}
		}
		if err := r.Err(); c.error == "" && (err != nil || rows != 2) || c.error != "" && (err == nil || !strings.Contains(err.Error(), c.error)) {
			t.Errorf("%s, %s: %d rows, error %v, want %q", c.t, c.l, rows, err, c.error)
		}
		r.Release()
	}
}

func writeRows(t *testing.T, file string, b arrow.RecordBatch) {
	t.Helper()
	f := must.Get(os.Create(file))(t)
	w := must.Get(Arrow().Write(f, b.Schema(), WriteOptions{Stream: true}))(t)
	must.Do(t, w.Write(b))
	must.Do(t, w.Close())
	must.Do(t, f.Close())
}

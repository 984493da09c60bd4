package formats

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestFilesOfOtherPrograms checks that names and contents mean the same as in the command partd: tab-separated and
// compressed files, and byte order marks. It also checks JSON arrays.
func TestFilesOfOtherPrograms(t *testing.T) {
	const bom = "\ufeff"
	gz := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	const rows = `{"a":1,"b":"x"}` + "\n" + `{"a":2,"b":"y"}` + "\n"
	many := strings.Repeat(`{"a":1,"b":"[x\"]"},`+"\n", 50_000)
	for _, c := range []struct{ name, text, want string }{
		{"x.tsv", "a\tb\n1\tx\n2\ty\n", rows},
		{"x.TAB", bom + "a\tb\n1\tx\n2\ty\n", rows},
		{"x.tsv", "a\tb\n1\t\"x\"\n2\t\"\n", `{"a":1,"b":"\"x\""}` + "\n" + `{"a":2,"b":"\""}` + "\n"},
		{"x.tsv", "a\n\n\"\n", `{"a":null}` + "\n" + `{"a":"\""}` + "\n"},
		{"x.csv.gz", gz("a,b\n1,x\n2,y\n"), rows},
		{"x.csv", gz(bom+"a,b\n1,x\n") + gz("2,y\n"), rows},
		{"x.tsv.GZ", gz("a\tb\n1\tx\n2\ty\n"), rows},
		{"x.ndjson.gz", gz(rows), rows},
		{"x.jsonl", bom + rows, rows},
		{"x.json", bom + rows, rows},
		{"x.json", "[" + strings.ReplaceAll(strings.TrimSpace(rows), "\n", ",") + "]", rows},
		{"x.json.gz", gz(bom + " [\r\n {\"a\": 1,\n\"b\": \"x\"} ,\n{\"a\":2,\"b\":\"y\"}\n]\n"), rows},
		{"x.jsonl", `[{"a":{"b":["],[","z"]}},{"a":null}]`, ""},
		{"x.json", "[" + many + `{"a":2,"b":"y"}]`, strings.ReplaceAll(many, "},\n", "}\n") + `{"a":2,"b":"y"}` + "\n"},
	} {
		for _, in := range []*Input{fileOf(t, c.name, c.text), pipeOf(t, c.name, c.text)} {
			got, err := content(t, in)
			if _, got, _ := strings.Cut(got, "\n"); err != nil || got != c.want && c.want != "" {
				t.Errorf("%s with %.60q: read %.200s, %v, want %.200s", c.name, c.text, got, err, c.want)
			}
		}
	}
	for text, want := range map[string]string{
		`[{"a":1},{"a":2}`:   "not closed",
		`[{"a":1}{"a":2}]`:   "line 1: invalid character '{'",
		`[{"a":1},]`:         "not closed",
		`[,{"a":1}]`:         "line 1: each line must be",
		`[{"a":1},,{"a":1}]`: "line 2: each line must be",
		`[{"a":1}]{"a":2}`:   "line 2: each line must be",
		`[{"a":1}]]`:         "line 2: each line must be",
		`[{"a":1]}`:          "not closed",
		`[1,2]`:              "line 1: each line must be",
		"[{\"a\":\"\n\"}]":   "line 1: ",
		`[]`:                 "no object",
	} {
		if got, err := content(t, fileOf(t, "x.json", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: read %s, %v, want an error with %s", text, got, err, want)
		}
	}
}

// TestWritersQuoteAlike checks that both programs write the same CSV, and that each reads what the other has written. partd
// takes an empty field for a missing value, so it writes empty texts without quotes.
func TestWritersQuoteAlike(t *testing.T) {
	pieces := []string{"", "x", " ", "\t", ",", ";", "\"", "'", "\r", "\n", `\.`, "NA", "null", "\ufeff", "é", "\x00", "007", strings.Repeat("long", 5)}
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 300 {
		names := []string{"\ufeffa", " b,", "c"}[:1+r.IntN(3)]
		var fields []arrow.Field
		for _, name := range names {
			fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true})
		}
		columns := arrow.NewSchema(fields, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		rootRows := must.Get(output.NewRows(records.Layout{Format: records.CSV}, names))(t)
		ofRoot := must.Get(rootRows.AppendHeader(nil))(t)
		var want [][]string
		for range 30 {
			var row []output.Value
			var texts []string
			for i := range names {
				text := cmp.Or(pieces[r.IntN(len(pieces))]+pieces[r.IntN(len(pieces))]+pieces[r.IntN(len(pieces))], "x")
				builder := b.Field(i).(*array.StringBuilder)
				if len(names) > 1 && r.IntN(8) == 0 {
					builder.AppendNull()
					text = ""
				} else {
					builder.Append(text)
				}
				row, texts = append(row, output.Value{Text: []byte(text), Missing: text == ""}), append(texts, text)
			}
			ofRoot = must.Get(rootRows.Append(ofRoot, row))(t)
			want = append(want, texts)
		}
		batch := b.NewRecordBatch()
		var out bytes.Buffer
		w := must.Get(CSV().Write(&out, columns, WriteOptions{}))(t)
		must.Do(t, w.Write(batch))
		if !bytes.Equal(out.Bytes(), ofRoot) {
			t.Fatalf("round %d: partd-tables writes\n%q, partd\n%q", round, out.Bytes(), ofRoot)
		}
		in := fileOf(t, "x.csv", out.String())
		in.Known = columns
		reader := must.Get(in.Read(t.Context()))(t)
		if !reader.Next() || !array.RecordEqual(reader.RecordBatch(), batch) {
			t.Fatalf("round %d: partd-tables reads %v, %v, want %v", round, reader.RecordBatch(), reader.Err(), batch)
		}
		reader.Release()
		splitter := records.NewFieldSplitter(records.Layout{Format: records.CSV}, names)
		splitter.Begin()
		splitter.Feed(ofRoot, true)
		if kind := splitter.Next(); kind != records.Header || !slices.Equal(splitter.Columns, names) {
			t.Fatalf("round %d: partd reads the columns %q, want %q", round, splitter.Columns, names)
		}
		for _, texts := range want {
			if kind := splitter.Next(); kind != records.Data || string(bytes.Join(splitter.Values, []byte("|"))) != strings.Join(texts, "|") {
				t.Fatalf("round %d: partd reads %q, want %q", round, splitter.Values, texts)
			}
		}
	}
}

package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// toyFormat returns a format of lines with the texts of a single column v.
func toyFormat() *formats.Format {
	columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	return &formats.Format{
		Name: "toy", Extensions: []string{".toy"}, IsLines: true,
		Read: func(_ context.Context, in *formats.Input) (array.RecordReader, error) {
			content, err := io.ReadAll(in.File)
			if err != nil {
				return nil, err
			}
			b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
			defer b.Release()
			for line := range strings.Lines(string(content)) {
				b.Field(0).(*array.StringBuilder).Append(strings.TrimSpace(line))
			}
			return batches.Reader(columns, batches.From(b.NewRecordBatch()), func() {}), nil
		},
		Write: func(w io.Writer, _ *arrow.Schema, _ formats.WriteOptions) (formats.Writer, error) {
			return toyWriter{w}, nil
		},
	}
}

type toyWriter struct{ io.Writer }

func (w toyWriter) Write(b arrow.RecordBatch) error {
	for i := range int(b.NumRows()) {
		if _, err := fmt.Fprintln(w.Writer, b.Column(0).ValueStr(i)); err != nil {
			return err
		}
	}
	return nil
}

func (toyWriter) Close() error { return nil }

// TestAnotherFormat checks that a format in the app's set needs no other place: all commands that read or write files
// know its name and its extension, and list it in their help and in completions.
func TestAnotherFormat(t *testing.T) {
	dir := t.TempDir()
	toy := toyFormat()
	set := append(formats.Standard(), toy)
	run := func(want string, args ...string) {
		t.Helper()
		var out, stderr bytes.Buffer
		code := runCommand(t.Context(), args, &app{in: must.Get(os.Open(os.DevNull))(t), out: &out, errOut: &stderr, formats: set})
		if got := fmt.Sprint(code, " ", out.String(), stderr.String()); !strings.HasPrefix(got, want) {
			t.Errorf("%q: exit code and output are %q, want %q", args, got, want)
		}
	}
	wantFile := func(want, name string) {
		t.Helper()
		if got := string(must.Get(os.ReadFile(filepath.Join(dir, name)))(t)); got != want {
			t.Errorf("%s contains %q, want %q", name, got, want)
		}
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	must.Do(t, os.WriteFile(path("in.csv"), []byte("v\nb\na\n"), 0o666))
	must.Do(t, os.WriteFile(path("in.toy"), []byte("b\na\n"), 0o666))

	t.Setenv("PARTD_TABLES_DIR", path("tables"))
	run("0 t: 2 rows put, version 1\n", "put", "t", path("in.toy"))
	run("0 b\na\n", "get", "t", "--format", "toy")
	run("0 v\nb\na\n", "convert", path("in.toy"), "--to-format", "csv")
	run("0 ", "convert", path("in.csv"), "-o", path("out.toy"))
	wantFile("b\na\n", "out.toy")
	run("0 a\nb\n", "sort", "--by", "v", "--from", "toy", "--to-format", "toy", path("in.toy"))
	run("0 2 rows read", "split", "--by", "v", "--to-format", "toy", "-o", path("parts"), path("in.csv"))
	run("0 2 rows read", "split", "--by", "v", "--to-format", "toy", "-o", path("parts"), "--append", path("in.csv"))
	wantFile("a\na\n", "parts/a.toy")
	run("0 ", "each", "--by", "v", "--parts", "1", "--to-format", "toy", "-o", path("each")+"/", "r="+path("in.toy"))
	wantFile("b\na\n", "each/part-00001/r.toy")

	run(`2 partd-tables: --format "xml": use csv, jsonl, parquet, arrow, table or toy`, "get", "t", "--format", "xml")
	run(`2 partd-tables: --from "xml": use csv, tsv, jsonl, parquet, arrow or toy`, "convert", path("in.csv"), "--from", "xml")
	run(`2 partd-tables: --null does not apply to the format toy`, "get", "t", "--format", "toy", "--null", "NA")
	run("1 partd-tables: "+path("in.toy")+": separator does not apply to the format toy", "put", "u", path("in.toy"), "--sep", ";")
	toy.Read = nil
	run("1 partd-tables: cannot append to files of format toy, because they cannot be read", "split", "--by", "v", "--to-format", "toy", "-o", path("parts"), "--append", path("in.csv"))
	run("2 partd-tables: "+path("in.toy")+": the file name does not indicate the format: use --from with csv, tsv, jsonl, parquet or arrow\n", "convert", path("in.toy"))
}

// TestHelpListsFormats checks that the flags of all commands that name formats have the formats of the app's set in
// their help and in completions.
func TestHelpListsFormats(t *testing.T) {
	flags := 0
	for _, cmd := range newRoot(&app{formats: append(formats.Standard(), toyFormat())}).Commands() {
		for _, name := range []string{"format", "to-format", "from"} {
			f := cmd.Flags().Lookup(name)
			if f == nil || f.Hidden || !strings.Contains(f.Usage, "FORMAT") {
				continue
			}
			flags++
			complete, ok := cmd.GetFlagCompletionFunc(name)
			var values []cobra.Completion
			if ok {
				values, _ = complete(cmd, nil, "")
			}
			if !strings.Contains(f.Usage, " or toy") || !strings.Contains(strings.Join(values, " "), " toy") {
				t.Errorf("%s --%s has the usage %q and the completions %q, want the format toy in both", cmd.Name(), name, f.Usage, values)
			}
		}
	}
	if flags < 10 {
		t.Errorf("only %d flags name formats", flags)
	}
	if help := newPut(&app{}).Long; !strings.Contains(help, "FILE is csv, tsv, jsonl, parquet or arrow") {
		t.Errorf("the help of put does not list the standard formats: %s", help)
	}
}

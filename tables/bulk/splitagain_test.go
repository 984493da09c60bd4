package bulk_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/bulk"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func splitRows(t *testing.T, o bulk.SplitOptions) (bulk.SplitResult, error) {
	t.Helper()
	columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.BinaryTypes.String}, {Name: "v", Type: arrow.PrimitiveTypes.Int64}}, nil)
	rows := tabletest.ParseRows(t, columns, `[{"k":"a","v":1},{"k":"b","v":2}]`)
	r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{rows}))(t)
	o.By = []string{"k"}
	return bulk.Split(t.Context(), r, &o)
}

// TestSplitAfterStop checks runs after one that was killed while it moved its files: Append must not add the rows twice.
func TestSplitAfterStop(t *testing.T) {
	for _, isReplace := range []bool{false, true} {
		dir := t.TempDir()
		commit := filepath.Join(dir, ".partd~commit")
		must.Do(t, errors.Join(os.MkdirAll(filepath.Join(commit, "files"), 0o777), os.WriteFile(filepath.Join(commit, "removed"), []byte("[]"), 0o666)))
		result, err := splitRows(t, bulk.SplitOptions{Dir: dir, Append: !isReplace, Replace: isReplace})
		if isReplace && (err != nil || !result.Finished || result.Rows != 2) || !isReplace && (err == nil || !strings.Contains(err.Error(), "run again only to add these rows once more")) {
			t.Errorf("replace %t: %+v, %v", isReplace, result, err)
		}
		if result, err := splitRows(t, bulk.SplitOptions{Dir: dir, Append: true}); err != nil || result.Finished || result.Files != 2 {
			t.Errorf("second run: %+v, %v", result, err)
		}
	}
}

// TestSplitIntoLink checks that a link in place of a directory is an error before any file is moved.
func TestSplitIntoLink(t *testing.T) {
	dir := t.TempDir()
	must.Do(t, os.Symlink(t.TempDir(), filepath.Join(dir, "k=b")))
	_, err := splitRows(t, bulk.SplitOptions{Dir: dir, Hive: true, Append: true})
	must.Fail(t, err, "k=b is not a directory", "a split into a directory with a link k=b")
	if got := files(t, dir); slices.Contains(got, "k=a/data.parquet") {
		t.Errorf("the directory has %q, want no new files", got)
	}
}

// TestSplitAppendsText checks that rows of an earlier run keep their text, even if another type is inferred for a column of
// this run.
func TestSplitAppendsText(t *testing.T) {
	for format, want := range map[string]string{
		"csv":   "k,v\na,007\na,1.50\na,7\n",
		"jsonl": "{\"k\":\"a\",\"v\":\"007\"}\n{\"k\":\"a\",\"v\":\"1.50\"}\n{\"k\":\"a\",\"v\":7}\n",
	} {
		dir := t.TempDir()
		for _, rows := range []struct {
			v    arrow.DataType
			json string
		}{{arrow.BinaryTypes.String, `[{"k":"a","v":"007"},{"k":"a","v":"1.50"}]`}, {arrow.PrimitiveTypes.Int64, `[{"k":"a","v":7}]`}} {
			columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.BinaryTypes.String}, {Name: "v", Type: rows.v}}, nil)
			r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{tabletest.ParseRows(t, columns, rows.json)}))(t)
			must.Get(bulk.Split(t.Context(), r, &bulk.SplitOptions{By: []string{"k"}, Dir: dir, Format: format, Append: true}))(t)
		}
		text, err := os.ReadFile(filepath.Join(dir, "a."+format))
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v; want %q", format, text, err, want)
		}
	}
}

// TestSplitReplacesOtherColumns checks that files of a run with other key columns are replaced, too.
func TestSplitReplacesOtherColumns(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "year=2024", "month=1", "data.parquet")
	must.Do(t, errors.Join(os.MkdirAll(filepath.Dir(old), 0o777), os.WriteFile(old, nil, 0o666)))
	if _, err := splitRows(t, bulk.SplitOptions{Dir: dir, Hive: true, Force: true}); !errors.Is(err, bulk.ErrOtherKeys) {
		t.Errorf("with Force: %v, want ErrOtherKeys", err)
	}
	must.Get(splitRows(t, bulk.SplitOptions{Dir: dir, Hive: true, Replace: true}))(t)
	if _, err := os.Stat(old); err == nil {
		t.Error("a file of other keys is left")
	}
}

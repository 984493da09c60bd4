// Package tablestest helps to test code that uses tables: it opens a store for one test,
// puts rows written as JSON and compares the rows of a table with the expected ones.
//
//	s := tablestest.Open(t, nil)
//	tablestest.Put(t, s.Bucket(""), "trades", columns, `[{"sym":"A","price":1.5}]`)
//	report(s)
//	tablestest.Expect(t, s.Bucket(""), "report", `[{"sym":"A","sum":1.5}]`)
//
// A function that fails ends the test.
package tablestest

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
)

// Open opens a store in a temporary directory. At the end of the test, the store is closed and removed.
func Open(t testing.TB, o *tables.Options) *tables.Store {
	t.Helper()
	s, err := tables.Open(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Put appends rows to a table. It creates the table if it does not exist. rows is a JSON array of objects, in the
// format of arrow-go's array.RecordFromJSON. A column missing from an object is null. columns has the columns of
// rows; nil means the columns of the existing table.
func Put(t testing.TB, b *tables.Bucket, name string, columns *arrow.Schema, rows string) tables.Version {
	t.Helper()
	if columns == nil {
		var err error
		columns, err = b.Table(name).Schema(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	batch := fromJSON(t, columns, rows)
	defer batch.Release()
	r, err := array.NewRecordReader(columns, []arrow.RecordBatch{batch})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	v, err := b.Table(name).Put(t.Context(), r, tables.PutAppend, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Expect fails the test unless a table has exactly the given rows, in any order. rows has the same format as in Put.
func Expect(t testing.TB, b *tables.Bucket, name, rows string) {
	t.Helper()
	r, err := b.Table(name).Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var got []string
	for r.Next() {
		got = append(got, lines(t, r.RecordBatch())...)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	wanted := fromJSON(t, r.Schema(), rows)
	defer wanted.Release()
	var missing []string
	for _, line := range lines(t, wanted) {
		if index := slices.Index(got, line); index >= 0 {
			got = slices.Delete(got, index, index+1)
		} else {
			missing = append(missing, line)
		}
	}
	if len(missing)+len(got) > 0 {
		t.Fatalf("table %q has %d missing (-) and %d unexpected (+) rows:\n%s", name, len(missing), len(got),
			strings.Join(slices.Concat(withSign("- ", missing), withSign("+ ", got)), "\n"))
	}
}

func fromJSON(t testing.TB, columns *arrow.Schema, rows string) arrow.RecordBatch {
	t.Helper()
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(rows))
	if err != nil {
		t.Fatalf("rows %s: %v", rows, err)
	}
	return batch
}

// lines returns the rows as JSON, one string per row. Equal rows have equal strings.
func lines(t testing.TB, batch arrow.RecordBatch) []string {
	t.Helper()
	if batch.NumRows() == 0 {
		return nil
	}
	var text bytes.Buffer
	if err := array.RecordToJSON(batch, &text); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
}

func withSign(sign string, lines []string) (all []string) {
	for _, l := range lines {
		all = append(all, sign+l)
	}
	return all
}

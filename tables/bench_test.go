package tables

import (
	"fmt"
	"testing"
)

// BenchmarkAppendRow appends one row, acknowledged, to the tail or as a commit.
func BenchmarkAppendRow(b *testing.B) {
	for name, o := range map[string]*Options{"tail": {}, "sync": {Sync: true}, "commit": {NoTail: true}} {
		b.Run(name, func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), o)
			t := s.Bucket("")
			mustPut(b, t, "a", Append, 1)
			r := rowsOf(1)
			r.Next()
			batch := r.RecordBatch()
			b.ResetTimer()
			for b.Loop() {
				if _, err := t.Put(b.Context(), "a", oneBatch(batch), Append, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendTables appends one row to each of many tables.
func BenchmarkAppendTables(b *testing.B) {
	s := mustOpen(b, b.TempDir(), &Options{FoldAge: -1})
	t := s.Bucket("")
	const tables = 1000
	for i := range tables {
		mustPut(b, t, fmt.Sprint(i), Append, 1)
	}
	b.ResetTimer()
	n := 0
	for b.Loop() {
		mustPut(b, t, fmt.Sprint(n%tables), Append, 2)
		n++
	}
}

// BenchmarkMakeTable appends one row to a table that is not there.
func BenchmarkMakeTable(b *testing.B) {
	s := mustOpen(b, b.TempDir(), &Options{FoldAge: -1})
	n := 0
	for b.Loop() {
		mustPut(b, s.Bucket(""), fmt.Sprint(n), Append, 1)
		n++
	}
}

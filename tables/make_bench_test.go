package tables

import (
	"fmt"
	"testing"
)

// BenchmarkMakeTable appends one row to a table that is not there.
func BenchmarkMakeTable(b *testing.B) {
	s := mustOpen(b, b.TempDir(), &Options{FoldAge: -1})
	n := 0
	for b.Loop() {
		mustPut(b, s.Bucket(""), fmt.Sprint(n), Append, 1)
		n++
	}
}

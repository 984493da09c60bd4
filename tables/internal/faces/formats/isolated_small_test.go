//go:build unix

package formats

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// TestSmallFilesInProcess checks that small files are read without a separate process, unless they need much memory.
func TestSmallFilesInProcess(t *testing.T) {
	arrowFile := func(rows int) string {
		columns := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.Null, Nullable: true}}, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		b.Field(0).(*array.Int64Builder).AppendValues(make([]int64, rows), nil)
		b.Field(1).AppendNulls(rows)
		var out bytes.Buffer
		w := ipc.NewWriter(&out, ipc.WithSchema(columns), ipc.WithZstd())
		must.Do(t, w.Write(b.NewRecordBatch()))
		must.Do(t, w.Close())
		return out.String()
	}
	var wide strings.Builder
	wide.WriteString(`{"c":1`)
	for i := range 3000 {
		fmt.Fprintf(&wide, `,"c%d":1`, i)
	}
	for _, c := range []struct {
		name, content string
		small         bool
	}{
		{"a.csv", "x\n1\n", true},
		{"a.tsv", "x\ty\n1\t2\n", true},
		{"a.jsonl", `{"x":[{"y":2}]}`, true},
		{"a.arrow", arrowFile(3), true},
		{"a.jsonl", wide.String() + "}\n" + strings.Repeat("{}\n", 5000), false},
		{"a.arrow", arrowFile(1 << 20), false},
		{"a.csv", "x\n" + strings.Repeat("1\n", 1<<16), false},
		{"a.csv", "x,y\n1\n", false}, // damaged
		{"a.parquet", "PAR1", false},
	} {
		in := fileOf(t, c.name, c.content)
		in.IsUncompressed = true
		batches, _, err := in.readSmall(t.Context(), int64(len(c.content)))
		if (err == nil) != c.small || c.small && (len(batches) != 1 || batches[0].NumRows() == 0) {
			t.Errorf("%s, %d bytes: read %d batches in this process, error %v, want one: %t", c.name, len(c.content), len(batches), err, c.small)
		}
		take.Release(batches)
		must.Get(in.File.Seek(0, io.SeekStart))(t)
		reader := NewIsolatedReader(64 << 20)
		before := childTime(t)
		if r, err := reader.Read(t.Context(), in); err == nil {
			for r.Next() {
			}
			r.Release()
		}
		if isStarted := childTime(t) > before; worker.Supported && isStarted == c.small {
			t.Errorf("%s, %d bytes: a process was started: %t", c.name, len(c.content), isStarted)
		}
		if reader.reservedBytes != 0 {
			t.Errorf("%s, %d bytes: %d bytes are still reserved", c.name, len(c.content), reader.reservedBytes)
		}
	}
}

// childTime returns the CPU time of ended child processes.
func childTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must.Do(t, syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

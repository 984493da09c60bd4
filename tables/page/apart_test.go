package page

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/flightd"
)

func memoryNow(t *testing.T) (n int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("there is no /proc here")
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// hostileFile returns a file of testdata. bomb has a column of 16,384 equal texts of 1 MiB, as
// pyarrow compresses them. broken has a column with a negative length, at which the library panics in
// a separate goroutine.
func hostileFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".parquet")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sparse returns JSON lines: the first has 65,536 columns, the others have none.
func sparse() string {
	var b strings.Builder
	for i := range 1 << 16 {
		fmt.Fprintf(&b, `,"c%d":1`, i)
	}
	return "{" + b.String()[1:] + "}\n" + strings.Repeat("{}\n", 16<<10)
}

// Files that would use all memory, or crash the process that reads them, only fail their own
// requests.
func TestHostileFiles(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 600 << 20})
	before := memoryNow(t)
	for _, f := range []struct{ name, format, body, says string }{
		{"a text of 1 MiB in each row", "parquet", hostileFile(t, "bomb"), "of memory"},
		{"columns that lines lack", "jsonl", sparse(), "split it into smaller files"},
		{"a panic in a goroutine of the library", "parquet", hostileFile(t, "broken"), "the file is damaged"},
	} {
		began := time.Now()
		a, text := s.post("/api/put?table=t&format="+f.format, f.body)
		s.wants(a, text, 400, "the body: ", f.says)
		grown := memoryNow(t) - before
		t.Logf("%s: %v, %d MiB, %s", f.name, time.Since(began), grown>>20, text)
		if grown > 300<<20 {
			t.Errorf("%s: the server used %d MiB", f.name, grown>>20)
		}
	}
	a, text := s.post("/api/put?table=t&format=csv", "x\n1\n")
	s.wants(a, text, 200, `"rows":1`)
}

// Arrow batches that decompress to far more data are also read in a separate process, whose memory is
// shared by all requests.
func TestHostileArrow(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 600 << 20})
	const rows = 40 << 20
	zeros := array.NewInt64Data(array.NewData(arrow.PrimitiveTypes.Int64, rows, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 8*rows))}, nil, 0, 0))
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	var body bytes.Buffer
	w := ipc.NewWriter(&body, ipc.WithSchema(schema), ipc.WithZstd())
	if err := errors.Join(w.Write(array.NewRecordBatch(schema, []arrow.Array{zeros}, rows)), w.Close()); err != nil {
		t.Fatal(err)
	}
	a, text := s.post("/api/put?table=t&format=arrow", body.String())
	s.wants(a, text, 400, "the body: ", "of memory")
}

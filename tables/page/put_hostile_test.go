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

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
)

// hostileFile returns the content of a file in testdata. bomb.parquet was compressed by pyarrow, and has a column
// of 16,384 equal strings of 1 MiB. broken.parquet has a column with a negative length, which makes the library
// panic in a separate goroutine.
func hostileFile(t *testing.T, name string) string {
	t.Helper()
	b := must.Get(os.ReadFile("testdata/" + name + ".parquet"))(t)
	return string(b)
}

// sparseLines returns JSON lines. The first line has 65,536 columns, the other lines have none.
func sparseLines() string {
	var b strings.Builder
	for i := range 1 << 16 {
		fmt.Fprintf(&b, `,"c%d":1`, i)
	}
	return "{" + b.String()[1:] + "}\n" + strings.Repeat("{}\n", 16<<10)
}

// TestHostileFiles checks that files that would use all memory, or crash the process that reads them, fail only their
// own requests.
func TestHostileFiles(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 600 << 20})
	_, before := ownMemory(t)
	for _, f := range []struct{ name, format, body, want string }{
		{"a text of 1 MiB in each row", "parquet", hostileFile(t, "bomb"), "of memory"},
		{"columns that most lines lack", "jsonl", sparseLines(), "split it into smaller files"},
		{"a panic in a goroutine of the library", "parquet", hostileFile(t, "broken"), "the file is damaged"},
	} {
		start := time.Now()
		_, text := s.wantPost("/api/put?table=t&format="+f.format, f.body, 400, "the body", f.want) // possibly with the row group
		_, peak := ownMemory(t)
		grown := peak - before
		t.Logf("%s: %v, %d MiB, %s", f.name, time.Since(start), grown>>20, text)
		if grown > 300<<20 {
			t.Errorf("%s: the server's memory grew by %d MiB, want at most 300", f.name, grown>>20)
		}
	}
	s.wantPost("/api/put?table=t&format=csv", "x\n1\n", 200, `"rows":1`)
}

// TestHostileArrow checks that an Arrow batch that decompresses to far more data fails its request, because the
// separate process that reads it has limited memory.
func TestHostileArrow(t *testing.T) {
	s := serve(t, flightd.Options{Memory: 600 << 20})
	const rows = 40 << 20
	zeros := array.NewInt64Data(array.NewData(arrow.PrimitiveTypes.Int64, rows, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 8*rows))}, nil, 0, 0))
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	var body bytes.Buffer
	w := ipc.NewWriter(&body, ipc.WithSchema(schema), ipc.WithZstd())
	must.Do(t, errors.Join(w.Write(array.NewRecordBatch(schema, []arrow.Array{zeros}, rows)), w.Close()))
	s.wantPost("/api/put?table=t&format=arrow", body.String(), 400, "the body: ", "of memory")
}

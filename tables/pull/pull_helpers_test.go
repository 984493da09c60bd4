package pull

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/nats-io/nats-server/v2/server"
)

func startRegistry(t *testing.T) (*server.Server, string) {
	t.Helper()
	s := must.Get(startServer(t.TempDir(), server.RANDOM_PORT, ""))(t)
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s, s.ClientURL()
}

func openNode(t *testing.T, dir string, o Options) *Node {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Lease == 0 {
		o.Lease = time.Hour // no regular heartbeats during the test
	}
	n := must.Get(Open(t.Context(), dir, &o))(t)
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func day(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n) }

// rowsOf returns a frame with float64 columns and a row per day, starting with firstDay. For
// example, "a=1,2 b=3,-" has columns a and b and two rows; "-" means null.
func rowsOf(t *testing.T, firstDay int, columns string) array.RecordReader {
	t.Helper()
	fields := []arrow.Field{{Name: "time", Type: arrow.FixedWidthTypes.Timestamp_us}}
	var values [][]string
	for _, c := range strings.Fields(columns) {
		name, list, _ := strings.Cut(c, "=")
		fields = append(fields, arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true})
		values = append(values, strings.Split(list, ","))
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for i := range values[0] {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(day(firstDay + i).UnixMicro()))
		for j := range values {
			must.Do(t, b.Field(j+1).AppendValueFromString(strings.ReplaceAll(values[j][i], "-", array.NullValueStr)))
		}
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	return must.Get(array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch}))(t)
}

func mustSave(t *testing.T, n *Node, name string, first int, columns string) int64 {
	t.Helper()
	return must.Get(n.Save(t.Context(), name, rowsOf(t, first, columns)))(t)
}

// formatRows formats each row as a line "DAY a b c".
func formatRows(r array.RecordReader) (string, error) {
	defer r.Release()
	var out strings.Builder
	for r.Next() {
		b := r.RecordBatch()
		for i := range int(b.NumRows()) {
			timestamp := b.Column(0).(*array.Timestamp).Value(i).ToTime(arrow.Microsecond)
			fmt.Fprintf(&out, "%d", int(timestamp.Sub(day(0)).Hours()/24))
			for _, c := range b.Columns()[1:] {
				out.WriteString(" " + strings.ReplaceAll(c.ValueStr(i), array.NullValueStr, "-"))
			}
			out.WriteString("\n")
		}
	}
	return out.String(), r.Err()
}

func load(t *testing.T, n *Node, name string, from, to time.Time) string {
	t.Helper()
	return must.Get(formatRows(must.Get(n.Load(t.Context(), name, from, to))(t)))(t)
}

func wantRows(t *testing.T, n *Node, name, want string) {
	t.Helper()
	if got := load(t, n, name, noBound, noBound); got != want {
		t.Errorf("Load(%q) = %q, want %q", name, got, want)
	}
}

// noBound is the zero time: as an argument of Load, it means no bound.
var noBound time.Time

// waitFor waits until f returns true. event names the awaited event in the error message.
func waitFor(t *testing.T, event string, f func() bool) {
	t.Helper()
	must.Eventually(t, time.Minute, "still waiting for "+event, f)
}

func parquetFiles(t *testing.T, n *Node) (paths []string) {
	t.Helper()
	entries := must.Get(os.ReadDir(filepath.Join(n.disk.dir, "files")))(t)
	for _, e := range entries {
		path := n.disk.Path(e.Name())
		if b, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(b), "PAR1") {
			paths = append(paths, path)
		}
	}
	return paths
}

func flipBit(t *testing.T, path string) {
	t.Helper()
	b := must.Get(os.ReadFile(path))(t)
	b[len(b)/2] ^= 4
	must.Do(t, os.WriteFile(path, b, 0o666))
}

func addHostilePeer(t *testing.T, n *Node, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	must.Do(t, n.reg.sync(t.Context(), time.Minute))
	err := n.reg.nats.put(t.Context(), "n.hostile", fmt.Appendf(nil, `{"address":%q}`, s.URL))
	if err == nil {
		err = n.reg.sync(t.Context(), time.Minute)
	}
	must.Do(t, err)
	return s
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	return must.Get(net.ResolveTCPAddr("tcp", address))(t).Port
}

package pull

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
)

// TestUpsert checks that the columns of a new frame replace values, that other columns
// keep theirs, and that new columns are null in older rows.
func TestUpsert(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2,3 b=10,20,30")
	if v := mustSave(t, b, "x", 1, "a=-,33,44 c=5,6,7"); v != 2 {
		t.Errorf("version %d", v)
	}
	want := "0 1 10 -\n1 - 20 5\n2 33 30 6\n3 44 - 7\n"
	for _, n := range []*Node{a, b} {
		if err := n.reg.sync(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if got := load(t, n, "x", always, always); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := load(t, a, "x", day(1), day(3)); got != "1 - 20 5\n2 33 30 6\n" {
		t.Errorf("a range: %q", got)
	}
	if got := load(t, a, "x", day(1).Add(1), day(2).Add(1)); got != "2 33 30 6\n" {
		t.Errorf("a range between times: %q", got)
	}
	// Rows before and after all others.
	mustSave(t, a, "x", -2, "a=7,8")
	mustSave(t, a, "x", 9, "a=9")
	if got := load(t, a, "x", always, always); got != "-2 7 - -\n-1 8 - -\n"+want+"9 9 - -\n" {
		t.Errorf("%q", got)
	}
	infos, err := b.List(t.Context())
	if err != nil || len(infos) != 1 || infos[0].Name != "x" {
		t.Errorf("%+v, %v", infos, err)
	}
}

func TestSaveRefuses(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, n, "x", 0, "a=1,2")
	frame := func(times []arrow.Timestamp, fields ...arrow.Field) array.RecordReader {
		s := arrow.NewSchema(fields, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, s)
		defer b.Release()
		for i, f := range fields {
			for _, at := range times {
				switch c := b.Field(i).(type) {
				case *array.TimestampBuilder:
					if at < 0 {
						c.AppendNull()
					} else {
						c.Append(at)
					}
				default:
					c.AppendEmptyValue()
				}
			}
			_ = f
		}
		r, err := array.NewRecordReader(s, []arrow.RecordBatch{b.NewRecordBatch()})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	at := arrow.Field{Name: "time", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true}
	broken := array.ReaderFromIter(arrow.NewSchema([]arrow.Field{at}, nil), func(yield func(arrow.RecordBatch, error) bool) {
		yield(nil, fmt.Errorf("the connection is lost: %w", io.EOF))
	})
	for _, c := range []struct {
		name, want string
		r          array.RecordReader
	}{
		{"x", "is lost", broken},
		{"x", "no time column", frame([]arrow.Timestamp{1}, arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Float64})},
		{"x", "two rows have the time", frame([]arrow.Timestamp{1, 1}, at)},
		{"x", "null", frame([]arrow.Timestamp{1, -1}, at)},
		{"x", "has type utf8, and the table has float64", frame([]arrow.Timestamp{1}, at, arrow.Field{Name: "a", Type: arrow.BinaryTypes.String})},
		{"x", "the frame lacks this column", frame([]arrow.Timestamp{1}, arrow.Field{Name: "t", Type: at.Type})},
		{"x", `column "" has type float64: its name is empty`, frame([]arrow.Timestamp{1}, at, arrow.Field{Type: arrow.PrimitiveTypes.Float64})},
		{"x", `column "s"`, frame([]arrow.Timestamp{1}, at, arrow.Field{Name: "s", Type: arrow.StructOf(arrow.Field{Type: at.Type})})},
		{"x", "two columns have this name", frame([]arrow.Timestamp{1}, at, at)},
		{"", "1 to 255 bytes", frame([]arrow.Timestamp{1}, at)},
		{strings.Repeat("x", 256), "1 to 255 bytes", frame([]arrow.Timestamp{1}, at)},
	} {
		if _, err := n.Save(t.Context(), c.name, c.r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if got := load(t, n, "x", always, always); got != "0 1\n1 2\n" {
		t.Errorf("%q", got)
	}
	if _, err := n.Load(t.Context(), "nope", always, always); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestNil(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	if _, err := n.Save(t.Context(), "t", nil); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Error(err)
	}
	if err := (*Node)(nil).Close(); err != nil { // it may be deferred before the error of Open is checked
		t.Error(err)
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	var nodes []*Node
	for range 4 {
		nodes = append(nodes, openNode(t, t.TempDir(), Options{Registry: url}))
	}
	outcomes := make(chan string, 40)
	for i, n := range nodes {
		go func() {
			for round := range 10 {
				_, err := n.Save(t.Context(), "x", rowsOf(t, 10*i+round, "a=1"))
				switch {
				case err == nil:
					outcomes <- "saved"
				case errors.Is(err, ErrConflict) && !errors.Is(err, partd.ErrUnknownOutcome):
					outcomes <- "conflict"
				default:
					outcomes <- err.Error()
				}
			}
		}()
	}
	counts := map[string]int{}
	for range 40 {
		counts[<-outcomes]++
	}
	n := nodes[0]
	if err := n.reg.sync(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	rows := strings.Count(load(t, n, "x", always, always), "\n")
	if counts["saved"] != rows || counts["saved"]+counts["conflict"] != 40 || counts["conflict"] == 0 {
		t.Errorf("%v, and %d rows", counts, rows)
	}
}

// TestSavedWhileAsked saves a table on one node while another node asks its peers for
// that table. The second node must not start the table anew, which would lose an
// acknowledged version.
func TestSavedWhileAsked(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	saveFirst := make(chan string, 1)
	hostile(t, b, func(w http.ResponseWriter, r *http.Request) {
		select {
		case name := <-saveFirst: // b learns of the version before it gets the answer
			if _, err := a.Save(t.Context(), name, rowsOf(t, 0, "a=1")); err != nil {
				t.Error(err)
			}
			if err := b.reg.sync(t.Context(), time.Minute); err != nil {
				t.Error(err)
			}
		default:
		}
		http.NotFound(w, r)
	})
	saveFirst <- "x"
	if v, err := b.Save(t.Context(), "x", rowsOf(t, 1, "a=2")); !errors.Is(err, ErrConflict) {
		t.Errorf("version %d, %v", v, err)
	}
	if got := load(t, b, "x", always, always); got != "0 1\n" {
		t.Errorf("%q", got)
	}
	saveFirst <- "y"
	if r, err := b.Load(t.Context(), "y", always, always); err == nil {
		r.Release()
	} else if !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestFetchesWhatIsMissing checks that a Load fetches only missing files, and that a
// second Load sends no requests.
func TestFetchesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	for i := range 4 { // each save writes its own file
		mustSaveFile(t, a, "x", 100*i)
	}
	whole := a.reg.table(keyOf("x"))
	r, err := a.Load(t.Context(), "x", always, always)
	if err != nil {
		t.Fatal(err)
	}
	r.Release()
	m, err := a.manifest(t.Context(), whole.record)
	if err != nil || len(m.files) != 4 {
		t.Fatalf("%d files, %v", len(m.files), err)
	}
	if got := load(t, b, "x", day(100), day(103)); strings.Count(got, "\n") != 3 {
		t.Fatalf("%q", got)
	}
	fetched := b.Stats().Bytes
	head := fetched - m.files[1].Size - whole.Size
	if head < 0 || head > maxRecord || len(filesOf(t, b)) != 1 {
		t.Errorf("%d bytes came for a file of %d and a manifest of %d", fetched, m.files[1].Size, whole.Size)
	}
	want := load(t, a, "x", always, always)
	if got := load(t, b, "x", always, always); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if came := b.Stats().Bytes - fetched; came != m.files[0].Size+m.files[2].Size+m.files[3].Size {
		t.Errorf("%d more bytes came", came)
	}

	until(t, "what is under way", func() bool { return a.reg.fresh() && b.reg.fresh() })
	before, sent := b.Stats(), s.NumSubscriptions()
	if got := load(t, b, "x", always, always); got != want {
		t.Errorf("%q", got)
	}
	if after := b.Stats(); after != before || s.NumSubscriptions() != sent {
		t.Errorf("a second Load: %+v before, %+v after", before, after)
	}

	// A newer version with one new file.
	mustSaveFile(t, a, "x", 900)
	if err := b.reg.sync(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := load(t, b, "x", always, always); strings.Count(got, "\n") != 5*smallRowsInTests {
		t.Errorf("%d rows", strings.Count(got, "\n"))
	}
	newest := a.reg.table(keyOf("x"))
	came := b.Stats().Bytes - before.Bytes - newest.Size
	if added := newest.Bytes - whole.Bytes; came < added || came > added+maxRecord {
		t.Errorf("%d bytes came for a file of %d", came, added)
	}
}

const smallRowsInTests = 5

// mustSaveFile saves rows in a file of their own, by a lower limit for small files.
func mustSaveFile(t *testing.T, n *Node, name string, first int) {
	t.Helper()
	n.small = 1
	mustSave(t, n, name, first, "a=1,2,3,4,5")
}

// TestFlippedBit checks that every read detects a damaged file, and fetches it from
// another node.
func TestFlippedBit(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2,3")
	want := load(t, b, "x", always, always)
	if found, err := a.Verify(t.Context()); err != nil || len(found) != 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, c := range []struct {
		of, by *Node
	}{{a, a}, {b, a}, {a, b}} {
		for _, path := range []string{filesOf(t, c.of)[0], c.of.disk.Path(a.reg.table(keyOf("x")).Manifest)} {
			flip(t, path)
			if err := b.reg.sync(t.Context(), time.Minute); err != nil { // otherwise b's holding may not have arrived
				t.Fatal(err)
			}
			found, err := c.by.Verify(t.Context())
			if err != nil || len(found) != 1 || !found[0].Repaired || found[0].Table != "x" {
				t.Errorf("%+v, %v", found, err)
			}
			if found, err := c.by.Verify(t.Context()); err != nil || len(found) != 0 {
				t.Errorf("after the repair: %+v, %v", found, err)
			}
		}
	}
	flip(t, filesOf(t, b)[0])
	if got := load(t, b, "x", always, always); got != want {
		t.Errorf("a Load of a damaged file: %q", got)
	}
	flip(t, filesOf(t, a)[0])
	flip(t, filesOf(t, b)[0])
	r, err := b.Load(t.Context(), "x", always, always)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := textOf(r); !errors.Is(err, ErrSyncFailed) || text != "" {
		t.Errorf("where all are damaged: %q, %v", text, err)
	}
	if _, err := os.Stat(b.disk.dir); err != nil {
		t.Error(err)
	}
}

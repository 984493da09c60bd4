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
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/tables"
)

// TestZeroNode checks that the methods of a node that was not opened return errors and do not panic.
func TestZeroNode(t *testing.T) {
	storetest.CheckZero(t, map[string]any{"Node": new(Node), "Node(nil)": (*Node)(nil)}, "Close")
}

// TestUpsert checks that the columns of a new frame replace values, that other columns
// keep their values, and that new columns are null in older rows.
func TestUpsert(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2,3 b=10,20,30")
	if v := mustSave(t, b, "x", 1, "a=-,33,44 c=5,6,7"); v != 2 {
		t.Errorf("the second Save returned version %d, want 2", v)
	}
	want := "0 1 10 -\n1 - 20 5\n2 33 30 6\n3 44 - 7\n"
	for _, n := range []*Node{a, b} {
		must.Do(t, n.reg.sync(t.Context(), time.Minute))
		wantRows(t, n, "x", want)
	}
	if got := load(t, a, "x", day(1), day(3)); got != "1 - 20 5\n2 33 30 6\n" {
		t.Errorf("Load from day 1 to day 3 = %q, want only days 1 and 2", got)
	}
	if got := load(t, a, "x", day(1).Add(1), day(2).Add(1)); got != "2 33 30 6\n" {
		t.Errorf("Load with bounds just after day 1 and day 2 = %q, want only day 2", got)
	}
	// Save rows before and after all existing ones.
	mustSave(t, a, "x", -2, "a=7,8")
	mustSave(t, a, "x", 9, "a=9")
	wantRows(t, a, "x", "-2 7 - -\n-1 8 - -\n"+want+"9 9 - -\n")
	infos, err := b.List(t.Context())
	if err != nil || len(infos) != 1 || infos[0].Name != "x" {
		t.Errorf("List = %+v, %v, want only x", infos, err)
	}
}

// TestSaveAtEndOfFile checks that rows at the time of a file's last row replace it, even if the file is too large for
// further rows.
func TestSaveAtEndOfFile(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	n.extendBelow = 1
	mustSave(t, n, "x", 0, "a=1,2,3")
	mustSave(t, n, "x", 2, "a=33,44")
	wantRows(t, n, "x", "0 1\n1 2\n2 33\n3 44\n")
	mustSave(t, n, "x", 4, "a=5")
	wantRows(t, n, "x", "0 1\n1 2\n2 33\n3 44\n4 5\n")
	if files := tableFiles(t, n, "x"); len(files) < 2 {
		t.Errorf("the table has %d files, want another file for later rows", len(files))
	}
}

// tableFiles returns the files of the newest version of a table.
func tableFiles(t *testing.T, n *Node, name string) []dataFile {
	t.Helper()
	return must.Get(n.manifest(t.Context(), n.reg.table(keyOf(name)).record))(t).files
}

func TestSaveRejects(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, n, "x", 0, "a=1,2")
	frame := func(times []arrow.Timestamp, fields ...arrow.Field) array.RecordReader {
		s := arrow.NewSchema(fields, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, s)
		defer b.Release()
		for i := range fields {
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
		}
		return must.Get(array.NewRecordReader(s, []arrow.RecordBatch{b.NewRecordBatch()}))(t)
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
		{"x", "the rows lack this column", frame([]arrow.Timestamp{1}, arrow.Field{Name: "t", Type: at.Type})},
		{"x", `column "" has type float64: its name is empty`, frame([]arrow.Timestamp{1}, at, arrow.Field{Type: arrow.PrimitiveTypes.Float64})},
		{"x", `column "s"`, frame([]arrow.Timestamp{1}, at, arrow.Field{Name: "s", Type: arrow.StructOf(arrow.Field{Type: at.Type})})},
		{"x", "two columns have this name", frame([]arrow.Timestamp{1}, at, at)},
		{"", "1 to 255 bytes", frame([]arrow.Timestamp{1}, at)},
		{strings.Repeat("x", 256), "1 to 255 bytes", frame([]arrow.Timestamp{1}, at)},
		{"x\xff", "UTF-8", frame([]arrow.Timestamp{1}, at)}, // JSON would change the name
		{"x", "is nil", nil},
	} {
		_, err := n.Save(t.Context(), c.name, c.r)
		must.Fail(t, err, c.want, "Save(%q)", c.name)
		if errors.As(err, new(*tables.SchemaError)) != strings.Contains(err.Error(), `: column "`) {
			t.Errorf("Save(%q): an error that names a column must be a SchemaError: %v", c.name, err)
		}
	}
	wantRows(t, n, "x", "0 1\n1 2\n")
	must.Fail(t, must.Err(n.Load(t.Context(), "nope", noBound, noBound)), ErrNotFound, "Load of an unknown table")
	must.Do(t, (*Node)(nil).Close()) // callers may defer Close before they check the error of Open
}

// TestConflict saves on four nodes concurrently. Each Save must succeed or return
// ErrConflict, and the table must have exactly the rows of the successful saves.
func TestConflict(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
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
	must.Do(t, n.reg.sync(t.Context(), time.Minute))
	rows := strings.Count(load(t, n, "x", noBound, noBound), "\n")
	if counts["saved"] != rows || counts["saved"]+counts["conflict"] != 40 || counts["conflict"] == 0 {
		t.Errorf("outcomes of 40 saves: %v, and the table has %d rows, want one per successful save", counts, rows)
	}
}

// TestSaveDuringFindNewest saves a table on one node while another node asks its peers for
// that table. The second node must not create the table again, because that would lose an
// acknowledged version.
func TestSaveDuringFindNewest(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	saveFirst := make(chan string, 1)
	addHostilePeer(t, b, func(w http.ResponseWriter, r *http.Request) {
		select {
		case name := <-saveFirst: // b learns about the version before it gets the response
			_, err := a.Save(t.Context(), name, rowsOf(t, 0, "a=1"))
			must.Check(t, errors.Join(err, b.reg.sync(t.Context(), time.Minute)))
		default:
		}
		http.NotFound(w, r)
	})
	saveFirst <- "x"
	if v, err := b.Save(t.Context(), "x", rowsOf(t, 1, "a=2")); !errors.Is(err, ErrConflict) {
		t.Errorf("Save = version %d, %v, want ErrConflict", v, err)
	}
	wantRows(t, b, "x", "0 1\n")
	saveFirst <- "y"
	if r, err := b.Load(t.Context(), "y", noBound, noBound); err == nil {
		r.Release()
	} else if !errors.Is(err, ErrNotFound) {
		t.Errorf("Load during the first Save: got error %v, want no error or ErrNotFound", err)
	}
}

// TestLoadFetchesOnlyMissing checks that a Load fetches only missing files, and that a
// second Load sends no requests.
func TestLoadFetchesOnlyMissing(t *testing.T) {
	t.Parallel()
	s, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	for i := range 4 { // each save writes its own file
		mustSaveFile(t, a, "x", 100*i)
	}
	saved := a.reg.table(keyOf("x"))
	must.Get(a.Load(t.Context(), "x", noBound, noBound))(t).Release()
	m, err := a.manifest(t.Context(), saved.record)
	if err != nil || len(m.files) != 4 {
		t.Fatalf("the manifest has %d files, %v, want 4", len(m.files), err)
	}
	if got := load(t, b, "x", day(100), day(103)); strings.Count(got, "\n") != 3 {
		t.Fatalf("Load of three days = %q, want 3 rows", got)
	}
	fetched := b.Stats().Bytes
	overhead := fetched - m.files[1].Size - saved.Size
	if overhead < 0 || overhead > maxRecord || len(parquetFiles(t, b)) != 1 {
		t.Errorf("received %d bytes and %d files, want one file of %d bytes, a manifest of %d bytes and at most %d other bytes", fetched, len(parquetFiles(t, b)), m.files[1].Size, saved.Size, maxRecord)
	}
	want := load(t, a, "x", noBound, noBound)
	wantRows(t, b, "x", want)
	if received := b.Stats().Bytes - fetched; received != m.files[0].Size+m.files[2].Size+m.files[3].Size {
		t.Errorf("received %d more bytes, want only the three missing files", received)
	}

	waitFor(t, "both nodes to have a fresh copy of the registry", func() bool { return a.reg.fresh() && b.reg.fresh() })
	before, sent := b.Stats(), s.NumSubscriptions()
	wantRows(t, b, "x", want)
	if after := b.Stats(); after != before || s.NumSubscriptions() != sent {
		t.Errorf("a second Load changed the counts from %+v to %+v, want no requests", before, after)
	}

	// If a new version has one new file, Load must fetch only that file and the manifest.
	mustSaveFile(t, a, "x", 900)
	must.Do(t, b.reg.sync(t.Context(), time.Minute))
	if got := load(t, b, "x", noBound, noBound); strings.Count(got, "\n") != 5*savedFileRows {
		t.Errorf("Load returned %d rows, want %d", strings.Count(got, "\n"), 5*savedFileRows)
	}
	newest := a.reg.table(keyOf("x"))
	received := b.Stats().Bytes - before.Bytes - newest.Size
	if added := newest.Bytes - saved.Bytes; received < added || received > added+maxRecord {
		t.Errorf("received %d bytes besides the manifest, want a file of %d bytes and at most %d other bytes", received, added, maxRecord)
	}
}

const savedFileRows = 5 // the number of rows that mustSaveFile saves

// mustSaveFile saves savedFileRows rows as a separate file. Without extendBelow, Save would add the rows to
// the table's small last file.
func mustSaveFile(t *testing.T, n *Node, name string, first int) {
	t.Helper()
	n.extendBelow = 1
	mustSave(t, n, name, first, "a=1,2,3,4,5")
}

// TestFlippedBit checks that every read detects a damaged file, and fetches it from
// another node.
func TestFlippedBit(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2,3")
	want := load(t, b, "x", noBound, noBound)
	if found, err := a.Verify(t.Context()); err != nil || len(found) != 0 {
		t.Fatalf("Verify of intact files = %+v, %v, want no findings", found, err)
	}
	for _, c := range []struct {
		damaged, verifier *Node
	}{{a, a}, {b, a}, {a, b}} {
		for _, path := range []string{parquetFiles(t, c.damaged)[0], c.damaged.disk.Path(a.reg.table(keyOf("x")).Manifest)} {
			flipBit(t, path)
			if err := b.reg.sync(t.Context(), time.Minute); err != nil { // otherwise the registry may not know yet that b has the version
				t.Fatal(err)
			}
			found, err := c.verifier.Verify(t.Context())
			if err != nil || len(found) != 1 || !found[0].Repaired || found[0].Table != "x" {
				t.Errorf("Verify of a damaged file = %+v, %v, want one repaired finding", found, err)
			}
			if found, err := c.verifier.Verify(t.Context()); err != nil || len(found) != 0 {
				t.Errorf("Verify after the repair = %+v, %v, want no findings", found, err)
			}
		}
	}
	flipBit(t, parquetFiles(t, b)[0])
	wantRows(t, b, "x", want)
	flipBit(t, parquetFiles(t, a)[0])
	flipBit(t, parquetFiles(t, b)[0])
	r := must.Get(b.Load(t.Context(), "x", noBound, noBound))(t)
	if text, err := formatRows(r); !errors.Is(err, ErrSyncFailed) || text != "" {
		t.Errorf("Load with all copies damaged = %q, %v, want ErrSyncFailed", text, err)
	}
	if left := parquetFiles(t, b); len(left) > 0 {
		t.Errorf("after a Load that found no intact copy, the damaged files %q are left", left)
	}
	must.Get(os.Stat(b.disk.dir))(t)
}

package engines

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go/catalog/rest"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

var longSchema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)

// appendRow tries once to commit a row with iceberg-go.
func appendRow(ctx context.Context, c *rest.Catalog, name table.Identifier, value int64) error {
	t, err := c.LoadTable(ctx, name)
	if err != nil {
		return err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, longSchema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(value)
	rec := b.NewRecordBatch()
	defer rec.Release()
	r, err := array.NewRecordReader(longSchema, []arrow.RecordBatch{rec})
	if err != nil {
		return err
	}
	defer r.Release()
	_, err = t.Append(ctx, r, nil)
	return err
}

// valueCounts reads a table through Flight, and returns the number of rows for each value of n.
func (o *flightClient) valueCounts(table string) map[int64]int {
	o.t.Helper()
	rows := must.Get(o.rows(table))(o.t)
	all := map[int64]int{}
	for _, r := range rows {
		n, _ := r["n"].(int64)
		all[n]++
	}
	return all
}

func (o *flightClient) putRow(table string, value int64) error {
	return o.put(table, []column{{"n", "long"}}, []record{{"n": value}}, tables.PutAppend)
}

// TestConflicts commits to one table from many clients, in three ways and during folds, with constant
// conflicts. Afterwards, the table must contain each row exactly once.
func TestConflicts(t *testing.T) {
	t.Parallel()
	s := serve(t)
	o := s.flightClient(t)
	const name = "a.t"
	must.Do(t, o.putRow(name, 0))
	total := intFromEnv("PARTD_CONFLICTS", 80)
	var next, conflicts atomic.Int64
	nextValue := func() (int64, bool) {
		n := next.Add(1)
		return n, n <= int64(total)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			c := s.openCatalog(t)
			for n, more := nextValue(); more; n, more = nextValue() {
				for {
					err := appendRow(t.Context(), c, table.Identifier{"a", "t"}, n)
					if errors.Is(err, rest.ErrCommitFailed) {
						conflicts.Add(1)
						continue
					}
					if err != nil {
						t.Errorf("append row %d with iceberg-go: %v", n, err)
					}
					break
				}
			}
		})
	}
	wg.Go(func() {
		for n, more := nextValue(); more; n, more = nextValue() {
			if err := o.putRow(name, n); err != nil {
				t.Errorf("put row %d through Flight: %v", n, err)
			}
			if _, err := o.c.Fold(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
	})
	e := s.engine(t, "pyiceberg")
	wg.Go(func() {
		for n, more := nextValue(); more; n, more = nextValue() {
			rows, err := e.tryRun("insert", "table", name, "column", "n", "value", n)
			if err != nil {
				t.Error(err)
				continue
			}
			tries, _ := rows[0]["tries"].(interface{ Int64() (int64, error) }).Int64()
			conflicts.Add(tries - 1)
		}
	})
	wg.Wait()
	if conflicts.Load() == 0 {
		t.Error("no commits conflicted")
	}
	t.Logf("%d commits, %d conflicts", total, conflicts.Load())
	got := o.valueCounts(name)
	for n := range int64(total + 1) {
		if got[n] != 1 {
			t.Errorf("row %d occurs %d times, want once", n, got[n])
		}
	}
	if len(got) != total+1 {
		t.Errorf("the table has %d different values, want %d", len(got), total+1)
	}
	if rows := e.mustRun("rows", "table", name); len(rows) != total+1 {
		t.Errorf("pyiceberg reads %d rows, want %d", len(rows), total+1)
	}
}

// TestKilledServer kills a server while clients commit. The server must neither lose nor duplicate an acknowledged
// row, whether the row came from a foreign commit or an unfinished fold.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	s := serve(t)
	address := must.Get(url.Parse(s.url))(t)
	kills := intFromEnv("PARTD_KILLS", 3)
	const name = "a.t"
	must.Do(t, s.flightClient(t).putRow(name, 0))
	acknowledged := map[int64]bool{0: true}
	var next atomic.Int64
	var unknown []int64
	for range kills {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		work := func(do func(n int64) error) {
			wg.Go(func() {
				for ctx.Err() == nil {
					n := next.Add(1)
					err := do(n)
					mu.Lock()
					if err == nil {
						acknowledged[n] = true
					} else {
						unknown = append(unknown, n)
					}
					mu.Unlock()
				}
			})
		}
		for range 3 {
			c := s.openCatalog(t)
			work(func(n int64) error { return appendRow(ctx, c, table.Identifier{"a", "t"}, n) })
		}
		o := s.flightClient(t)
		work(func(n int64) error { return o.putRow(name, n) })
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		s.kill()
		stop()
		wg.Wait()
		s.start(address.Host, "--listen", "grpc://127.0.0.1:0")
		got := s.flightClient(t).valueCounts(name)
		for n := range acknowledged {
			if got[n] != 1 {
				t.Fatalf("acknowledged row %d occurs %d times, want once", n, got[n])
			}
		}
		for n, times := range got {
			if times != 1 || !acknowledged[n] && !slices.Contains(unknown, n) {
				t.Fatalf("row %d occurs %d times, want once, and only if it was committed", n, times)
			}
		}
		for _, n := range unknown { // a row that is visible now must not disappear later
			if got[n] == 1 {
				acknowledged[n] = true
			}
		}
		unknown = nil
	}
	loaded := must.Get(s.openCatalog(t).LoadTable(t.Context(), table.Identifier{"a", "t"}))(t)
	var foreign int
	for _, snapshot := range loaded.Metadata().Snapshots() {
		if snapshot.Summary != nil {
			foreign++
		}
	}
	t.Logf("%d kills, %d rows, %d snapshots", kills, len(acknowledged), foreign)
	if len(acknowledged) < 2*kills {
		t.Errorf("after %d kills, only %d rows were acknowledged, want at least two per kill", kills, len(acknowledged))
	}
	if a := s.send("GET", tablePath("a", "t")+"?snapshots=refs", nil); a.code != 200 {
		t.Errorf("load with snapshots=refs: got %d %s, want status 200", a.code, a.raw)
	}
	_, rows, err := loaded.Scan().ToArrowRecords(t.Context())
	must.Do(t, err)
	var sum int
	for rec, err := range rows {
		must.Do(t, err)
		sum += int(rec.NumRows())
	}
	if want := len(s.flightClient(t).valueCounts(name)); sum != want {
		t.Errorf("iceberg-go reads %d rows, want %d", sum, want)
	}
}

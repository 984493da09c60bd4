package tables_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReturnedVersionsConcurrent checks that the version that each put returns contains the put's rows, although folds, reads
// of earlier moments, deletes and large puts commit at the same time.
func TestReturnedVersionsConcurrent(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	table := s.Bucket("").Table("t")
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 0)
	var mu sync.Mutex
	returned := map[tables.Version][]int64{}
	stop := time.Now().Add(time.Second)
	var writers sync.WaitGroup
	for w := range int64(3) {
		writers.Go(func() {
			for n := (w + 1) * 1_000_000; time.Now().Before(stop); n++ {
				v, err := table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				returned[v] = append(returned[v], n)
				mu.Unlock()
			}
		})
	}
	for _, commit := range []func() error{
		func() error { _, err := s.Fold(t.Context(), nil); return err },
		func() error {
			_, err := table.At(t.Context(), tables.AtTime(time.Now().Add(-20*time.Millisecond)))
			return err
		},
		func() error { _, err := table.DeleteRows(t.Context(), filter.Eq("n", int64(0))); return err },
		func() error {
			_, err := table.Put(t.Context(), tabletest.Rows(tabletest.Sequence(-20_000, 20_000)...), tables.PutAppend, nil)
			return err
		},
	} {
		writers.Go(func() {
			for time.Now().Before(stop) {
				if err := commit(); err != nil && !errors.As(err, new(*tables.MomentError)) {
					t.Error(err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	writers.Wait()
	for v, puts := range returned {
		old, err := table.At(t.Context(), tables.AtVersion(v))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := tabletest.ReadAll(t.Context(), old, nil)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(rows)
		for _, n := range puts {
			if _, ok := slices.BinarySearch(rows, n); !ok {
				t.Fatalf("version %d lacks row %d, whose put returned it", v, n)
			}
		}
	}
	if len(returned) < 3 {
		t.Errorf("the puts returned only %d versions", len(returned))
	}
}

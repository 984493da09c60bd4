package tables_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMaintainLease checks that only one process maintains a catalog, until its lease ends or the clock has been set.
func TestMaintainLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := tabletest.Open(t, dir, &tables.Options{NoTail: true}), tabletest.Open(t, dir, &tables.Options{NoTail: true})
	take := func(holder string) {
		t.Helper()
		if ok, err := one.Catalog().TakeLease(t.Context(), "maintenance", holder, 15*time.Second); err != nil || !ok {
			t.Fatal("TakeLease:", ok, err)
		}
	}
	take("other")
	for _, s := range []*tables.Store{one, two} {
		if _, err := s.Maintain(t.Context(), nil); !errors.Is(err, tables.ErrInUse) {
			t.Errorf("during a lease: error %v, want ErrInUse", err)
		}
	}
	tabletest.ExecInCatalog(t, dir, `UPDATE partd_info SET value='1 other' WHERE key='lease maintenance'`)
	tabletest.Maintain(t, two, nil)
	tabletest.Maintain(t, one, nil) // the lease of two ended with its pass
	tabletest.ExecInCatalog(t, dir, `INSERT INTO partd_info VALUES ('lease maintenance', '99999999999999 other')`)
	tabletest.Maintain(t, two, nil)
	take("other")
	tabletest.Succeed(t, one.Catalog().DropLease(t.Context(), "maintenance", "another"))
	if ok, err := one.Catalog().TakeLease(t.Context(), "maintenance", "x", 15*time.Second); ok || err != nil {
		t.Errorf("TakeLease of a lease that only its holder may drop = %v, %v", ok, err)
	}
}

// TestMaintainFailures checks that a failing table does not prevent the maintenance of others, and is tried again after
// a pause.
func TestMaintainFailures(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(8) {
		tabletest.Put(t, b, "bad", tables.PutAppend, i)
		tabletest.Put(t, b, "good", tables.PutAppend, i)
	}
	tabletest.ExecInCatalog(t, s.Dir(), `CREATE TRIGGER fail BEFORE UPDATE ON iceberg_tables WHEN OLD.table_name='bad' BEGIN SELECT RAISE(ABORT, 'no space'); END`)
	if r, err := s.Maintain(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"bad"`) || r.Tables != 1 {
		t.Errorf("Maintain = %+v, %v; want an error about bad, and one table", r, err)
	}
	if state := tabletest.MaintenanceOf(t, b, "bad"); time.Until(state.Next) < 30*time.Second || !strings.Contains(state.Reason, "no space") || s.MaintenanceSummary().Failing != 1 {
		t.Errorf("state %+v, summary %+v; want a retry in a minute", state, s.MaintenanceSummary())
	}
	tabletest.Maintain(t, s, nil) // not yet tried again
	tabletest.ExecInCatalog(t, s.Dir(), `DROP TRIGGER fail`)
	s.RetryMaintenanceAt("bad", time.Now().Add(240*time.Hour)) // as if somebody had set the clock back
	if r := tabletest.Maintain(t, s, nil); r.Tables != 1 || s.MaintenanceSummary().Failing != 0 {
		t.Errorf("after the repair: Maintain = %+v, summary %+v", r, s.MaintenanceSummary())
	}
}

// TestMaintainGivesWay checks that a pass leaves a table alone while an engine may be about to commit, but not for
// ever.
func TestMaintainGivesWay(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(8) {
		tabletest.Put(t, b, "t", tables.PutAppend, i)
	}
	if _, err := tables.LoadIceberg(t.Context(), b.Table("t")); err != nil {
		t.Fatal(err)
	}
	if r := tabletest.Maintain(t, s, nil); r.FilesBefore != 0 || !strings.Contains(tabletest.MaintenanceOf(t, b, "t").Reason, "engine") {
		t.Errorf("after an engine loaded the table: Maintain = %+v, state %+v", r, tabletest.MaintenanceOf(t, b, "t"))
	}
	s.PostponedSince("t", time.Now().Add(-time.Hour))
	if r := tabletest.Maintain(t, s, nil); r.FilesBefore != 8 {
		t.Errorf("after an hour: Maintain = %+v, want 8 files merged", r)
	}
}

// TestMaintainStops checks that a pass stops within a second of the end of its context, and leaves no files behind.
func TestMaintainStops(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range 100 {
		tabletest.Put(t, b, fmt.Sprint("t", i%10), tables.PutAppend, int64(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	start := time.Now()
	r, err := s.Maintain(ctx, nil)
	if !errors.Is(err, context.Canceled) || time.Since(start) > time.Second || r.Tables == 10 {
		t.Errorf("Maintain = %+v, %v after %v; want context.Canceled within a second, before all tables are done", r, err, time.Since(start))
	}
	tabletest.Maintain(t, s, nil)
	for i := range 10 {
		if state := tabletest.MaintenanceOf(t, b, fmt.Sprint("t", i)); state.Files != 1 {
			t.Errorf("table t%d has %d files after the next pass, want 1", i, state.Files)
		}
	}
}

package commit

import (
	"testing"

	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// TestRecoverLoadsNoTable checks that Recover loads no table, that Acquire then reads the rows of its table, and that
// ReadTails reads all other rows. No rows of folded epochs or deleted tables may stay in the tail.
func TestRecoverLoadsNoTable(t *testing.T) {
	ctx := t.Context()
	cat := must.Get(icecat.Open(ctx, t.TempDir(), icecat.Options{FS: vfs.OS{}, CacheBytes: 1 << 20}))(t)
	defer cat.Close()
	p := partd.NewDict()
	s, _ := openTables(t, cat, p, "one")
	name := func(table string) icecat.TableName { return icecat.TableName{Namespace: "b", Name: table} }
	acquire := func(table string) *Entry {
		t.Helper()
		return must.Get(s.Acquire(ctx, name(table)))(t)
	}
	for _, table := range []string{"a", "b", "folded"} {
		create(t, acquire(table))
	}
	folded := acquire("folded")
	crashed := partd.Entry{Key: folded.log.UUID() + "/0"}
	values, err := p.Get(ctx, crashed.Key)
	if err != nil || len(values[0]) == 0 {
		t.Fatalf("the tail has %d bytes of the table, error %v", len(values[0]), err)
	}
	crashed.Value = values[0]
	must.Get(folded.Fold(ctx))(t)
	deleted := partd.Entry{Key: uuid.NewString() + "/0", Value: crashed.Value}
	must.Do(t, p.Append(ctx, crashed, deleted)) // as if the process crashed before it deleted these keys

	s, loads := openTables(t, cat, p, "one")
	expect := func(operation string, rows int64, wantLoads int, key string) {
		t.Helper()
		values, err := p.Get(ctx, key)
		if n, _, _ := s.Tail.Size(); err != nil || n != rows || *loads != wantLoads || len(values[0]) > 0 {
			t.Errorf("after %s, the tail has %d rows and %d bytes of key %s, after %d loads of tables, error %v; want %d rows, none and %d loads",
				operation, n, len(values[0]), key, *loads, err, rows, wantLoads)
		}
	}
	expect("Recover", 0, 0, deleted.Key)
	a := acquire("a")
	expect("Acquire", 1, 1, deleted.Key)
	if applied, err := a.applied(ctx, a.log, a.state.uuid, "a"); !applied || err != nil {
		t.Errorf("the put of the first row was applied: %v, error %v; want true", applied, err)
	}
	if names := s.WithTail(ctx, "b"); len(names) != 2 { // calls ReadTails
		t.Errorf("tables with rows in the tail: %v, want 2", names)
	}
	expect("ReadTails", 2, 3, crashed.Key)
}

package hashagg

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

const faultKeys = 12_000

// countRecordsIn counts records of many keys, with temporary data in fsys. It returns the number of groups.
func countRecordsIn(ctx context.Context, fsys vfs.FS, dir string) (n int, err error) {
	temp, err := tempdir.New([]string{dir}, fsys)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	a, err := New(ctx, Options{Memory: MinMemory, Threads: 1, Temp: temp, Words: 1, Merge: sumWords})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	table, err := a.Table()
	if err != nil {
		return 0, err
	}
	for i := range uint32(2 * faultKeys) {
		state, _, err := table.Get(binary.LittleEndian.AppendUint32(nil, i%faultKeys))
		if err != nil {
			return 0, errors.Join(err, table.Close())
		}
		state[0]++
	}
	if err := table.Close(); err != nil {
		return 0, err
	}
	for g, err := range a.Groups() {
		if err != nil {
			return n, err
		}
		if g.State[0] != 2 {
			return n, errors.New("a count is wrong")
		}
		n++
	}
	return n, nil
}

// TestFaults checks that if any call of the file system fails, the aggregation returns the error and leaves no files.
func TestFaults(t *testing.T) {
	broken := errors.New("broken")
	counter := &vfstest.Fault{}
	if n, err := countRecordsIn(t.Context(), vfstest.Inject(vfs.OS{}, counter.Check), t.TempDir()); err != nil || n != faultKeys {
		t.Fatalf("without faults: %d groups, %v", n, err)
	}
	step := vfstest.FaultStep(max(counter.Calls()/40, 1))
	for call := int64(1); call <= counter.Calls(); call += step {
		dir := t.TempDir()
		fault := &vfstest.Fault{Call: call, Err: broken, ShortWrite: call%2 == 0}
		n, err := countRecordsIn(t.Context(), vfstest.Inject(vfs.OS{}, fault.Check), dir)
		if err == nil && n != faultKeys {
			t.Errorf("call %d failed: the aggregation returned %d groups and no error, want %d", call, n, faultKeys)
		}
		if err != nil && !errors.Is(err, broken) {
			t.Errorf("call %d failed: the aggregation returned %v, want %v", call, err, broken)
		}
		must.Get(tempdir.New([]string{dir}, nil))(t)
		if leftovers, err := os.ReadDir(dir); err != nil || len(leftovers) > 0 {
			t.Errorf("call %d failed: leftover files %v, %v", call, leftovers, err)
		}
	}
}

// TestNotVerified checks that the aggregator detects groups that do not match the input records.
func TestNotVerified(t *testing.T) {
	for name, damage := range map[string]func(table *Table){
		"wrong count":   func(table *Table) { table.addCount(0, 1) },
		"wrong key":     func(table *Table) { table.key(0)[0]++ },
		"missing group": func(table *Table) { table.usedWords -= table.entryWords(4) },
	} {
		a := newTestAggregator(t, Options{Memory: 1 << 20, Threads: 1, Words: 1, Merge: sumWords})
		table := must.Get(a.Table())(t)
		for i := range uint32(1000) {
			if _, _, err := table.Get(binary.LittleEndian.AppendUint32(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		must.Do(t, table.Close())
		damage(table)
		var last error
		for _, err := range a.Groups() {
			last = err
		}
		if !errors.Is(last, ledger.ErrNotVerified) {
			t.Errorf("%s: Groups ends with %v, want %v", name, last, ledger.ErrNotVerified)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, o := range []Options{{Memory: 1}, {Threads: -1}, {Words: -1}, {Words: 1}} {
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("New accepted %+v", o)
		}
	}
	a := newTestAggregator(t, Options{Memory: MinMemory, Threads: 1})
	table := must.Get(a.Table())(t)
	if _, err := a.Table(); err == nil {
		t.Error("Table returned no error although a table was open for each thread")
	}
	for _, err := range a.Groups() {
		if err == nil {
			t.Error("Groups returned no error while a table was open")
		}
	}
	if _, _, err := table.Get(make([]byte, MinMemory)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Get of a key as large as the memory = %v, want %v", err, ErrTooLarge)
	}
	must.Fail(t, table.Close(), ErrTooLarge, "Close")
	for _, err := range a.Groups() {
		must.Fail(t, err, ErrTooLarge, "Groups yields")
	}
}

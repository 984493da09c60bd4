package hashagg

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestReadsAreLarge checks that many threads with little memory spill often, and each time write little of each
// partition. The merge must still read these files in large pieces, because disks are slow with small reads.
func TestReadsAreLarge(t *testing.T) {
	const threads, records = 8, 200_000
	var reads atomic.Int64
	fsys := vfstest.Inject(vfs.OS{}, func(op vfstest.Op, _ string) error {
		if op == vfstest.OpRead {
			reads.Add(1)
		}
		return nil
	})
	temp := must.Get(tempdir.New([]string{t.TempDir()}, fsys))(t)
	defer temp.Close()
	a := must.Get(New(t.Context(), Options{Memory: 40 << 20, Threads: threads, Temp: temp, Words: 5, Merge: sumWords}))(t)
	defer a.Close()
	var tables []*Table
	for range threads {
		table := must.Get(a.Table())(t)
		tables = append(tables, table)
	}
	for i := range uint64(threads * records) {
		state, _, err := tables[i%threads].Get(binary.LittleEndian.AppendUint64(nil, i*0x9e3779b97f4a7c15))
		must.Do(t, err)
		state[0]++
	}
	errs := make([]error, 0, threads)
	for _, table := range tables {
		errs = append(errs, table.Close())
	}
	must.Do(t, errors.Join(errs...))
	groups := 0
	for _, err := range a.Groups() {
		must.Do(t, err)
		groups++
	}
	if groups != threads*records {
		t.Errorf("Groups yields %d groups, want %d", groups, threads*records)
	}
	if mean := a.Stats().Written / max(reads.Load(), 1); a.Stats().Spills == 0 || mean < 64<<10 {
		t.Errorf("%d bytes were read in %d reads of %d bytes, want at least 64 KiB per read", a.Stats().Written, reads.Load(), mean)
	}
}

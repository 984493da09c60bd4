package logstore

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/partdtest"
)

var abilities = []partdtest.Ability{
	partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen,
	partdtest.CanScan, partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanApply, partdtest.CanClose,
}

// smallTables are hooks for small tables and buffers, so that a few appends fill a table and
// scans must divide their ranges. A key of 65,535 bytes still fits.
var smallTables = hooks{tableBytes: 320 << 10, blobBytes: 4 << 10, readBytes: 64 << 10, batchBytes: 8 << 10}

// lendingHooks are hooks for tables that are small, but large enough to be lent to scans.
var lendingHooks = hooks{tableBytes: 512 << 10, maxBatch: 80 << 10, blobBytes: 4 << 10, readBytes: 64 << 10, batchBytes: 8 << 10}

// byteHash is a hash in which only the highest 8 bits can be set.
func byteHash(key string) uint64 {
	var h uint64
	for i := range len(key) {
		h = h*31 + uint64(key[i])
	}
	return h << 56
}

// TestKeepsPromises runs the conformance suite on disk and in memory, with different options.
// For most options, it runs only the state machine unless PARTD_ALL_LAYERS is set.
func TestKeepsPromises(t *testing.T) {
	withHash := func(h hooks, hash func(string) uint64) hooks {
		h.hash = hash
		return h
	}
	for _, c := range []struct {
		name string
		opts Options
		h    hooks
	}{
		{"default", Options{}, hooks{fs: vfs.OS{}}},
		{"minimum memory", Options{Memory: MinMemory, FileSize: 1 << 20}, hooks{}},
		{"sync", Options{Sync: true, Memory: MinMemory}, smallTables},
		{"lent tables", Options{Memory: MinMemory}, lendingHooks},
		{"s2", Options{Compression: S2, Memory: MinMemory}, smallTables},
		{"zstd", Options{Compression: Zstd, Memory: MinMemory}, smallTables},
		{"2-bit hash", Options{Memory: MinMemory}, withHash(smallTables, func(key string) uint64 { return byteHash(key)>>62<<62 | 0x123456789abcdef0 })},
		{"8-bit hash", Options{Memory: MinMemory}, withHash(smallTables, byteHash)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dirs := map[partd.Partd]string{}
			openIn := func(t *testing.T, dir string) partd.Partd {
				s := must.Get(openHooked(dir, &c.opts, c.h))(t)
				dirs[s] = dir
				return s
			}
			run := partdtest.StateMachine
			runAll := os.Getenv("PARTD_ALL_LAYERS") != ""
			if c.h.fs != nil || c.h.maxBatch > 0 || runAll {
				run = partdtest.Run
			}
			newDir := func(*testing.T) string { return fmt.Sprintf("/%d", len(dirs)) }
			opts := &partdtest.Options{
				Require:       abilities,
				InternalNames: []string{"MANIFEST", "LOCK", "wal-0", "seg-00000001", "blob-00000001"},
				Reopen: func(t *testing.T, s partd.Partd) partd.Partd {
					if err := partd.Close(t.Context(), s); err != nil && !errors.Is(err, partd.ErrClosed) {
						t.Fatal(err)
					}
					return openIn(t, dirs[s])
				},
			}
			if c.h.fs != nil {
				newDir = func(t *testing.T) string { return t.TempDir() }
				opts.Dir = func(s partd.Partd) string { return dirs[s] }
				if !runAll {
					opts.MachineRuns, opts.Parts = 20, 16_000 // a disk is slow
				}
			} else {
				c.h.fs = vfstest.NewMem()
				if !runAll {
					opts.MachineRuns, opts.Parts = 50, 2000 // the default store scans more
				}
			}
			run(t, func(t *testing.T) partd.Partd { return openIn(t, newDir(t)) }, opts)
		})
	}
}

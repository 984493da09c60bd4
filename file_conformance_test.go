package partd_test

import (
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/partdtest"
)

// TestFileKeepsPromises runs the suite on a plain store, on one with Sync, and
// on one that may keep only two files open; of the last two all of it in CI only,
// since it takes many files and syncs.
func TestFileKeepsPromises(t *testing.T) {
	for name, opts := range map[string]*partd.FileOptions{
		"plain":    nil,
		"sync":     {Sync: true},
		"two open": {MaxOpenFiles: 2},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := map[partd.Partd]string{}
			openIn := func(t *testing.T, dir string) partd.Partd {
				f, err := partd.OpenFile(dir, opts)
				if err != nil {
					t.Fatal(err)
				}
				dirs[f] = dir
				return f
			}
			run := []partdtest.Option{
				partdtest.Require(
					partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen,
					partdtest.CanScan, partdtest.CanStat, partdtest.CanSync, partdtest.CanApply, partdtest.CanClose,
				),
				partdtest.Dir(func(store partd.Partd) string { return dirs[store] }),
				partdtest.Reopen(func(t *testing.T, store partd.Partd) partd.Partd {
					if err := store.(*partd.File).Close(); err != nil {
						t.Fatal(err)
					}
					return openIn(t, dirs[store])
				}),
				partdtest.OwnNames(".lock", "%undo", "%sessions", "%tmp", "%2Elock", "%", "%h", "%k", "%25undo"),
				partdtest.LargeValue(8 << 20),
			}
			if opts != nil && opts.Sync { // each operation waits for the disk
				run = append(run, partdtest.MachineRuns(5), partdtest.Pieces(5))
			}
			store := func(t *testing.T) partd.Partd { return openIn(t, t.TempDir()) }
			all := os.Getenv("PARTD_REQUIRE_ALL") != ""
			if !all {
				run = append([]partdtest.Option{partdtest.MachineRuns(25)}, run...)
			}
			if opts != nil && !all {
				partdtest.StateMachine(t, store, run...)
				return
			}
			partdtest.Run(t, store, run...)
		})
	}
}

package partd_test

import (
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/partdtest"
)

// TestFileKeepsPromises runs the conformance suite, which needs many files and syncs. Therefore, stores with options
// run only its state machine, unless PARTD_REQUIRE_ALL is set.
func TestFileKeepsPromises(t *testing.T) {
	for name, opts := range map[string]*partd.FileOptions{
		"plain":      nil,
		"sync":       {Sync: true},
		"max open 2": {MaxOpenFiles: 2},
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
			run := &partdtest.Options{
				Require: []partdtest.Ability{
					partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen,
					partdtest.CanScan, partdtest.CanStat, partdtest.CanSync, partdtest.CanApply, partdtest.CanClose,
				},
				Dir: func(store partd.Partd) string { return dirs[store] },
				Reopen: func(t *testing.T, store partd.Partd) partd.Partd {
					if err := store.(*partd.File).Close(); err != nil {
						t.Fatal(err)
					}
					return openIn(t, dirs[store])
				},
				InternalNames: []string{".lock", "%undo", "%sessions", "%tmp", "%2Elock", "%", "%h", "%k", "%25undo"},
				LargeValue:    8 << 20,
			}
			all := os.Getenv("PARTD_REQUIRE_ALL") != ""
			if !all {
				run.MachineRuns = 25
			}
			if opts != nil && opts.Sync { // each operation waits for the disk
				run.MachineRuns, run.Pieces = 5, 5
			}
			newStore := func(t *testing.T) partd.Partd { return openIn(t, t.TempDir()) }
			if opts != nil && !all {
				partdtest.StateMachine(t, newStore, run)
				return
			}
			partdtest.Run(t, newStore, run)
		})
	}
}

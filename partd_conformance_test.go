package partd_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/partdtest"
)

func TestMain(m *testing.M) { procs.Main(m) }

// dictAbilities lists the abilities that all stores in this file must have.
var dictAbilities = []partdtest.Ability{
	partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList,
	partdtest.CanScan, partdtest.CanStat, partdtest.CanClose,
}

// withoutSessions is for Buffer, which is not an Applier.
var withoutSessions = []partdtest.Ability{partdtest.CanApply}

func TestDictKeepsPromises(t *testing.T) {
	partdtest.Run(t, func(*testing.T) partd.Partd { return partd.NewDict() },
		&partdtest.Options{Require: append(dictAbilities, partdtest.CanApply)})
}

// TestBufferKeepsPromises runs the conformance suite with three budgets: one so small that nearly
// every append flushes, a medium one, and one that is never reached. For the last one, it runs only the
// state machine unless PARTD_ALL_LAYERS is set.
func TestBufferKeepsPromises(t *testing.T) {
	for name, memory := range map[string]int64{"1KiB": 1 << 10, "2MiB": 2 << 20, "1GiB": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			run := partdtest.Run
			if memory == 1<<30 && os.Getenv("PARTD_ALL_LAYERS") == "" {
				run = partdtest.StateMachine
			}
			run(t, func(t *testing.T) partd.Partd {
				return newBuffer(t, partd.NewDict(), partd.NewDict(), memory)
			}, &partdtest.Options{Require: append(dictAbilities, partdtest.CanOpen, partdtest.CanFlush), Without: withoutSessions})
		})
	}
}

func TestBufferOverBufferKeepsPromises(t *testing.T) {
	partdtest.Run(t, func(t *testing.T) partd.Partd {
		fast := newBuffer(t, partd.NewDict(), partd.NewDict(), 64<<10)
		return newBuffer(t, fast, partd.NewDict(), 1<<20)
	}, &partdtest.Options{Require: append(dictAbilities, partdtest.CanOpen, partdtest.CanFlush), Without: withoutSessions})
}

func newBuffer(t *testing.T, fast, slow partd.Partd, memory int64) partd.Partd {
	return must.Get(partd.NewBuffer(fast, slow, &partd.BufferOptions{Memory: memory}))(t)
}

// TestFileKeepsPromises runs the conformance suite, which needs many files and syncs. Therefore, stores with options
// run only its state machine, unless PARTD_ALL_LAYERS is set.
func TestFileKeepsPromises(t *testing.T) {
	for name, opts := range map[string]*partd.FileOptions{
		"plain":      nil,
		"sync":       {Sync: true},
		"max open 2": {MaxOpenFiles: 2},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := map[partd.Partd]string{}
			openIn := func(t *testing.T, dir string) partd.Partd {
				f := must.Get(partd.OpenFile(dir, opts))(t)
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
					must.Do(t, store.(*partd.File).Close())
					return openIn(t, dirs[store])
				},
				InternalNames: []string{".lock", "%undo", "%sessions", "%tmp", "%2Elock", "%", "%h", "%k", "%25undo"},
				LargeValue:    8 << 20,
			}
			all := os.Getenv("PARTD_ALL_LAYERS") != ""
			if !all {
				run.MachineRuns = 15
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

// TestFileRefusesForeignDirectories checks that OpenFile rejects and does not change paths that are not stores.
func TestFileRefusesForeignDirectories(t *testing.T) {
	base := t.TempDir()
	home := filepath.Join(base, "home")
	must.Do(t, os.Mkdir(home, 0o777))
	letter := filepath.Join(home, "letter")
	must.Do(t, os.WriteFile(letter, []byte("dear"), 0o666))
	link := filepath.Join(base, "link")
	empty := t.TempDir()
	must.Do(t, os.Symlink(empty, link))
	for _, c := range []struct {
		dir  string
		opts *partd.FileOptions
		want []string // parts of the error's text
	}{
		{home, nil, []string{home, "not empty", ".lock"}},
		{letter, nil, []string{letter, "file"}},
		{link, nil, []string{link, "symbolic link"}},
		{link + string(filepath.Separator), nil, []string{"symbolic link"}},
		{"", nil, []string{"empty"}},
		{base, &partd.FileOptions{MaxOpenFiles: -1}, []string{"MaxOpenFiles"}},
	} {
		_, err := partd.OpenFile(c.dir, c.opts)
		for _, want := range c.want {
			must.Fail(t, err, want, "OpenFile(%q)", c.dir)
		}
	}
	for dir, want := range map[string]int{home: 1, empty: 0} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != want {
			t.Errorf("%s contains %v (error %v), want %d files", dir, entries, err, want)
		}
	}
}

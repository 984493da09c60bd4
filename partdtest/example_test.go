package partdtest_test

import (
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/partdtest"
)

// A store of one's own, or a layer over one, is checked by one call in a test.
func ExampleRun() {
	var t *testing.T // of func TestMyStore(t *testing.T)

	partdtest.Run(t, func(*testing.T) partd.Partd {
		return partd.NewDict() // the store to be checked: an empty one
	}, nil)
}

// What the store must be able to do is required; what it has on disk is looked
// for again after closing and opening it.
func ExampleRun_options() {
	var t *testing.T // of func TestMyStore(t *testing.T)

	dirs := map[partd.Partd]string{}
	open := func(t *testing.T, dir string) partd.Partd {
		store, err := partd.OpenFile(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		dirs[store] = dir
		return store
	}
	partdtest.Run(t,
		func(t *testing.T) partd.Partd { return open(t, t.TempDir()) },
		&partdtest.Options{
			Require:  []partdtest.Ability{partdtest.CanDelete, partdtest.CanScan, partdtest.CanClose},
			Dir:      func(store partd.Partd) string { return dirs[store] },
			OwnNames: []string{".lock"},
			Reopen: func(t *testing.T, store partd.Partd) partd.Partd {
				if err := partd.Close(t.Context(), store); err != nil {
					t.Fatal(err)
				}
				return open(t, dirs[store])
			},
		})
}

// The state machine alone, for tests that have their own way to break things.
func ExampleStateMachine() {
	var t *testing.T // of func TestMyStore(t *testing.T)

	partdtest.StateMachine(t, func(*testing.T) partd.Partd { return partd.NewDict() }, nil)
}

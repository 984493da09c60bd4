package partdtest_test

import (
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/partdtest"
)

// A single call in a test checks your own store or layer.
func ExampleRun() {
	var t *testing.T // the parameter of func TestMyStore(t *testing.T)

	partdtest.Run(t, func(*testing.T) partd.Partd {
		return partd.NewDict() // a new, empty store to check
	}, nil)
}

// Require lists the abilities that the store must have. Reopen lets Run check that data survives
// closing and reopening the store.
func ExampleRun_options() {
	var t *testing.T // the parameter of func TestMyStore(t *testing.T)

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
			Require:       []partdtest.Ability{partdtest.CanDelete, partdtest.CanScan, partdtest.CanClose},
			Dir:           func(store partd.Partd) string { return dirs[store] },
			InternalNames: []string{".lock"},
			Reopen: func(t *testing.T, store partd.Partd) partd.Partd {
				if err := partd.Close(t.Context(), store); err != nil {
					t.Fatal(err)
				}
				return open(t, dirs[store])
			},
		})
}

// Use only the state machine in tests that inject their own faults.
func ExampleStateMachine() {
	var t *testing.T // the parameter of func TestMyStore(t *testing.T)

	partdtest.StateMachine(t, func(*testing.T) partd.Partd { return partd.NewDict() }, nil)
}

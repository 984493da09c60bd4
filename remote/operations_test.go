package remote

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
)

// Each operation either changes the store or has a service, and no other has one.
func TestServices(t *testing.T) {
	for op := range operation(255) {
		_, err := op.service().prepare(&conn{server: &Server{}}, request{op: op}, &decoder{})
		served, want := !errors.Is(err, ErrBadRequest), op >= opHello && op <= lastOperation && !op.mutates()
		if served != want {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// The operations that change the store bear the names of the changes.
func TestMutations(t *testing.T) {
	for change, name := range map[partd.Change]string{
		partd.ChangeAppend: "append", partd.ChangeSet: "set", partd.ChangeSetOnce: "set once", partd.ChangeDelete: "delete", partd.ChangeDrop: "drop",
	} {
		if op := mutation(change); op.String() != name || !op.mutates() || op.change() != change {
			t.Errorf("change %d is the operation %s, want %s", change, op, name)
		}
	}
}

package remote

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
)

// Each operation either changes the store or has a service. Unknown operations have none.
func TestServices(t *testing.T) {
	for op := range operation(255) {
		s := op.service()
		if (s.needs == 0) != (op == opHello) {
			t.Errorf("%s needs the rights %q", op, s.needs)
		}
		if s.prepare == nil {
			if !op.mutates() {
				t.Errorf("%s has no service", op)
			}
			continue
		}
		_, err := s.prepare(&conn{server: &Server{}}, request{op: op}, &decoder{})
		served, want := !errors.Is(err, ErrBadRequest), op >= opHello && op <= lastOperation && !op.mutates()
		if served != want {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// Operations that change the store have the names of the changes.
func TestMutations(t *testing.T) {
	for change, name := range map[partd.Change]string{
		partd.ChangeAppend: "append", partd.ChangeSet: "set", partd.ChangeSetOnce: "set once", partd.ChangeDelete: "delete", partd.ChangeDrop: "drop",
	} {
		if op := mutation(change); op.String() != name || !op.mutates() || op.change() != change {
			t.Errorf("change %d is the operation %s, want %s", change, op, name)
		}
	}
}

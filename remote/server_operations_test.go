package remote

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
)

// TestServices checks that each operation has a service, or is unknown and refused.
func TestServices(t *testing.T) {
	for op := range operation(255) {
		s := op.service()
		if (s.needs == 0) != (op == opHello) {
			t.Errorf("%s needs the rights %q, want some for every operation except hello", op, s.needs)
		}
		_, err := s.prepare(&conn{server: &Server{}}, request{op: op}, &decoder{})
		isServed, want := !errors.Is(err, ErrBadRequest), op >= opHello && op <= lastOperation && op != 23
		if isServed != want {
			t.Errorf("the service of %s returned %v, want ErrBadRequest: %t", op, err, !want)
		}
	}
}

func TestMutations(t *testing.T) {
	for change, name := range map[partd.Change]string{
		partd.ChangeAppend: "append", partd.ChangeSet: "set", partd.ChangeSetOnce: "set once", partd.ChangeDelete: "delete", partd.ChangeDrop: "drop",
	} {
		if op := mutation(change); op.String() != name || !op.isChange() || op.change() != change {
			t.Errorf("mutation(%d) = %s, want %s", change, op, name)
		}
	}
}

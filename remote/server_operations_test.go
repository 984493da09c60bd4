package remote

import (
	"errors"
	"testing"
)

// TestServices checks that each operation has a service, or is unknown and refused.
func TestServices(t *testing.T) {
	for op := range operation(255) {
		s := op.service()
		if (s.anyOf == 0) != (op == opHello) {
			t.Errorf("%s needs the rights %q, want some for every operation except hello", op, s.anyOf)
		}
		_, err := s.prepare(&conn{server: &Server{}}, request{op: op}, &decoder{})
		isServed, want := !errors.Is(err, ErrBadRequest), op >= opHello && op <= lastOperation && op != 23
		if isServed != want {
			t.Errorf("the service of %s returned %v, want ErrBadRequest: %t", op, err, !want)
		}
	}
}

package sessiontab

import (
	"errors"
	"testing"

	"github.com/go-partd/partd/internal/base/storeerror"
)

func TestIsNext(t *testing.T) {
	last := Operation{Number: 7, CRC: 70}
	for _, c := range []struct {
		op   Operation
		want bool
		err  error
	}{
		{Operation{8, 80}, true, nil},
		{Operation{8, 70}, true, nil},
		{Operation{9, 90}, false, storeerror.ErrSessionGap},
		{Operation{7, 70}, false, nil},
		{Operation{7, 71}, false, storeerror.ErrSessionReused},
		{Operation{6, 71}, false, nil}, // its CRC is no longer known
	} {
		if got, err := last.IsNext(5, c.op); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("IsNext(5, %v) after %v = %v, %v, want %v, %v", c.op, last, got, err, c.want, c.err)
		}
	}
}

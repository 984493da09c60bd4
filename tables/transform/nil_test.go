package transform_test

import (
	"testing"

	"github.com/go-partd/partd/tables/tablestest"
	"github.com/go-partd/partd/tables/transform"
)

// No options name no table, which is an error.
func TestNilOptions(t *testing.T) {
	s := tablestest.Open(t, nil)
	for name, err := range map[string]error{
		"clean":    second(transform.Clean(t.Context(), s, nil)),
		"combine":  second(transform.Combine(t.Context(), s, nil)),
		"resample": second(transform.Resample(t.Context(), s, nil)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second(_ transform.Result, err error) error { return err }

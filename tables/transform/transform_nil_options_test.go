package transform_test

import (
	"testing"

	"github.com/go-partd/partd/tables/tablestest"
	"github.com/go-partd/partd/tables/transform"
)

// TestNilOptions checks that nil options, which name no table, cause an error.
func TestNilOptions(t *testing.T) {
	s := tablestest.Open(t, nil)
	for name, err := range map[string]error{
		"clean":    errorOf(transform.Clean(t.Context(), s, nil)),
		"combine":  errorOf(transform.Combine(t.Context(), s, nil)),
		"resample": errorOf(transform.Resample(t.Context(), s, nil)),
	} {
		if err == nil {
			t.Errorf("%s with nil options returned no error", name)
		}
	}
}

func errorOf(_ transform.Result, err error) error { return err }

package shards_test

import (
	"context"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/shards"
)

func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{"Shards": new(shards.Shards), "Error": new(shards.Error)}, "Close", "Unwrap")
	ctx, errOf, names := t.Context(), func(_ any, err error) error { return err }, []string{"a", "b"}
	open := func(context.Context, string) (partd.Partd, error) { return nil, nil }
	dict := partd.NewDict()
	storetest.CheckErrors(t, map[string]func() error{
		"New(nil)":                     func() error { return errOf(shards.New(nil, nil)) },
		"New with a nil store":         func() error { return errOf(shards.New(names, []partd.Partd{dict, nil})) },
		"Open(nil)":                    func() error { return errOf(shards.Open(ctx, nil, open)) },
		"Open with a nil function":     func() error { return errOf(shards.Open(ctx, names, nil)) },
		"Open that opens nil stores":   func() error { return errOf(shards.Open(ctx, names, open)) },
		"Adopt with a nil function":    func() error { return shards.Adopt(ctx, names, nil, "a") },
		"Adopt that opens a nil store": func() error { return shards.Adopt(ctx, names, open, "a") },
		"CheckNames(nil)":              func() error { return shards.CheckNames(nil) },
		"Has(nil)": func() error {
			s, err := shards.New([]string{"a"}, []partd.Partd{dict})
			if err != nil {
				t.Error(err)
			}
			return errOf(s.Has(ctx, nil))
		},
	})
}

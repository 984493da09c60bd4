package stores_test

import (
	"context"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/stores"
)

// TestZeroValues checks that a zero Set has this package's schemes, and an incomplete Scheme returns errors.
func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Set": new(stores.Set), "Set(nil)": (*stores.Set)(nil), "URLError": new(stores.URLError),
		"a zero Scheme": stores.NewSet(stores.Scheme{}),
	}, "Unwrap")
	ctx, errOf := t.Context(), func(_ any, err error) error { return err }
	open := func(context.Context, string, map[string]string) (partd.Partd, error) { return nil, nil }
	exists := func(string, map[string]string) (bool, error) { return true, nil }
	storetest.CheckErrors(t, map[string]func() error{
		"Open without a URL":   func() error { return errOf(stores.Open(ctx, "")) },
		"Exists without a URL": func() error { return errOf(stores.Exists("")) },
		"a Scheme without Open": func() error {
			return errOf(stores.NewSet(stores.Scheme{Name: "s9"}).Open(ctx, "s9://a", nil))
		},
		"a Scheme without Exists": func() error {
			return errOf(stores.NewSet(stores.Scheme{Name: "s9", Open: open}).Exists("s9://a"))
		},
		"a Scheme whose store is nil": func() error {
			return errOf(stores.NewSet(stores.Scheme{Name: "s9", Open: open, Exists: exists}).Open(ctx, "s9://a", nil))
		},
	})
	set := stores.NewSet(stores.Scheme{Name: "s9", Open: open, Exists: exists, Options: []stores.Option{{Name: "x"}}})
	if exists, err := set.Exists("s9://a?x=1"); !exists || err != nil {
		t.Errorf("Exists with an option without Check = %v, %v, want true", exists, err)
	}
	if store, err := new(stores.Set).Open(ctx, "mem:", nil); err != nil {
		t.Errorf("Open(mem:) with a zero Set = %v, %v, want a store", store, err)
	}
}

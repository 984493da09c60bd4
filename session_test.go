package partd

import (
	"context"
	"errors"
	"testing"
)

func TestHelpersOnABareStore(t *testing.T) {
	ctx := context.Background()
	store := struct{ Partd }{NewDict()}
	must(t, store.Append(ctx, Entry{"k", []byte("v")}))
	errs := map[string]error{
		"Set": Set(ctx, store, "k", nil), "SetOnce": SetOnce(ctx, store, "k", nil), "Delete": Delete(ctx, store, "k"),
		"Flush": Flush(ctx, store), "Sync": Sync(ctx, store), "Close": Close(ctx, store),
	}
	_, errs["Pop"] = Pop(ctx, store, "k")
	_, errs["Stat"] = Stat(ctx, store)
	_, errs["Apply"] = Apply(ctx, store, Tag{Session: 1, Number: 1}, Operation{})
	for _, err := range Keys(ctx, store) {
		errs["Keys"] = err
	}
	for _, err := range Scan(ctx, store) {
		errs["Scan"] = err
	}
	if len(errs) != 11 {
		t.Errorf("%d helpers were called, want 11", len(errs))
	}
	for name, err := range errs {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: error %v, want an error that wraps errors.ErrUnsupported", name, err)
		}
	}
	r, err := Open(ctx, store, "k")
	must(t, err)
	must(t, r.Close())
}

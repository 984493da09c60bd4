package objstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/zerovalues"
	"github.com/go-partd/partd/objstore"
)

func TestZeroValues(t *testing.T) {
	zerovalues.Check(t, map[string]any{
		"Store": new(objstore.Store), "Counter": new(objstore.Counter), "NewCounter(nil)": objstore.NewCounter(nil),
		"Directory": new(objstore.Directory), "Job": objstore.Job{},
	}, "Close")
	zerovalues.Check(t, map[string]any{"Memory": new(objstore.Memory)}, "*")
	ctx, errorOf := t.Context(), func(_ any, err error) error { return err }
	callPlan := func(j objstore.Job) func() error { return func() error { return errorOf(j.Plan()) } }
	zerovalues.CheckErrors(t, map[string]func() error{
		"Open(nil)":                func() error { return errorOf(objstore.Open(ctx, nil, nil)) },
		"Open of a zero Counter":   func() error { return errorOf(objstore.Open(ctx, new(objstore.Counter), nil)) },
		"Open of a zero Directory": func() error { return errorOf(objstore.Open(ctx, new(objstore.Directory), nil)) },
		"Exists(nil)":              func() error { return errorOf(objstore.Exists(ctx, nil)) },
		"Retry(nil)":               func() error { return objstore.Retry(ctx, time.Second, 0, nil, nil) },
		"OpenDirectory(\"\")":      func() error { return errorOf(objstore.OpenDirectory("")) },
		"a job without readers":    callPlan(objstore.Job{Writers: 1, Bytes: 1 << 30, EntryBytes: 100}),
		"a job without writers":    callPlan(objstore.Job{Readers: 1, Bytes: 1 << 30, EntryBytes: 100}),
		"a job without bytes":      callPlan(objstore.Job{Writers: 1, Readers: 1, EntryBytes: 100}),
		"a job of empty entries":   callPlan(objstore.Job{Writers: 1, Readers: 1, Bytes: 1 << 30}),
	})
	if err := new(objstore.Store).Append(ctx, partd.Entry{Key: "a", Value: []byte("1")}); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("Append() to a zero Store: error = %v, want %v", err, partd.ErrClosed)
	}
}

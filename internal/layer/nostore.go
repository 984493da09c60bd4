// Package layer provides a store that fails, for layers that were created without a store.
package layer

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// ErrNoStore is wrapped by the errors from a layer that was created without a store.
var ErrNoStore = fmt.Errorf("there is no store beneath the layer: %w", storeerror.ErrNotOpened)

// StoreOrFailing returns store. If store is nil, it returns a store whose operations all fail.
func StoreOrFailing(store partd.Partd) partd.Partd {
	if store == nil {
		return noStore{}
	}
	return store
}

type noStore struct{}

func (noStore) Append(context.Context, ...partd.Entry) error {
	return &partd.Error{Op: "append", Err: ErrNoStore}
}

func (noStore) Get(context.Context, ...string) ([][]byte, error) {
	return nil, &partd.Error{Op: "get", Err: ErrNoStore}
}

func (noStore) Drop(context.Context) error { return &partd.Error{Op: "drop", Err: ErrNoStore} }

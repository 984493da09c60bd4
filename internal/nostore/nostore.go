// Package nostore provides a store for layers that were created without one.
package nostore

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// Err is wrapped by the error of every operation.
var Err = fmt.Errorf("there is no store beneath the layer: %w", storeerror.ErrNotOpened)

// Or returns store. If store is nil, it returns a store whose operations all fail.
func Or(store partd.Partd) partd.Partd {
	if store == nil {
		return none{}
	}
	return store
}

type none struct{}

func (none) Append(context.Context, ...partd.Entry) error {
	return &partd.Error{Op: "append", Err: Err}
}

func (none) Get(context.Context, ...string) ([][]byte, error) {
	return nil, &partd.Error{Op: "get", Err: Err}
}

func (none) Drop(context.Context) error { return &partd.Error{Op: "drop", Err: Err} }

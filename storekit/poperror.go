package storekit

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/layer"
)

// PopError is the error for a Pop that removed values and then could not decode or join them. It
// holds the only copy of the values.
type PopError struct {
	Keys   []string
	Values [][]byte // the stored bytes, in the order of Keys
	Err    error

	store partd.Partd // a Layer sets it to the store beneath
}

func (e *PopError) Error() string {
	return fmt.Sprintf("removed %d keys, but cannot decode their values, which this error keeps: %v", len(e.Keys), e.Err)
}

// Unwrap returns the cause.
func (e *PopError) Unwrap() error { return e.Err }

// Restore appends the values to their keys again, after the values that others have appended since. Servers use it,
// because their answers cannot carry the values. It fails unless the error is from the Pop of a [Layer].
func (e *PopError) Restore(ctx context.Context) error {
	entries := make([]partd.Entry, 0, len(e.Keys))
	isAdded := make(map[string]bool, len(e.Keys)) // each duplicate of a key has the same value
	for i, key := range e.Keys {
		if !isAdded[key] {
			isAdded[key] = true
			entries = append(entries, partd.Entry{Key: key, Value: e.Values[i]})
		}
	}
	return layer.StoreOrFailing(e.store).Append(ctx, entries...)
}

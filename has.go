package partd

import (
	"context"
	"errors"
	"io"
)

// Haser is a store that can look up a key without reading its value.
type Haser interface {
	// HasKey reports whether the key exists.
	HasKey(ctx context.Context, key string) (bool, error)
}

// Has reports whether a key exists; see [Haser]. If the store is not a Haser, Has opens the key.
// If the value is empty, Has lists all keys, because an existing key can have an empty value.
func Has(ctx context.Context, store Partd, key string) (bool, error) {
	if s, ok := store.(Haser); ok {
		return s.HasKey(ctx, key)
	}
	r, err := Open(ctx, store, key)
	if err != nil {
		return false, err
	}
	n, err := io.ReadFull(r, make([]byte, 1))
	if err == io.EOF {
		err = nil
	}
	if err = errors.Join(err, r.Close()); n > 0 || err != nil {
		return err == nil, err
	}
	for info, err := range Keys(ctx, store) {
		if err != nil || info.Key == key {
			return err == nil, err
		}
	}
	return false, nil
}

// Package storekit helps to write stores and layers for package partd and programs that serve
// stores. Programs that only use stores do not need it. Package partdtest tests stores and layers.
package storekit

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/layer"
)

// CheckEntries returns the total length of the values in bytes, or an error that wraps
// [partd.ErrTooLarge] if the batch exceeds [partd.MaxKeyLen], [partd.MaxValueLen] or
// [partd.MaxBatchLen]. op names the operation in the error.
func CheckEntries(op string, entries []partd.Entry) (valueBytes int64, err error) {
	valueBytes, tooLarge := storeerror.CheckEntries(op, entries)
	return valueBytes, limitError(tooLarge)
}

// CheckKeys returns an error that wraps [partd.ErrTooLarge] if a key exceeds [partd.MaxKeyLen].
func CheckKeys(op string, keys []string) error { return limitError(storeerror.CheckKeys(op, keys)) }

// CheckPart returns an error unless parts is between 1 and [partd.MaxParts] and part is in
// [0, parts).
func CheckPart(part, parts int) error { return limitError(storeerror.CheckPart(part, parts)) }

func limitError(err *storeerror.Error) error {
	if err == nil {
		return nil
	}
	return (*partd.Error)(err)
}

// ContextError returns nil while ctx is active. After that, it returns an error that wraps
// ctx.Err() and the context's cause. Return this error from operations that stopped before they
// changed anything. It never wraps [partd.ErrUnknownOutcome], even if the cause does.
func ContextError(ctx context.Context) error { return canceled.Err(ctx) }

// QuoteKey returns a key as a Go string literal, for use in messages. It omits the middle of a long
// key.
func QuoteKey(key string) string { return storeerror.QuoteKey(key) }

// NewSessionToken derives a session's token from a secret of the store. It helps to implement
// [partd.SessionGuard].
func NewSessionToken(secret []byte, session uint64) partd.SessionToken {
	return sessiontab.NewToken(secret, session)
}

// Layers yields a store, the store beneath it, and so on, down to a store that is not a layer.
func Layers(store partd.Partd) iter.Seq[partd.Partd] {
	return func(yield func(partd.Partd) bool) {
		for layer, ok := store.(partd.Unwrapper); yield(store) && ok; layer, ok = store.(partd.Unwrapper) {
			store = layer.Unwrap()
		}
	}
}

// Rewinder is a reader that can start again. Some readers returned by [partd.Open] implement it.
// After Rewind, the reader yields the same value again, even if the key has changed.
type Rewinder interface {
	Rewind() error
}

// ReaderMemory returns the memory that an open reader of the store and a listing of its keys use, in
// bytes. A store can report both by implementing a method ReaderMemory with these results. For other
// stores, ReaderMemory returns rough estimates.
func ReaderMemory(store partd.Partd) (reader, listing int64) {
	if s, ok := store.(interface {
		ReaderMemory() (reader, listing int64)
	}); ok {
		return s.ReaderMemory()
	}
	return 64 << 10, 1 << 20
}

// ErrorPaths returns the file paths in an error and its causes, longest first and without duplicates. A server can
// remove them, in this order, from the errors that it sends to clients.
func ErrorPaths(err error) []string {
	paths := appendPaths(nil, err)
	slices.SortFunc(paths, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	return slices.DeleteFunc(slices.Compact(paths), func(path string) bool { return path == "" })
}

func appendPaths(paths []string, err error) []string {
	switch e := err.(type) { //nolint:errorlint // appendPaths unwraps the causes itself
	case *partd.Error:
		paths = append(paths, e.Path)
	case *partd.CorruptError:
		paths = append(paths, e.Path)
	case *fs.PathError:
		paths = append(paths, e.Path)
	case *os.LinkError:
		paths = append(paths, e.Old, e.New)
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		paths = appendPaths(paths, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			paths = appendPaths(paths, cause)
		}
	}
	return paths
}

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

// Restore appends the values to their keys again, after any values that others have appended since. Servers use it,
// because their replies cannot carry the values. It fails unless the error is from the Pop of a [Layer].
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

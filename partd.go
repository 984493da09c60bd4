// Package partd stores bytes under keys and appends to them.
//
// It is the store under a shuffle: many writers append small pieces to many
// keys, then each key is read back once, whole. A store is anything that
// implements [Partd]. Abilities beyond its three methods are optional interfaces,
// each with a helper function that takes any store, as in package io/fs; on a
// store that lacks the ability it falls back to others, or returns an error that
// wraps errors.ErrUnsupported.
//
//   - [Dict] is memory, [File] a directory with a file per key, shared with
//     Python's partd, and [Buffer] memory in front of a slower store
//   - logstore is the store for very many small appends, and many keys
//   - remote shares a store between processes, and shards spreads one over several
//   - stores opens any of these by a URL
//   - compress and encode are layers: compression, and values of Go types
//   - frame takes the pieces of a value apart again
//   - shuffle sorts, groups and aggregates more records than fit in memory
//   - partdtest checks a store of your own
//   - cmd/partd and cmd/partd-server are the command line and the server
//
// # Promises
//
// Every store and every layer keeps these; package partdtest checks them.
//
//   - Keys and values are any bytes. A key of 0 to [MaxKeyLen] bytes works on
//     every store, no two keys share data, and none escapes the store.
//   - A store is safe for concurrent use. A key's value is its appends in
//     order; an Append that returned before another began comes first.
//   - For each key, Get sees whole appends, never a part of one. Across keys it
//     is no snapshot.
//   - Nothing given to Append is kept by reference, a key no more than a value:
//     either may be a part of a buffer that is used again. What Get returns
//     belongs to the caller.
//   - An Append that failed has changed nothing, unless its error wraps
//     [ErrUnknownOutcome]: only then may a retry double.
//   - After Drop returned, nothing earlier is ever seen again.
//   - The error of an operation that its context ended wraps ctx.Err() and
//     [context.Cause]: see [ContextError].
//
// An empty append changes nothing: it does not make a key. A key exists once a
// byte was appended to it, or once it was set, be it to an empty value. [Keys]
// tells which exist; Get returns an empty value for one that does not.
package partd

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Limits that hold for every store.
const (
	// MaxKeyLen is the length of the longest key, in bytes.
	MaxKeyLen = 1<<16 - 1
	// MaxValueLen is the length of the longest value that one Append or Set
	// takes, in bytes. The value of a key, made of many appends, may be longer.
	MaxValueLen = 1<<31 - 1
	// MaxBatchLen is the largest sum of the keys' and values' lengths of one
	// Append, in bytes.
	MaxBatchLen = 1<<32 - 1
)

// Entry is a value to append to a key.
type Entry struct {
	Key   string
	Value []byte
}

// Partd is a store of bytes under keys.
type Partd interface {
	// Append adds each entry's value to the end of its key's value, in slice
	// order; a key may be given twice. It is all or nothing.
	Append(ctx context.Context, entries ...Entry) error
	// Get returns the value of each key, in the order asked. A key never
	// appended to has an empty value.
	Get(ctx context.Context, keys ...string) ([][]byte, error)
	// Drop removes every key.
	Drop(ctx context.Context) error
}

// Entries returns the entries of a map, sorted by key. The values are not
// copied.
func Entries(m map[string][]byte) []Entry {
	entries := make([]Entry, 0, len(m))
	for k, v := range m {
		entries = append(entries, Entry{Key: k, Value: v})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}

// CheckEntries is for those who write stores: it reports whether a batch keeps to
// [MaxKeyLen], [MaxValueLen] and [MaxBatchLen], and returns the sum of the
// lengths of its values in bytes. Its error wraps [ErrTooLarge].
func CheckEntries(op string, entries []Entry) (valueBytes int64, err error) {
	var keyBytes int64
	for i := range entries {
		e := &entries[i]
		if len(e.Key) > MaxKeyLen || len(e.Value) > MaxValueLen {
			return 0, tooLarge(op, e.Key, len(e.Value))
		}
		keyBytes += int64(len(e.Key))
		valueBytes += int64(len(e.Value))
	}
	if keyBytes+valueBytes > MaxBatchLen {
		return 0, &Error{Op: op, Err: fmt.Errorf(
			"%w: a batch of %d entries holds %d bytes, the limit is %d: append it in parts",
			ErrTooLarge, len(entries), keyBytes+valueBytes, int64(MaxBatchLen))}
	}
	return valueBytes, nil
}

// CheckKeys is for those who write stores: it reports whether each key keeps to
// [MaxKeyLen]. Its error wraps [ErrTooLarge].
func CheckKeys(op string, keys []string) error {
	for _, k := range keys {
		if len(k) > MaxKeyLen {
			return tooLarge(op, k, 0)
		}
	}
	return nil
}

// CheckOperation is for those who write stores that are an [Applier]: it reports
// whether an operation, with its tag, is one that a store can apply.
func CheckOperation(tag Tag, op Operation) error {
	if tag.Session == 0 || tag.Number == 0 {
		return &Error{Op: "apply", Err: fmt.Errorf("session %d, operation %d: both are numbered from 1", tag.Session, tag.Number)}
	}
	switch op.Change {
	case ChangeAppend:
		_, err := CheckEntries("append", op.Entries)
		return err
	case ChangeSet, ChangeSetOnce:
		if len(op.Entries) != 1 {
			return &Error{Op: "apply", Err: fmt.Errorf("a set has one entry, not %d", len(op.Entries))}
		}
		_, err := CheckEntries("set", op.Entries)
		return err
	case ChangeDelete:
		return CheckKeys("delete", op.Keys)
	case ChangeDrop:
		return nil
	}
	return errUnknownChange
}

func tooLarge(op, key string, valueLen int) error {
	if len(key) > MaxKeyLen {
		return &Error{Op: op, Key: key, HasKey: true, Err: fmt.Errorf(
			"%w: the key has %d bytes, the limit is %d", ErrTooLarge, len(key), MaxKeyLen)}
	}
	return &Error{Op: op, Key: key, HasKey: true, Err: fmt.Errorf(
		"%w: the value has %d bytes, the limit is %d: append it in parts", ErrTooLarge, valueLen, MaxValueLen)}
}

// Package partd stores bytes under keys and appends to them.
//
// It is made for shuffles: many writers append small pieces to many keys, and then
// each key's whole value is read once. A store is anything that implements
// [Partd]. Further abilities are optional interfaces. As in package io/fs, each has
// a helper function that takes any store. If the store lacks the ability, the helper
// falls back to other methods or returns an error that wraps errors.ErrUnsupported.
//
//   - [Dict] stores data in memory; [File] stores it in a directory with a file per
//     key, which Python's partd can share; [Buffer] puts memory in front of a slower
//     store
//   - logstore stores very many small appends to many keys
//   - remote shares a store between processes; shards combines several stores
//   - stores opens any of these by a URL
//   - compress and encode are layers: compression, and values of Go types
//   - frame splits a value into its pieces
//   - shuffle sorts, groups and aggregates more records than fit in memory
//   - partdtest tests your own store; storekit helps to write it
//   - cmd/partd and cmd/partd-server are the command line and the server
//
// # Promises
//
// Every store and every layer keeps these promises; package partdtest checks them.
//
//   - Keys and values are arbitrary bytes. Keys of 0 to [MaxKeyLen] bytes work on
//     every store, no two keys share data, and no key reaches outside the store.
//   - A store is safe for concurrent use. A key's value is its appends in order;
//     an Append that returned before another began comes first.
//   - For each key, Get sees whole appends, never a part of one. It is not a
//     snapshot across keys.
//   - Append keeps no reference to its keys and values, so the caller may reuse
//     their memory. What Get returns belongs to the caller.
//   - A failed Append has changed nothing, unless its error wraps
//     [ErrUnknownOutcome]. Only then may a retry append twice.
//   - After Drop returns, earlier data is never seen again.
//   - If a context ends an operation, the error wraps ctx.Err() and
//     [context.Cause].
//
// An empty append changes nothing and creates no key. A key exists once a byte was appended to it,
// or once it was set, even to an empty value. [Keys] lists the existing keys; Get returns an empty
// value for any other key. A layer's Close must also close the store beneath it, because callers
// hold only the layer.
//
// docs/dev/invariants.md lists what must hold in Dict, File and Buffer (D1 to D5, F1 to F8, B1 to B6).
package partd

import (
	"context"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/storeerror"
)

const (
	// MaxKeyLen is the maximum length of a key, in bytes.
	MaxKeyLen = 1<<16 - 1
	// MaxValueLen is the maximum length of a value that one Append or Set accepts,
	// in bytes. Many appends can make a key's value longer.
	MaxValueLen = 1<<31 - 1
	// MaxBatchLen is the maximum total length of the keys and values of one Append, in bytes.
	MaxBatchLen = 1<<32 - 1
)

// These declarations do not compile if a limit differs from the one that storeerror checks.
var (
	_ [0]struct{} = [MaxKeyLen - storeerror.MaxKeyLen]struct{}{}
	_ [0]struct{} = [MaxValueLen - storeerror.MaxValueLen]struct{}{}
	_ [0]struct{} = [MaxBatchLen - storeerror.MaxBatchLen]struct{}{}
	_ [0]struct{} = [MaxParts - storeerror.MaxParts]struct{}{}
)

// Entry is a value to append to a key.
type Entry struct {
	Key   string
	Value []byte
}

// Partd is a store of bytes under keys.
type Partd interface {
	// Append adds each entry's value to the end of its key's value, in slice order. Keys may
	// repeat. Append is all or nothing.
	Append(ctx context.Context, entries ...Entry) error
	// Get returns the value of each key, in the order of keys. The value of a key
	// that does not exist is empty.
	Get(ctx context.Context, keys ...string) ([][]byte, error)
	// Drop removes every key.
	Drop(ctx context.Context) error
}

// Entries returns the entries in a map, sorted by key. It does not copy the values.
func Entries(m map[string][]byte) []Entry {
	entries := make([]Entry, 0, len(m))
	for k, v := range m {
		entries = append(entries, Entry{Key: k, Value: v})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}

func checkEntries(op string, entries []Entry) (valueBytes int64, err error) {
	valueBytes, tooLarge := storeerror.CheckEntries(op, entries)
	return valueBytes, limitError(tooLarge)
}

func checkKeys(op string, keys []string) error { return limitError(storeerror.CheckKeys(op, keys)) }

func checkPart(part, parts int) error { return limitError(storeerror.CheckPart(part, parts)) }

func limitError(err *storeerror.Error) error {
	if err == nil {
		return nil
	}
	return (*Error)(err)
}

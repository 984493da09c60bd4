// Package objstore keeps a store in a bucket of an object store, S3, Google Cloud
// Storage or what behaves like them, which many processes share without a server of
// partd's own. Package objstore/cloud has the clouds' buckets; [Memory] and
// [Directory] are here.
//
// Appends gather in memory, and are uploaded as segments that nobody sees yet. Flush,
// Sync and Close make all of them count at once, by one object that must not exist
// before: the next one of a log. So order across processes counts from Flush on, and
// what survives a process is what Flush returned nil for. Every read flushes first,
// and then reads the log to its end. docs/format.md in the repository describes the
// objects.
//
// Pop and Apply are not supported. Nothing is merged: what Set and Delete replaced
// stays in the bucket until [Store.Drop].
package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Object is what a listing tells of an object.
type Object struct {
	Name     string
	Size     int64     // in bytes
	Modified time.Time // by the clock of the bucket
}

// Bucket is what a store needs of an object store. Objects are never changed.
// Any number of goroutines and of processes use it at the same time.
type Bucket interface {
	// Create makes an object, whole, unless there is one of the name, as one atomic
	// step; then its error wraps io/fs.ErrExist. An error that wraps [ErrRefused] says
	// that nothing was made, and that trying again is of no use. After any other
	// error, nobody knows whether it was made: it is tried again under the same name.
	// So S3's 409 ConditionalRequestConflict is neither of the two.
	Create(ctx context.Context, name string, data []byte) error
	// ReadRange returns length bytes of an object from an offset, less where it ends
	// before, or all that follows if length is negative. The error for an object that
	// is not there wraps io/fs.ErrNotExist.
	ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// List yields the objects whose names begin with a prefix and are greater than
	// after, in the order of their names' bytes. It may lag behind.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// ErrRefused is wrapped by the error of a bucket for what it will never do: a right
// that is missing, a bucket that is not there.
var ErrRefused = errors.New("the bucket refuses")

// place names an object for messages, with its bucket where that has a name.
func place(b Bucket, name string) string {
	if s, ok := b.(fmt.Stringer); ok {
		return s.String() + "/" + name
	}
	return name
}

// Package objstore implements a store in a bucket of an object store: S3, Google Cloud Storage
// or a compatible service. Many processes can share it without a partd server. Package
// objstore/cloud opens the clouds' buckets; this package has [Memory] and [Directory].
//
// Appends are buffered in memory and uploaded as segments that readers do not see yet. Flush,
// Sync and Close commit all of them at once, by creating the next object of a log. The creation
// fails if the object already exists. So flushes order the changes of all processes, and a
// process that dies loses only changes that no successful Flush covers. Every read flushes
// first, then reads the log to its end. docs/dev/format.md in the repository describes the objects.
//
// Pop and Apply are not supported. Segments are never merged: values that a Set or Delete
// discarded stay in the bucket until [Store.Drop].
//
// docs/dev/invariants.md in the repository lists what must hold (O1 to O11).
package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Object describes an object of a bucket.
type Object struct {
	Name     string
	Size     int64     // in bytes
	Modified time.Time // according to the bucket's clock
}

// Bucket is the interface of an object store. Objects never change. A Bucket must be safe for
// concurrent use, and several processes may use the same objects.
type Bucket interface {
	// Create creates an object in one atomic step. If the name exists, the error wraps
	// io/fs.ErrExist. If nothing was created and retrying is useless, the error must wrap
	// [ErrRefused]. After any other error, such as S3's 409 ConditionalRequestConflict, it is
	// unknown whether the object exists, and the store retries with the same name.
	Create(ctx context.Context, name string, data []byte) error
	// ReadRange returns length bytes of an object from offset, or fewer if the object ends
	// earlier. If length is negative, it returns all bytes to the object's end. The error for
	// a missing object wraps io/fs.ErrNotExist.
	ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// List yields the objects whose names begin with prefix and are greater than after, in
	// bytewise order of the names. It may miss recent changes.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
	// Delete removes an object. A missing object is not an error.
	Delete(ctx context.Context, name string) error
}

// ErrRefused is wrapped by a bucket's error for a request that can never succeed, because
// the bucket or a permission is missing.
var ErrRefused = errors.New("the bucket refuses the request")

// objectPath returns the path of an object for messages. The path includes the bucket's name if b is
// a fmt.Stringer.
func objectPath(b Bucket, name string) string {
	if s, ok := b.(fmt.Stringer); ok {
		return s.String() + "/" + name
	}
	return name
}

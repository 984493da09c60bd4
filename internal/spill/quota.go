package spill

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/go-partd/partd"
)

// Quota limits the total size of temporary files. The zero value only counts their bytes; a nil
// Quota does nothing.
type Quota struct{ limit, used atomic.Int64 }

// Process is the quota of this process's temporary files.
var Process Quota

// SetLimit sets the limit in bytes. 0 means no limit.
func (q *Quota) SetLimit(n int64) { q.limit.Store(n) }

// Take adds n bytes to the count. If the count would exceed the limit, Take leaves it unchanged
// and returns an error that wraps [partd.ErrTooLarge].
func (q *Quota) Take(n int64) error {
	if q == nil {
		return nil
	}
	if used, limit := q.used.Add(n), q.limit.Load(); limit > 0 && used > limit {
		q.used.Add(-n)
		return fmt.Errorf("temporary files would have %d bytes, but the limit is %d: try again later: %w", used, limit, partd.ErrTooLarge)
	}
	return nil
}

// Release subtracts n bytes from the count.
func (q *Quota) Release(n int64) {
	if q != nil {
		q.used.Add(-n)
	}
}

// Writer writes a temporary file, and counts its bytes in a quota until Release.
type Writer struct {
	io.WriteCloser
	Quota *Quota
	size  int64
}

func (w *Writer) Write(p []byte) (int, error) {
	n := int64(len(p))
	if err := w.Quota.Take(n); err != nil {
		return 0, err
	}
	w.size += n
	return w.WriteCloser.Write(p)
}

// Release subtracts the file's bytes from the quota. The file must have been removed.
func (w *Writer) Release() {
	w.Quota.Release(w.size)
	w.size = 0
}

package spill

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/go-partd/partd"
)

// Quota limits the total size of temporary files. The zero value has no limit; a nil Quota
// does nothing.
type Quota struct{ limit, used atomic.Int64 }

// Process is the quota for all temporary files of this process.
var Process Quota

// SetLimit sets the limit in bytes. 0 means no limit.
func (q *Quota) SetLimit(n int64) { q.limit.Store(n) }

// Take adds n bytes to the used size. If that would exceed the limit, Take adds nothing and
// returns an error that wraps [partd.ErrTooLarge].
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

// Release subtracts n bytes from the used size.
func (q *Quota) Release(n int64) {
	if q != nil {
		q.used.Add(-n)
	}
}

// Writer writes a temporary file, whose bytes count against a quota until Release.
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

// Release releases the file's bytes. The caller must have removed the file.
func (w *Writer) Release() {
	w.Quota.Release(w.size)
	w.size = 0
}

package sorted

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/take"
)

// Chunks yields the rows of batches, which it releases, in batches of so many rows
// but for the last; 0 leaves them as they are.
func Chunks(batches Batches, rows int64) Batches {
	if rows <= 0 {
		return batches
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		var held []arrow.RecordBatch
		var n int64
		defer func() { take.Release(held) }()
		hand := func() bool {
			chunk, err := take.Concat(held)
			take.Release(held)
			held, n = nil, 0
			return yield(chunk, err) && err == nil
		}
		for b, err := range batches {
			if err != nil {
				yield(nil, err)
				return
			}
			for from := int64(0); from < b.NumRows(); {
				upTo := min(b.NumRows(), from+rows-n)
				held = append(held, b.NewSlice(from, upTo))
				n += upTo - from
				from = upTo
				if n == rows && !hand() {
					b.Release()
					return
				}
			}
			b.Release()
		}
		if n > 0 {
			hand()
		}
	}
}

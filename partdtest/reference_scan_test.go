package partdtest

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/go-partd/partd"
)

// pause gives others the time to come between.
func pause() { time.Sleep(50 * time.Microsecond) }

// Scan yields chunks of 4 KiB, in a buffer that each chunk uses again.
func (r *reference) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		if r.fault == "lists and claims Scan" {
			yield(partd.Chunk{}, errors.ErrUnsupported)
			return
		}
		values, err := r.snapshot(ctx)
		if err != nil {
			yield(partd.Chunk{}, err)
			if r.fault == "Scan goes on after an error" {
				yield(partd.Chunk{}, err)
			}
			return
		}
		switch r.fault {
		case "Scan leaks a goroutine":
			go func() { <-make(chan struct{}) }()
		case "Scan breaks the store":
			r.disk.mu.Lock()
			defer func() { // an early break leaves the lock behind
				if values == nil {
					r.disk.mu.Unlock()
				}
			}()
		}
		buf := make([]byte, 4096)
		for k, v := range values {
			if r.fault == "Scan hides empty values" && len(v) == 0 {
				continue
			}
			for off, last := 0, false; !last; {
				n := copy(buf, v[off:])
				last = off+n == len(v)
				c := partd.Chunk{Key: k, Offset: int64(off), Data: buf[:n], Last: last}
				switch r.fault {
				case "Scan misses Last":
					c.Last = false
				case "Scan has Last twice":
					c.Last = true
				case "Scan has wrong offsets":
					c.Offset = 0
				case "Scan swallows the end":
					if last && off > 0 {
						c.Data = c.Data[:n-1]
					}
				}
				if !yield(c, nil) {
					return
				}
				off += n
			}
		}
		values = nil
	}
}

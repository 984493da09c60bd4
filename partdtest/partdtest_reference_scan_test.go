package partdtest

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

func pause() { time.Sleep(50 * time.Microsecond) }

// Scan yields chunks of 4 KiB in a buffer that it reuses.
func (r *reference) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return r.scan(ctx, func(string) bool { return true })
}

// ScanPart divides the keys by a hash.
func (r *reference) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	if err := storekit.CheckPart(part, parts); err != nil && r.fault != "ScanPart accepts any number" {
		return func(yield func(partd.Chunk, error) bool) {
			if yield(partd.Chunk{}, err) && r.fault == "ScanPart continues after a wrong number" {
				yield(partd.Chunk{Key: "a", Last: true}, nil)
			}
		}
	}
	salt, calls := "", r.calls.Add(1)
	if r.fault == "ScanPart divides differently each time" {
		salt = fmt.Sprint(calls)
	}
	return r.scan(ctx, func(key string) bool {
		h := fnv.New32a()
		_, _ = io.WriteString(h, salt+key)
		sum := int(h.Sum32() >> 8)
		n := parts
		switch r.fault {
		case "ScanPart accepts any number":
			return part >= 0
		case "ScanPart omits a key":
			if parts > 1 && sum%64 == 0 {
				return false
			}
		case "ScanPart counts parts in 16 bits":
			n = int(uint16(parts))
			if n == 0 {
				return false
			}
		case "ScanPart puts all into one part":
			sum = 0
		case "ScanPart has a key in two parts":
			if sum%64 == 0 && (sum+1)%n == part {
				return true
			}
		}
		return sum%n == part
	})
}

func (r *reference) scan(ctx context.Context, wanted func(key string) bool) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		values, err := r.snapshot(ctx)
		if err != nil {
			yield(partd.Chunk{}, err)
			if r.fault == "Scan continues after an error" {
				yield(partd.Chunk{}, err)
			}
			return
		}
		switch r.fault {
		case "Scan leaks a goroutine":
			go func() { <-make(chan struct{}) }()
		case "Scan breaks the store":
			r.disk.mu.Lock()
			defer func() { // after an early break, the store stays locked
				if values == nil {
					r.disk.mu.Unlock()
				}
			}()
		}
		buf := make([]byte, 4096)
		for k, v := range values {
			if r.fault == "Scan hides empty values" && len(v) == 0 || !wanted(k) {
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

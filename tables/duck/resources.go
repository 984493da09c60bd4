//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// resources holds what the queries of an Engine share.
type resources struct {
	opts       Options
	dir        string        // directory for temporary files
	slots      chan struct{} // has one element for each running query
	pool       *pool
	scratch    scratch
	statements preparedCache

	mu            sync.Mutex
	borrowedBytes int64 // bytes that queries borrowed from the shared half of Options.Total
}

// share returns the memory that each query has without borrowing, in bytes.
func (r *resources) share() int64 {
	if r.opts.Total == 0 {
		return r.opts.Memory
	}
	return r.opts.Total / 2 / int64(r.opts.Queries)
}

// borrow borrows bytes from the shared half of Options.Total, but at most half of the bytes that are unused there. It
// returns the number of bytes borrowed. Together with its share, a query may then use limit, a half of limit, a quarter
// of limit and so on. There are only a few such limits, because only queries with equal limits can run in the same
// database.
func (r *resources) borrow(limit int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; limit > r.share(); limit /= 2 {
		if n := limit - r.share(); n <= (r.opts.Total/2-r.borrowedBytes)/2 {
			r.borrowedBytes += n
			return n
		}
	}
	return 0
}

// giveBackMemory gives back n bytes that borrow returned.
func (r *resources) giveBackMemory(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.borrowedBytes -= n
}

// maxWait is about as long as it takes to start a process.
const maxWait = 100 * time.Millisecond

// permits are for statements whose callers have other running statements. With a permit, such a statement runs with
// normal priority and may use databases that have run a statement. Therefore, only a few have a permit at a time.
type permits struct {
	held chan struct{} // has one element for each permit that is held

	mu   sync.Mutex
	last time.Time // when a permit was last given
}

// await waits for a permit. It reports whether the statement has one. A statement whose caller has no other running
// statements needs none. After maxWait, await returns false. It does not wait if all permits have been held for that
// long, because their statements may run for hours.
func (p *permits) await(ctx context.Context) bool {
	if !worker.HasOtherJobs(ctx) {
		return false
	}
	p.mu.Lock()
	wait := max(0, maxWait-time.Since(p.last))
	p.mu.Unlock()
	select {
	case p.held <- struct{}{}:
	default:
		select {
		case p.held <- struct{}{}:
		case <-ctx.Done():
			return false
		case <-time.After(wait):
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	return true
}

func (p *permits) end() { <-p.held }

//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// maxWait is about the time to start a process.
const maxWait = 100 * time.Millisecond

// permits are for statements whose callers have other running statements. With a permit, such a statement runs with
// normal priority, and may use databases that have run a statement. Therefore, few have a permit at a time.
type permits struct {
	held chan struct{} // has one element for each permit that is held

	mu   sync.Mutex
	last time.Time // when a permit was last given
}

// await waits for a permit, and reports whether the statement has one. A statement whose caller has no other running
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

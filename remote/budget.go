package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-partd/partd"
)

// budget is memory that all connections share. Who wants more than there is
// waits for a time.
type budget struct {
	limit   int64
	patient time.Duration

	mu    sync.Mutex
	used  int64
	given chan struct{} // closed when some is given back and somebody waits
}

// take takes bytes, and waits for them as long as ctx and patience allow.
func (b *budget) take(ctx context.Context, bytes int64) error {
	if b.tryTake(bytes) {
		return nil
	}
	if bytes > b.limit {
		return fmt.Errorf("%w: it takes %d bytes of the server's memory, which has %d", partd.ErrTooLarge, bytes, b.limit)
	}
	ctx, cancel := context.WithTimeout(ctx, b.patient)
	defer cancel()
	for {
		b.mu.Lock()
		if b.used+bytes <= b.limit {
			b.used += bytes
			b.mu.Unlock()
			return nil
		}
		if b.given == nil {
			b.given = make(chan struct{})
		}
		given, used := b.given, b.used
		b.mu.Unlock()
		select {
		case <-given:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d bytes more, %d of %d are in use", ErrBusy, bytes, used, b.limit)
		}
	}
}

func (b *budget) tryTake(bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+bytes > b.limit {
		return false
	}
	b.used += bytes
	return true
}

func (b *budget) give(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
	if b.given != nil {
		close(b.given)
		b.given = nil
	}
}

// connBudget is the part of one connection.
type connBudget struct {
	*budget
	ctx context.Context
}

// Take takes bytes for what arrives.
func (c connBudget) Take(bytes int64) error { return c.take(c.ctx, bytes) }

// Give gives them back.
func (c connBudget) Give(bytes int64) { c.give(bytes) }

// allowance is what an answer being made holds of the budget.
type allowance struct {
	budget *budget
	ctx    context.Context
	held   int64
}

// free is what each answer has without asking.
const free = 16 << 10

// hold makes the allowance so many bytes.
func (a *allowance) hold(bytes int64) error {
	if bytes -= free; bytes <= a.held {
		return nil
	}
	if err := a.budget.take(a.ctx, bytes-a.held); err != nil {
		return err
	}
	a.held = bytes
	return nil
}

// force makes it so many bytes, there or not: they are in use already.
func (a *allowance) force(bytes int64) {
	if bytes -= free; bytes > a.held {
		a.budget.mu.Lock()
		a.budget.used += bytes - a.held
		a.budget.mu.Unlock()
		a.held = bytes
	}
}

func (a *allowance) release() {
	if a.held > 0 {
		a.budget.give(a.held)
		a.held = 0
	}
}

package flightd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
)

// putRows allocates what the batches of one put are decompressed to. All puts
// share a quarter of the budget: the rest is for messages, which nobody can make
// wait for rows. Where there is none for too long it panics, which Arrow's readers
// return as an error.
type putRows struct {
	all   *budget
	ctx   context.Context // of the call; an Allocator's methods have none
	used  int64           // under the budget's mu
	ended bool
	mu    sync.Mutex // is held while it waits
}

func (b *budget) rows(ctx context.Context) *putRows { return &putRows{all: b, ctx: ctx} }

// Allocate is memory.Allocator's, as are the two below.
func (r *putRows) Allocate(n int) []byte {
	r.take(int64(n))
	return memory.DefaultAllocator.Allocate(n)
}

// Reallocate holds both while it copies.
func (r *putRows) Reallocate(n int, was []byte) []byte {
	r.take(int64(n))
	defer r.give(int64(len(was)))
	return memory.DefaultAllocator.Reallocate(n, was)
}

// Free gives back.
func (r *putRows) Free(was []byte) {
	r.give(int64(len(was)))
	memory.DefaultAllocator.Free(was)
}

// most is how many bytes one put may have.
func (r *putRows) most() int64 { return r.all.limit / 4 }

// take waits for its turn and for n bytes.
func (r *putRows) take(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, most := r.all, r.most()
	b.mu.Lock()
	used := r.used
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	defer r.leaveQueue()
	if used+n > most {
		panic(fmt.Errorf("the batches take %d bytes more once they are decompressed, over the limit of %d: send smaller ones: %w", n, most, partd.ErrTooLarge))
	}
	for late := time.Now().Add(b.patience); !r.tryTake(n, most); {
		if time.Now().After(late) {
			if c, ok := r.ctx.Value(callKey{}).(*call); ok {
				c.cancel(errMemory) // which gives the call its code
			}
			panic(errMemory)
		}
		select {
		case <-r.ctx.Done():
			panic(context.Cause(r.ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *putRows) leaveQueue() {
	b := r.all
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(o *putRows) bool { return o == r })
}

func (r *putRows) tryTake(n, most int64) bool {
	b := r.all
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[0] != r || b.rowsUsed+n > most || b.used.Load()+n > b.limit {
		return false
	}
	r.change(n)
	return true
}

func (r *putRows) give(n int64) {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if !r.ended {
		r.change(-n)
	}
}

func (r *putRows) change(n int64) {
	r.used += n
	r.all.rowsUsed += n
	r.all.used.Add(n)
}

// end gives back what is left: what the store keeps of it is in its own bound.
func (r *putRows) end() {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.change(-r.used)
	r.ended = true
}

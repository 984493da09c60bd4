package objstore

import (
	"context"
)

// pass is one step of reading. Either load is set, which reads data into memory, or stream is set,
// which reads and processes data that does not fit in memory.
type pass struct {
	load   func(ctx context.Context) *loadedInterval
	stream func(ctx context.Context) error
	done   chan *loadedInterval // receives the result of load
}

// run executes passes. It loads the next pass while process handles the previous one. A pass with
// stream runs alone, because it needs all of the memory.
func (sc *scanner) run(
	ctx context.Context, nextPass func() *pass, process func(context.Context, *loadedInterval) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	start := func() *pass {
		p := nextPass()
		if p != nil && p.load != nil {
			p.done = make(chan *loadedInterval, 1)
			go func() { p.done <- p.load(ctx) }()
		}
		return p
	}
	next := start()
	defer func() {
		cancel()
		if next != nil && next.load != nil {
			(<-next.done).release()
		}
	}()
	for next != nil {
		p := next
		next = nil
		if p.load == nil {
			if err := p.stream(ctx); err != nil {
				return err
			}
			next = start()
			continue
		}
		l := <-p.done
		next = start()
		err := l.err
		if err == nil {
			err = process(ctx, l)
		}
		l.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// readInPasses yields the keys of an interval. It splits the interval into parts that fit the budget,
// and reads each part from all segments before the next.
func (sc *scanner) readInPasses(ctx context.Context, iv interval) error {
	lo, isDone := iv.lo, false
	nextPass := func() *pass {
		if isDone {
			return nil
		}
		part, bytes, tooLarge := sc.view.nextInterval(lo, iv.hi, sc.budget)
		lo, isDone = part.hi+1, part.hi == iv.hi
		if tooLarge {
			return &pass{stream: func(ctx context.Context) error { return sc.scanWide(ctx, sc.eachEntry, part) }}
		}
		return &pass{load: func(ctx context.Context) *loadedInterval {
			return sc.loadAll(ctx, 0, len(sc.view.segments), part, bytes)
		}}
	}
	return sc.run(ctx, nextPass, sc.emit)
}

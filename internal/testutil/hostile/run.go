package hostile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Target is the server under attack.
type Target struct {
	Network, Address string
	Patience         time.Duration // time limit for the server to answer, and to drop a slow peer
}

// Report describes how a server handled a run of conversations.
type Report struct {
	Conversations  int64
	Duration       time.Duration
	HonestRequests int64         // correctly answered requests of an honest peer
	Slowest        time.Duration // the longest time for three honest requests and, sometimes, a new connection
	LongestStall   time.Duration // the longest time for which this machine did not run a ready goroutine
	// values of the honest peer that other peers removed; mutated requests can do this by chance
	MissingValues int64
}

// Run holds n conversations with the server, up to concurrency of them at the same time. They are
// mutations of honest conversations, selected by the seed. At the same time, an honest peer stores
// and reads values on old and new connections. The server must answer every three requests of this
// peer within answerIn, not counting stalls of this machine. Run returns the first error. Unless
// progress is nil, Run calls it every 10,000 conversations.
func Run(ctx context.Context, t *Target, n int64, concurrency int, seed uint64, answerIn time.Duration, progress func(done int64)) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var r Report
	start := time.Now()
	var done atomic.Int64
	var wg sync.WaitGroup
	for range concurrency {
		wg.Go(func() {
			for {
				i := done.Add(1)
				if i > n || ctx.Err() != nil {
					return
				}
				if err := newConversation(seed, uint64(i)).hold(ctx, t); err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("conversation %d of seed %d: %w", i, seed, err))
					return
				}
				if progress != nil && i%10_000 == 0 {
					progress(i)
				}
			}
		})
	}
	stop, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		if err := r.beHonest(ctx, t, seed, answerIn, stop); err != nil {
			cancel(err)
		}
	}()
	wg.Wait()
	close(stop)
	<-served
	r.Conversations, r.Duration = min(done.Load(), n), time.Since(start)
	return r, context.Cause(ctx)
}

// beHonest is the honest peer: it stores and reads values until stop is closed.
func (r *Report) beHonest(ctx context.Context, t *Target, seed uint64, answerIn time.Duration, stop <-chan struct{}) error {
	rnd := rand.New(rand.NewPCG(seed, 1<<63))
	stalls := watchStalls(stop)
	var p *Peer
	defer func() {
		if p != nil {
			_ = p.Close()
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return nil // Run returns the cause
		case <-time.After(time.Millisecond):
		}
		if p != nil && i%50 == 0 {
			if err := p.Close(); err != nil {
				return err
			}
			p = nil
		}
		patience := 10 * answerIn
		start, stalledBefore := time.Now(), stalls.total()
		if p == nil {
			var err error
			if p, err = Open(ctx, t.Network, t.Address, patience); err != nil {
				return fmt.Errorf("an honest peer cannot connect: %w", err)
			}
		} else if err := p.conn.SetDeadline(start.Add(patience)); err != nil {
			return err
		}
		key, value := fmt.Sprint("honest ", i%100), fmt.Sprint(rnd.Uint64())
		err := p.Ask([]string{"ack"}, "append", key, value)
		var values []string
		if err == nil {
			values, err = p.Get(key)
		}
		if err == nil {
			err = p.Ask([]string{"ack"}, "delete", key)
		}
		if err != nil {
			return fmt.Errorf("a request of an honest peer failed: %w", err)
		}
		elapsed := time.Since(start)
		if excused := stalls.total() - stalledBefore; elapsed-excused > answerIn {
			return fmt.Errorf("an honest peer waited %v for three requests, including %v of stalls of this machine; want at most %v plus stalls", elapsed, excused, answerIn)
		}
		switch values[0] {
		case value:
		case "":
			r.MissingValues++
		default:
			return errors.New("an honest peer stored " + value + " but reads " + values[0])
		}
		r.HonestRequests += 3
		r.Slowest, r.LongestStall = max(r.Slowest, elapsed), stalls.max()
	}
}

// stallMeter measures stalls of this machine: how late a goroutine runs after its timer has expired.
type stallMeter struct{ sum, longest atomic.Int64 }

func (m *stallMeter) total() time.Duration { return time.Duration(m.sum.Load()) }
func (m *stallMeter) max() time.Duration   { return time.Duration(m.longest.Load()) }

func watchStalls(stop <-chan struct{}) *stallMeter {
	const interval, tolerance = 5 * time.Millisecond, 20 * time.Millisecond
	m := new(stallMeter)
	go func() {
		for {
			start := time.Now()
			select {
			case <-stop:
				return
			case <-time.After(interval):
			}
			if delay := time.Since(start) - interval; delay > tolerance {
				m.sum.Add(int64(delay))
				m.longest.Store(max(m.longest.Load(), int64(delay)))
			}
		}
	}()
	return m
}

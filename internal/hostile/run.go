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

// Report says how a server bore a number of conversations.
type Report struct {
	Conversations int64
	Took          time.Duration
	Honest        int64         // requests that an honest peer made meanwhile, all answered right
	Slowest       time.Duration // the longest that three of them, and a new connection, took
	Held          time.Duration // the longest that this machine kept a process waiting that had something to do
	Missing       int64         // of its values some peer removed so many: an allowed drop is one bit away from another operation
}

// Run holds n conversations with the server, some at a time, chosen by the seed:
// the named ones that are not slow now and then, mutations of honest ones else.
// Meanwhile an honest peer stores and reads, on one connection and on new ones,
// and its requests must be answered within the time given, less that for which
// the machine let nobody work. An error says what it saw; progress, which may be
// nil, is called every now and then.
func Run(ctx context.Context, t *Target, n int64, atOnce int, seed uint64, answerIn time.Duration, progress func(done int64)) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var r Report
	start := time.Now()
	var done atomic.Int64
	var wg sync.WaitGroup
	cases := Cases()
	for range atOnce {
		wg.Go(func() {
			for {
				i := done.Add(1)
				if i > n || ctx.Err() != nil {
					return
				}
				if err := one(ctx, t, cases, seed, uint64(i)); err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("conversation %d of seed %d: %w", i, seed, err))
					return
				}
				if progress != nil && i%10_000 == 0 {
					progress(i)
				}
			}
		})
	}
	served := make(chan error, 1)
	stop := make(chan struct{})
	go func() { served <- r.beHonest(ctx, t, seed, answerIn, stop) }()
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	select {
	case <-finished:
	case err := <-served:
		cancel(err)
		<-finished
		served <- err
	}
	close(stop)
	err := <-served
	r.Conversations, r.Took = min(done.Load(), n), time.Since(start)
	if cause := context.Cause(ctx); cause != nil && err == nil {
		err = cause
	}
	return r, err
}

// one holds one conversation. That the server refuses it, or closes it, is as it
// should be; that it cannot be reached is an error.
func one(ctx context.Context, t *Target, cases []Case, seed, i uint64) error {
	rnd := rand.New(rand.NewPCG(seed, i+1<<40))
	if rnd.IntN(200) == 0 {
		c := cases[rnd.IntN(len(cases))]
		if c.Slow || c.Number == 29 || c.Number == 30 || c.Number == 50 { // these take their time, or room from others
			return nil
		}
		if err := c.Run(ctx, t); err != nil {
			return fmt.Errorf("case %d, %s: %w", c.Number, c.Name, err)
		}
		return nil
	}
	return made(seed, i).hold(ctx, t)
}

// beHonest stores and reads until stop is closed.
func (r *Report) beHonest(ctx context.Context, t *Target, seed uint64, answerIn time.Duration, stop <-chan struct{}) error {
	rnd := rand.New(rand.NewPCG(seed, 1<<63))
	held := watchMachine(stop)
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
			return nil // Run knows why
		case <-time.After(time.Millisecond):
		}
		if p != nil && i%50 == 0 {
			if err := p.Close(); err != nil {
				return err
			}
			p = nil
		}
		patience := 10 * answerIn
		began, heldBefore := time.Now(), held.all()
		if p == nil {
			var err error
			if p, err = Open(ctx, t.Network, t.Address, patience); err != nil {
				return fmt.Errorf("an honest peer cannot connect: %w", err)
			}
		} else if err := p.conn.SetDeadline(began.Add(patience)); err != nil {
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
			return fmt.Errorf("an honest peer is not served: %w", err)
		}
		took := time.Since(began)
		if excused := held.all() - heldBefore; took-excused > answerIn {
			return fmt.Errorf("an honest peer was served after %v, of which the machine is to blame for %v", took, excused)
		}
		switch values[0] {
		case value:
		case "":
			r.Missing++
		default:
			return errors.New("an honest peer stored " + value + " and reads " + values[0])
		}
		r.Honest += 3
		r.Slowest, r.Held = max(r.Slowest, took), held.most()
	}
}

// machine measures how late a goroutine gets to run that wants to.
type machine struct{ sum, longest atomic.Int64 }

func (m *machine) all() time.Duration  { return time.Duration(m.sum.Load()) }
func (m *machine) most() time.Duration { return time.Duration(m.longest.Load()) }

func watchMachine(stop <-chan struct{}) *machine {
	const nap, usual = 5 * time.Millisecond, 20 * time.Millisecond
	m := new(machine)
	go func() {
		for {
			before := time.Now()
			select {
			case <-stop:
				return
			case <-time.After(nap):
			}
			if late := time.Since(before) - nap; late > usual {
				m.sum.Add(int64(late))
				m.longest.Store(max(m.longest.Load(), int64(late)))
			}
		}
	}()
	return m
}

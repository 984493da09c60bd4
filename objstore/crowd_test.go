package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/objstore/internal/plan"
)

// distant is a bucket of which requests take as long as S3's, in the time of a bubble: a
// request to create, to read and to list takes some 100, 40 and 80 ms. It makes ten objects of
// the log a second, and refuses more requests a second than S3 does for one prefix.
type distant struct {
	Bucket
	log  turn // to make an object of the log
	last time.Time
	mu   sync.Mutex
	in   time.Time // a second
	puts int
	gets int
}

func newDistant(b Bucket) *distant { return &distant{Bucket: b, log: make(turn, 1)} }

var errSlowDown = errors.New("503 SlowDown")

// half waits for half of what a request takes.
func half(ctx context.Context, whole time.Duration) error {
	d := whole/2 - whole/8 + rand.N(whole/4)
	if rand.IntN(100) == 0 {
		d *= 5
	}
	return canceled.Wait(ctx, time.After(d))
}

func (d *distant) rate(count *int, most int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if second := time.Now().Truncate(time.Second); !second.Equal(d.in) {
		d.in, d.puts, d.gets = second, 0, 0
	}
	if *count++; *count > most {
		return errSlowDown
	}
	return nil
}

func (d *distant) Create(ctx context.Context, name string, data []byte) error {
	if err := half(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	err := d.rate(&d.puts, 3500)
	if err == nil && strings.HasPrefix(name, "log/") {
		err = d.createLog(ctx, name, data)
	} else if err == nil {
		err = d.Bucket.Create(ctx, name, data)
	}
	return errors.Join(err, half(ctx, 100*time.Millisecond))
}

func (d *distant) createLog(ctx context.Context, name string, data []byte) error {
	if err := d.log.lock(ctx); err != nil {
		return err
	}
	defer d.log.unlock()
	if r, err := d.Bucket.ReadRange(ctx, name, 0, 0); err == nil {
		return errors.Join(d.Bucket.Create(ctx, name, data), r.Close())
	}
	if err := canceled.Wait(ctx, time.After(100*time.Millisecond-time.Since(d.last))); err != nil {
		return err
	}
	d.last = time.Now()
	return d.Bucket.Create(ctx, name, data)
}

func (d *distant) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := half(ctx, 40*time.Millisecond); err != nil {
		return nil, err
	}
	if err := d.rate(&d.gets, 5500); err != nil {
		return nil, err
	}
	r, err := d.Bucket.ReadRange(ctx, name, offset, length)
	return r, errors.Join(err, half(ctx, 40*time.Millisecond))
}

func (d *distant) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		err := half(ctx, 80*time.Millisecond)
		if err == nil {
			err = d.rate(&d.gets, 5500)
		}
		if err != nil {
			yield(Object{}, err)
			return
		}
		for o, err := range d.Bucket.List(ctx, prefix, after) {
			if !yield(o, err) {
				return
			}
		}
	}
}

// crowd has writers flush at the same moment, and returns how long that takes, and their
// requests.
func crowd(t *testing.T, writers int, h hooks) (took time.Duration, r Requests) {
	synctest.Test(t, func(t *testing.T) {
		h.inline = -1 // each has a segment
		mem := new(Memory)
		c := Count(newDistant(mem))
		stores := make([]*Store, writers)
		var wg sync.WaitGroup
		for w := range stores {
			// No more at once, so that S3 does not say 503.
			s, err := Open(t.Context(), mem, &Options{Memory: MinMemory, SegmentSize: 1, hooks: h})
			if err != nil {
				t.Fatal(err)
			}
			s.bucket = c
			stores[w] = s
			for i := range 3 {
				e := partd.Entry{Key: "all", Value: fmt.Appendf(nil, "%d.%d;", w, i)}
				if err := s.Append(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
		}
		began := time.Now()
		for _, s := range stores {
			wg.Go(func() {
				if err := s.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		took, r = time.Since(began), c.Requests()
		for _, s := range stores {
			s.bucket = mem
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		s, err := Open(t.Context(), mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		v, err := s.Get(t.Context(), "all")
		if err != nil {
			t.Fatal(err)
		}
		pieces := map[string]int{} // of each writer
		for piece := range strings.SplitSeq(strings.TrimSuffix(string(v[0]), ";"), ";") {
			w, i, _ := strings.Cut(piece, ".")
			if i != fmt.Sprint(pieces[w]) {
				t.Errorf("%s follows %d pieces of its writer", piece, pieces[w])
			}
			pieces[w]++
		}
		if len(pieces) != writers || len(v[0]) == 0 {
			t.Errorf("pieces of %d writers, want %d", len(pieces), writers)
		}
	})
	return took, r
}

// 1,000 flushes at the same moment do not queue for ten numbers of the log a second, and cost
// what is planned.
func TestManyFlushesAtOnce(t *testing.T) {
	for _, c := range []struct {
		writers int
		alone   bool
		least   time.Duration
		most    time.Duration
	}{
		{1, false, 0, 2 * time.Second},
		{10, false, 0, 5 * time.Second},
		{100, false, 0, 10 * time.Second},
		{1000, false, 0, 15 * time.Second},
		{100, true, 10 * time.Second, time.Hour},
	} {
		took, r := crowd(t, c.writers, hooks{alone: c.alone})
		t.Logf("%d writers, alone %v: %.1f s, %v", c.writers, c.alone, took.Seconds(), r)
		if took < c.least || took > c.most {
			t.Errorf("%d flushes at once, alone %v, took %v", c.writers, c.alone, took)
		}
		r.Put -= int64(c.writers) // the segments
		planned, seconds := plan.Flushes(int64(c.writers))
		for what, v := range map[string][2]float64{
			"PUT": {float64(r.Put), float64(planned.Put)}, "GET": {float64(r.Get), float64(planned.Get)},
			"LIST": {float64(r.List), float64(planned.List)}, "seconds": {took.Seconds(), seconds},
		} {
			if near := max(v[0], v[1]) <= 3*min(v[0], v[1])+0.5; near == c.alone && (!c.alone || what != "GET") {
				t.Errorf("%d flushes at once, alone %v: %.1f %s, planned are %.1f", c.writers, c.alone, v[0], what, v[1])
			}
		}
	}
}

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
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/testutil/must"
)

// simulatedS3 is a bucket that simulates the latency of S3 in a synctest bubble: about 100 ms
// to create, 40 to read, and 80 to list. It creates ten log objects a second, and refuses
// requests above S3's rate for one prefix.
type simulatedS3 struct {
	Bucket
	log    ctxMutex // held to create a log object
	last   time.Time
	mu     sync.Mutex
	second time.Time // start of the current second
	puts   int
	gets   int
}

func newSimulatedS3(b Bucket) *simulatedS3 { return &simulatedS3{Bucket: b, log: make(ctxMutex, 1)} }

var errSlowDown = errors.New("503 SlowDown")

// waitHalf waits for about half the duration of a request.
func waitHalf(ctx context.Context, total time.Duration) error {
	d := total/2 - total/8 + rand.N(total/4)
	if rand.IntN(100) == 0 {
		d *= 5
	}
	return canceled.Wait(ctx, time.After(d))
}

func (d *simulatedS3) limitRate(count *int, limit int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if second := time.Now().Truncate(time.Second); !second.Equal(d.second) {
		d.second, d.puts, d.gets = second, 0, 0
	}
	if *count++; *count > limit {
		return errSlowDown
	}
	return nil
}

func (d *simulatedS3) Create(ctx context.Context, name string, data []byte) error {
	if err := waitHalf(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	err := d.limitRate(&d.puts, 3500)
	if err == nil && strings.HasPrefix(name, "log/") {
		err = d.createLog(ctx, name, data)
	} else if err == nil {
		err = d.Bucket.Create(ctx, name, data)
	}
	return errors.Join(err, waitHalf(ctx, 100*time.Millisecond))
}

func (d *simulatedS3) createLog(ctx context.Context, name string, data []byte) error {
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

func (d *simulatedS3) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := waitHalf(ctx, 40*time.Millisecond); err != nil {
		return nil, err
	}
	if err := d.limitRate(&d.gets, 5500); err != nil {
		return nil, err
	}
	r, err := d.Bucket.ReadRange(ctx, name, offset, length)
	return r, errors.Join(err, waitHalf(ctx, 40*time.Millisecond))
}

func (d *simulatedS3) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		err := waitHalf(ctx, 80*time.Millisecond)
		if err == nil {
			err = d.limitRate(&d.gets, 5500)
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

// flushConcurrently makes writers flush at the same moment. It returns the duration and the requests.
func flushConcurrently(t *testing.T, writers int) (elapsed time.Duration, r Requests) {
	synctest.Test(t, func(t *testing.T) {
		h := hooks{maxInline: -1} // each writer uploads a segment
		mem := new(Memory)
		c := NewCounter(newSimulatedS3(mem))
		stores := make([]*Store, writers)
		var wg sync.WaitGroup
		for w := range stores {
			// Open the stores without the simulation, so that the measurement contains only flushes.
			s := must.Get(Open(t.Context(), mem, &Options{Memory: MinMemory, SegmentSize: 1, hooks: h}))(t)
			s.bucket = c
			stores[w] = s
			for i := range 3 {
				e := partd.Entry{Key: "all", Value: fmt.Appendf(nil, "%d.%d;", w, i)}
				must.Do(t, s.Append(t.Context(), e))
			}
		}
		start := time.Now()
		for _, s := range stores {
			wg.Go(func() { must.Check(t, s.Flush(t.Context())) })
		}
		wg.Wait()
		elapsed, r = time.Since(start), c.Requests()
		for _, s := range stores {
			s.bucket = mem
			must.Check(t, s.Close())
		}
		s := must.Get(Open(t.Context(), mem, nil))(t)
		defer s.Close()
		v := must.Get(s.Get(t.Context(), "all"))(t)
		pieces := map[string]int{} // number of pieces by writer
		for piece := range strings.SplitSeq(strings.TrimSuffix(string(v[0]), ";"), ";") {
			w, i, _ := strings.Cut(piece, ".")
			if i != fmt.Sprint(pieces[w]) {
				t.Errorf("piece %s follows %d pieces of its writer", piece, pieces[w])
			}
			pieces[w]++
		}
		if len(pieces) != writers || len(v[0]) == 0 {
			t.Errorf("the value contains pieces of %d writers, want %d", len(pieces), writers)
		}
	})
	return elapsed, r
}

// TestManyFlushesAtOnce checks that 1,000 concurrent flushes share log objects, because the bucket
// creates only ten of them a second, and that the flushes make about the planned number of
// requests.
func TestManyFlushesAtOnce(t *testing.T) {
	for _, c := range []struct {
		writers int
		maxTime time.Duration
	}{
		{1, 2 * time.Second},
		{10, 5 * time.Second},
		{100, 10 * time.Second},
		{1000, 15 * time.Second},
	} {
		elapsed, r := flushConcurrently(t, c.writers)
		t.Logf("%d writers: %.1f s, %v", c.writers, elapsed.Seconds(), r)
		if elapsed > c.maxTime {
			t.Errorf("%d concurrent flushes took %v, want at most %v", c.writers, elapsed, c.maxTime)
		}
		r.Put -= int64(c.writers) // do not count the uploads of segments
		planned, seconds := planFlushes(int64(c.writers))
		for name, v := range map[string][2]float64{
			"PUT": {float64(r.Put), float64(planned.Put)}, "GET": {float64(r.Get), float64(planned.Get)},
			"LIST": {float64(r.List), float64(planned.List)}, "seconds": {elapsed.Seconds(), seconds},
		} {
			if max(v[0], v[1]) > 3*min(v[0], v[1])+0.5 {
				t.Errorf("%d concurrent flushes: %.1f %s, planned %.1f", c.writers, v[0], name, v[1])
			}
		}
	}
}

package space

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// disk is a disk, and the store on it, which writes what it takes at once and, if it
// has tables, a second time later.
type disk struct {
	free, used, pending atomic.Int64
	broken              atomic.Pointer[error]
	asked               atomic.Int64
	slow                time.Duration
}

func (d *disk) limits(minFree, maxBytes int64) Limits {
	return Limits{
		MinFree: minFree, MaxBytes: maxBytes,
		Free: func() (int64, error) {
			d.asked.Add(1)
			if e := d.broken.Load(); e != nil {
				return 0, *e
			}
			return d.free.Load(), nil
		},
		Used: func() (int64, error) { time.Sleep(d.slow); return d.used.Load(), nil },
	}
}

func newGuard(t *testing.T, l Limits) *Guard {
	t.Helper()
	g, err := New(l)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Four writers at once, and no more measuring than each second: they never get
// beyond what there is room for, and once there is more, they get that, too.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const minFree, all, one = 1 << 20, 8 << 20, 1000
		d := &disk{}
		d.free.Store(all)
		g := newGuard(t, d.limits(minFree, 0))
		fill := func() {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for {
						taken, err := g.Take(1, one)
						if err != nil {
							if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "1.0 MiB stay free") {
								t.Error(err)
							}
							return
						}
						time.Sleep(10 * time.Microsecond)
						d.free.Add(-one)
						g.Done(taken)
					}
				})
			}
			wg.Wait()
			if free := d.free.Load(); free < minFree || free > minFree+300<<10 {
				t.Errorf("%d bytes are free, %d are to stay free", free, minFree)
			}
		}
		begin := time.Now()
		fill()
		if most := 3 + int64(time.Since(begin)/retryAge); d.asked.Load() > most {
			t.Errorf("it measured %d times", d.asked.Load())
		}
		time.Sleep(maxAge)
		if s := g.State(); s.Err != nil || s.Refused != 4 || s.Free != d.free.Load() || s.Used != -1 {
			t.Errorf("its state is %+v", s)
		}
		d.free.Add(4 << 20) // the neighbour has removed something
		time.Sleep(retryAge)
		fill()
		d.free.Store(0) // and has written
		time.Sleep(maxAge)
		if _, err := g.Take(0, 1); err == nil {
			time.Sleep(retryAge)
			if _, err = g.Take(0, 1); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("on a full disk it admits, a second later: %v", err)
			}
		}
	})
}

// A quota is kept while counting takes long, and what is in memory yet is counted.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const quota = 1 << 20
		d := &disk{slow: time.Minute}
		l := d.limits(0, quota)
		l.Pending = d.pending.Load
		g := newGuard(t, l)
		n := int64(0)
		for {
			taken, err := g.Take(0, 1000)
			if err != nil {
				if !errors.Is(err, syscall.EDQUOT) {
					t.Error(err)
				}
				break
			}
			g.Done(taken)
			n += 1000
			d.used.Add(1000)
			d.pending.Add(1000)
			time.Sleep(time.Second)
		}
		if n < quota/2-2000 || n > quota/2 {
			t.Errorf("%d bytes were taken, which will be written twice: the quota is %d", n, quota)
		}
		d.used.Store(0) // dropped
		d.pending.Store(0)
		time.Sleep(2 * rest * d.slow)
		_, _ = g.Take(0, 1000)
		time.Sleep(2 * d.slow)
		if taken, err := g.Take(0, 1000); err != nil {
			t.Errorf("after a drop: %v", err)
		} else {
			g.Done(taken)
		}
	})
}

// Without figures nothing is refused, and that is said; without limits, there is no guard.
func TestBroken(t *testing.T) {
	d := &disk{}
	broken := errors.New("it broke")
	d.broken.Store(&broken)
	if _, err := New(d.limits(1, 0)); !errors.Is(err, broken) {
		t.Errorf("New: %v", err)
	}
	d.broken.Store(nil)
	d.free.Store(100)
	g := newGuard(t, d.limits(1, 0))
	d.broken.Store(&broken)
	g.figures.ended = time.Time{}
	if s := g.State(); !errors.Is(s.Err, broken) {
		t.Errorf("its state is %+v", s)
	}
	if _, err := g.Take(1, 1<<40); err != nil {
		t.Errorf("without figures: %v", err)
	}
	none, err := New(Limits{})
	if _, e := none.Take(1, 1<<62); none != nil || err != nil || e != nil {
		t.Errorf("without limits: %v, %v, %v", none, err, e)
	}
}

// After data was given back it is measured at once, however long measuring took.
func TestGivenBackIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{slow: 500 * time.Millisecond}
		d.used.Store(100)
		l := d.limits(0, 100)
		l.GiveBack = func() { d.used.Store(0) }
		g := newGuard(t, l)
		if _, err := g.Take(0, 10); !errors.Is(err, syscall.EDQUOT) {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := g.Take(0, 10); err != nil {
			t.Error("at once after data was given back:", err)
		}
	})
}

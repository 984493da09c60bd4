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

// disk is a fake disk with a store. The store writes accepted data at once and, if it
// has tables, a second time later.
type disk struct {
	free, used, pending atomic.Int64
	broken              atomic.Pointer[error]
	measurements        atomic.Int64
	slow                time.Duration
}

func (d *disk) limits(minFree, maxBytes int64) Limits {
	return Limits{
		MinFree: minFree, MaxBytes: maxBytes,
		Free: func() (int64, error) {
			d.measurements.Add(1)
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

// Four concurrent writers, with at most one measurement a second, never exceed the
// space that is free. Once more is free, they use it.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const minFree, total, entry = 1 << 20, 8 << 20, 1000
		d := &disk{}
		d.free.Store(total)
		g := newGuard(t, d.limits(minFree, 0))
		fill := func() {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for {
						admitted, err := g.Admit(1, entry)
						if err != nil {
							if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "1.0 MiB must stay free") {
								t.Error(err)
							}
							return
						}
						time.Sleep(10 * time.Microsecond)
						d.free.Add(-entry)
						g.Done(admitted)
					}
				})
			}
			wg.Wait()
			if free := d.free.Load(); free < minFree || free > minFree+300<<10 {
				t.Errorf("%d bytes are free, want at least %d", free, minFree)
			}
		}
		begin := time.Now()
		fill()
		if limit := 3 + int64(time.Since(begin)/retryAge); d.measurements.Load() > limit {
			t.Errorf("%d measurements, want at most %d", d.measurements.Load(), limit)
		}
		time.Sleep(maxAge)
		if s := g.State(); s.Err != nil || s.Refused != 4 || s.Free != d.free.Load() || s.Used != -1 {
			t.Errorf("state %+v", s)
		}
		d.free.Add(4 << 20) // another program has freed space
		time.Sleep(retryAge)
		fill()
		d.free.Store(0) // and has used it up
		time.Sleep(maxAge)
		if _, err := g.Admit(0, 1); err == nil {
			time.Sleep(retryAge)
			if _, err = g.Admit(0, 1); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("a full disk still admits after a second: %v", err)
			}
		}
	})
}

// A quota holds although measuring is slow, and data that is only in memory counts.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const quota = 1 << 20
		d := &disk{slow: time.Minute}
		l := d.limits(0, quota)
		l.Pending = d.pending.Load
		g := newGuard(t, l)
		n := int64(0)
		for {
			admitted, err := g.Admit(0, 1000)
			if err != nil {
				if !errors.Is(err, syscall.EDQUOT) {
					t.Error(err)
				}
				break
			}
			g.Done(admitted)
			n += 1000
			d.used.Add(1000)
			d.pending.Add(1000)
			time.Sleep(time.Second)
		}
		if n < quota/2-2000 || n > quota/2 {
			t.Errorf("%d bytes were admitted, each written twice, with a quota of %d", n, quota)
		}
		d.used.Store(0) // dropped
		d.pending.Store(0)
		time.Sleep(2 * pauseFactor * d.slow)
		_, _ = g.Admit(0, 1000)
		time.Sleep(2 * d.slow)
		if admitted, err := g.Admit(0, 1000); err != nil {
			t.Errorf("after a drop: %v", err)
		} else {
			g.Done(admitted)
		}
	})
}

// If measuring fails, nothing is refused and State returns the error. Without limits
// there is no guard.
func TestMeasuringFails(t *testing.T) {
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
	g.figures.measuredAt = time.Time{}
	if s := g.State(); !errors.Is(s.Err, broken) {
		t.Errorf("state %+v", s)
	}
	if _, err := g.Admit(1, 1<<40); err != nil {
		t.Errorf("after a failed measurement: %v", err)
	}
	noGuard, err := New(Limits{})
	if _, e := noGuard.Admit(1, 1<<62); noGuard != nil || err != nil || e != nil {
		t.Errorf("without limits: %v, %v, %v", noGuard, err, e)
	}
}

// Space is measured right after a reclaim, however long the last measurement took.
func TestMeasuredAfterReclaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{slow: 500 * time.Millisecond}
		d.used.Store(100)
		l := d.limits(0, 100)
		l.Reclaim = func() { d.used.Store(0) }
		g := newGuard(t, l)
		if _, err := g.Admit(0, 10); !errors.Is(err, syscall.EDQUOT) {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := g.Admit(0, 10); err != nil {
			t.Error("right after a reclaim:", err)
		}
	})
}

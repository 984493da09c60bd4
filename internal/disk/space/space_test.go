package space

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// disk simulates a disk with a store, which writes accepted data immediately, and pending bytes again later.
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
	g := must.Get(New(l))(t)
	return g
}

// TestReserve checks that four concurrent writers use all free space and no more, although the
// guard seldom measures it.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const minFree, total, entry = 1 << 20, 8 << 20, 1000
		d := &disk{}
		d.free.Store(total)
		g := newGuard(t, d.limits(minFree, 0))
		fill := func() {
			must.Concurrently(4, func(int) {
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
			if free := d.free.Load(); free < minFree || free > minFree+300<<10 {
				t.Errorf("%d bytes are free, want at least %d, and not much more", free, minFree)
			}
		}
		begin := time.Now()
		fill()
		if limit := 3 + int64(time.Since(begin)/retryAge); d.measurements.Load() > limit {
			t.Errorf("the guard measured %d times, want at most %d", d.measurements.Load(), limit)
		}
		time.Sleep(maxAge)
		if s := g.State(); s.Err != nil || s.Refused != 4 || s.Free != d.free.Load() || s.Used != -1 {
			t.Errorf("State = %+v, want 4 refused changes, %d bytes free and no error", s, d.free.Load())
		}
		d.free.Add(4 << 20) // another program frees space
		time.Sleep(retryAge)
		fill()
		d.free.Store(0) // another program uses all free space
		time.Sleep(maxAge)
		if _, err := g.Admit(0, 1); err == nil {
			time.Sleep(retryAge)
			if _, err = g.Admit(0, 1); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Admit a second after the disk became full = %v, want ENOSPC", err)
			}
		}
	})
}

// TestQuota checks that the guard enforces a quota even if measuring is slow, and counts data that is only in memory.
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
				must.Fail(t, err, syscall.EDQUOT, "Admit at the quota")
				break
			}
			g.Done(admitted)
			n += 1000
			d.used.Add(1000)
			d.pending.Add(1000)
			time.Sleep(time.Second)
		}
		if n < quota/2-2000 || n > quota/2 {
			t.Errorf("the guard admitted %d bytes, each written twice, want about half of the quota of %d", n, quota)
		}
		d.used.Store(0) // a drop
		d.pending.Store(0)
		time.Sleep(2 * pauseFactor * d.slow)
		_, _ = g.Admit(0, 1000)
		time.Sleep(2 * d.slow)
		if admitted, err := g.Admit(0, 1000); err != nil {
			t.Errorf("Admit after a drop: %v", err)
		} else {
			g.Done(admitted)
		}
	})
}

// TestMeasuringFails checks that if measuring fails, the guard refuses nothing and reports the error. Without limits,
// New returns nil.
func TestMeasuringFails(t *testing.T) {
	d := &disk{}
	broken := errors.New("it broke")
	d.broken.Store(&broken)
	must.Fail(t, must.Err(New(d.limits(1, 0))), broken, "New")
	d.broken.Store(nil)
	d.free.Store(100)
	g := newGuard(t, d.limits(1, 0))
	d.broken.Store(&broken)
	g.figures.measuredAt = time.Time{}
	if s := g.State(); !errors.Is(s.Err, broken) {
		t.Errorf("State = %+v, want the error %v", s, broken)
	}
	if _, err := g.Admit(1, 1<<40); err != nil {
		t.Errorf("Admit after a failed measurement: %v", err)
	}
	noGuard, err := New(Limits{})
	if _, e := noGuard.Admit(1, 1<<62); noGuard != nil || err != nil || e != nil {
		t.Errorf("without limits, New = %v, %v, and Admit = %v", noGuard, err, e)
	}
}

// TestMeasuredAfterReclaim checks that the guard measures space right after a reclaim, however long the last
// measurement took.
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
			t.Errorf("Admit right after a reclaim: %v", err)
		}
	})
}

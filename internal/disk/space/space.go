// Package space enforces a store's quota and the free space that must remain on its disk.
// It refuses changes that add data before they exceed a limit and admits them again as soon as
// there is space. It never refuses reads and deletes.
package space

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Limits holds the limits of a [Guard] and the functions that measure the space. 0 means that there
// is no limit.
type Limits struct {
	// MinFree is the number of bytes that must stay free on the disk. Free returns the number of
	// free bytes.
	MinFree int64
	Free    func() (int64, error)
	// MaxBytes is the number of bytes that the store may use. Used returns the number of bytes in
	// use. Used may be slow: it is called in the background, for at most a tenth of the time.
	MaxBytes int64
	Used     func() (int64, error)
	// Pending, if set, returns the number of bytes that the store will write a second time, such as
	// data that is only in a write-ahead file so far. Pending must be fast.
	Pending func() int64
	// Reclaim, if set, frees the space of dead data. It may be slow: it is called in
	// the background, after the quota has refused a change.
	Reclaim func()
}

// Guard admits changes to one store within its limits. A nil Guard admits everything.
//
// It measures the space at most once a second, unless it would refuse a change. Between
// measurements it adds up the admitted bytes, doubled if the store writes data twice, so that the
// Guard never admits more than fits. It notices other programs' writes to the disk within a second.
type Guard struct {
	limits Limits

	mu           sync.Mutex
	admitted     int64 // total number of bytes admitted
	inProgress   int64 // admitted bytes of changes that have not ended
	refused      int64
	mayHaveFreed bool // a change may have freed space after the last measurement began

	figures      figures
	measuring    chan struct{} // closed when the measurement in progress ends; nil between measurements
	reclaiming   bool
	reclaimAfter time.Time // earliest time at which the next reclaim may begin
	reclaimed    bool      // a reclaim ended after the last measurement began
}

// figures are the results of a measurement.
type figures struct {
	free, used, pending int64
	err                 error
	measuredAt          time.Time
	duration            time.Duration
	included            int64 // part of Guard.admitted that the figures certainly include
}

const (
	maxAge      = time.Second           // maximum age of figures that may admit a change
	retryAge    = 50 * time.Millisecond // maximum age of figures that may refuse a change
	maxWait     = time.Second           // maximum wait for new figures before a change is refused
	pauseFactor = 10                    // the pause after a measurement, as a multiple of its duration
	perEntry    = 32                    // approximate number of bytes that a store writes in addition to an entry's data
)

// New measures the space and returns a guard, or returns nil if there is no limit.
func New(l Limits) (*Guard, error) {
	if l.MinFree <= 0 && l.MaxBytes <= 0 {
		return nil, nil
	}
	g := &Guard{limits: l}
	g.figures = l.measure()
	return g, g.figures.err
}

// Admit admits a change that adds the given number of entries and bytes. If it refuses the change,
// it returns an error that wraps ENOSPC for the disk or EDQUOT for the quota. After the change the
// caller must call Done with the result of Admit.
func (g *Guard) Admit(entries int, bytes int64) (admitted int64, err error) {
	if g == nil {
		return 0, nil
	}
	bytes += int64(entries) * perEntry
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refresh(maxAge)
	err = g.check(bytes)
	for tries := 0; err != nil && tries < 2; tries++ { // measure again: something may have been deleted
		g.await(g.refresh(retryAge))
		err = g.check(bytes)
	}
	if err != nil {
		g.refused++
		if errors.Is(err, syscall.EDQUOT) {
			g.startReclaim()
		}
		return 0, err
	}
	g.admitted += bytes
	g.inProgress += bytes
	return bytes, nil
}

// startReclaim starts Limits.Reclaim in the background, unless it is running or ran recently. mu
// must be held.
func (g *Guard) startReclaim() {
	if g.limits.Reclaim == nil || g.reclaiming || time.Now().Before(g.reclaimAfter) {
		return
	}
	g.reclaiming = true
	start := time.Now()
	go func() {
		g.limits.Reclaim()
		duration := time.Since(start)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.reclaiming, g.reclaimAfter, g.reclaimed = false, time.Now().Add(max(maxAge, duration)), true
	}()
}

// Done tells the Guard that a change has ended, whether it succeeded or not. admitted is the result
// of Admit, or 0 for a change that may have freed space.
func (g *Guard) Done(admitted int64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inProgress -= admitted
	g.mayHaveFreed = g.mayHaveFreed || admitted == 0
}

// State is the result of the last measurement.
type State struct {
	Free, Used int64 // in bytes; -1 if no limit needs the figure
	Refused    int64 // total number of refused changes
	Err        error // the reason why a change would be refused now, or the error from the last measurement
}

// State returns the current state. It measures again if the last figures are old.
func (g *Guard) State() State {
	if g == nil {
		return State{Free: -1, Used: -1}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.await(g.refresh(maxAge))
	f := g.figures
	return State{Free: f.free, Used: f.used, Refused: g.refused, Err: cmp.Or(g.check(1), f.err)}
}

// check returns an error if the given number of bytes does not fit. If the measurement failed,
// check admits everything, because the store itself fails on a full disk. mu must be held.
func (g *Guard) check(bytes int64) error {
	f, l := &g.figures, &g.limits
	unmeasured := g.admitted - f.included + bytes // admitted bytes that the figures may not include, and this change
	if l.Pending != nil {
		unmeasured *= 2
	}
	if l.MaxBytes > 0 && f.used+f.pending+unmeasured > l.MaxBytes {
		needs := f.used + f.pending + unmeasured
		return fmt.Errorf("%w: the store needs %s, counting data not yet written out, and its quota allows %s, which is %s less: delete or drop something, or raise the quota",
			syscall.EDQUOT, size(needs), size(l.MaxBytes), size(needs-l.MaxBytes))
	}
	if l.MinFree > 0 && f.free-f.pending-unmeasured < l.MinFree && f.free >= 0 {
		return fmt.Errorf("%w: the disk has %s free; this change and data not yet written out may need %s, and %s must stay free: free space on the disk, delete or drop something, or lower the reserve",
			syscall.ENOSPC, size(f.free), size(f.pending+unmeasured), size(l.MinFree))
	}
	return nil
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// refresh starts a measurement if the figures are older than age. If a measurement is running, the
// returned channel is closed at its end; otherwise it is nil. mu must be held.
func (g *Guard) refresh(age time.Duration) <-chan struct{} {
	f := &g.figures
	switch {
	case age == retryAge && (g.reclaimed || g.mayHaveFreed && f.duration < retryAge):
		age = 0 // measure now: either a reclaim has ended, which is rare, or measuring is fast
	default:
		age = max(age, pauseFactor*f.duration)
	}
	if g.measuring != nil || time.Since(f.measuredAt) < age {
		return g.measuring
	}
	g.mayHaveFreed, g.reclaimed = false, false
	done := make(chan struct{})
	g.measuring = done
	// The figures may not include changes in progress.
	included := g.admitted - g.inProgress
	go func() {
		f := g.limits.measure()
		f.included = included
		g.mu.Lock()
		defer g.mu.Unlock()
		g.figures, g.measuring = f, nil
		close(done)
	}()
	return done
}

// await waits until done is closed, for at most maxWait. mu must be held; it is released during
// the wait.
func (g *Guard) await(done <-chan struct{}) {
	if done == nil {
		return
	}
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-done:
	case <-time.After(maxWait):
	}
}

func (l *Limits) measure() figures {
	start := time.Now()
	f := figures{free: -1, used: -1}
	var errs [2]error
	// Call Pending first, so that data that is written out during the measurement counts twice.
	// Otherwise it might not count at all.
	if l.Pending != nil {
		f.pending = l.Pending()
	}
	if l.MinFree > 0 {
		f.free, errs[0] = l.Free()
		if errs[0] != nil {
			f.free = -1
		}
	}
	if l.MaxBytes > 0 {
		f.used, errs[1] = l.Used()
	}
	f.err = errors.Join(errs[:]...)
	if f.err != nil {
		f.err = fmt.Errorf("cannot measure the space in use: %w", f.err)
	}
	f.measuredAt = time.Now()
	f.duration = f.measuredAt.Sub(start)
	return f
}

// Disk returns the free and total bytes of the disk that contains a directory. It returns an error
// if no file can be created there, because the disk is read-only or has no free inodes. The error
// wraps [errors.ErrUnsupported] if the operating system does not report these numbers.
func Disk(dir string) (free, total int64, err error) {
	disk, ok := vfs.FS(vfs.OS{}).(interface {
		vfs.SpaceReporter
		Capacity(dir string) (int64, error)
		CheckWritable(dir string) error
	})
	if !ok {
		return 0, 0, fmt.Errorf("%w: reading the free space of a disk", errors.ErrUnsupported)
	}
	free, err = disk.Free(dir)
	if err == nil {
		total, err = disk.Capacity(dir)
	}
	if err == nil {
		err = disk.CheckWritable(dir)
	}
	return free, total, err
}

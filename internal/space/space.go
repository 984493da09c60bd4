// Package space keeps a store from taking the last of its disk, or more than its
// quota: changes that add something are refused before that, while everything else
// goes on, and are taken again as soon as there is room.
package space

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

// Limits are what a Guard keeps to, and how it measures. A limit of 0 is none.
type Limits struct {
	// MinFree is how many bytes of the disk stay free, of which Free tells how many
	// there are.
	MinFree int64
	Free    func() (int64, error)
	// MaxBytes is how many bytes the store may take, of which Used tells how many
	// there are. Used may take long: it is asked in the background, and a tenth of the
	// time at the most.
	MaxBytes int64
	Used     func() (int64, error)
	// Pending, if given, is what was taken and is to be written once more: tables in
	// memory, whose content is in a write-ahead file so far. It is fast.
	Pending func() int64
	// GiveBack, if given, has the store free what it keeps of data that is dead. It may
	// take long: it is called in the background, where a change was refused for the
	// quota.
	GiveBack func()
}

// Guard admits changes to one store within its limits. Nil admits all.
//
// It measures when it is asked and the last figures are older than a second, not
// for each change. Meanwhile it counts what it admits as taken, and twice where the
// store writes twice, so that it never admits more than there was room for. What
// others write to the disk it learns within that second.
type Guard struct {
	limits Limits

	mu       sync.Mutex
	taken    int64 // bytes admitted, ever
	underWay int64 // of them, those whose change has not ended
	refused  int64
	freed    bool // since the last measurement began

	figures   figures
	measuring chan struct{} // closed when the measurement under way ends, nil if none is
	givesBack bool
	rests     time.Time // giveBack, until then
	gaveBack  bool      // since the last measurement began
}

// figures are the last measurement.
type figures struct {
	free, used, pending int64
	err                 error
	ended               time.Time
	took                time.Duration
	before              int64 // bytes admitted that are certainly in the figures
}

const (
	maxAge   = time.Second           // of figures that admit
	retryAge = 50 * time.Millisecond // of figures that refuse
	maxWait  = time.Second           // for new figures, before a change is refused
	rest     = 10                    // measuring rests so many times as long as it took
	perEntry = 32                    // bytes that a store writes with each entry, about
)

// New measures, and returns a guard, or nil where there is no limit.
func New(l Limits) (*Guard, error) {
	if l.MinFree <= 0 && l.MaxBytes <= 0 {
		return nil, nil
	}
	g := &Guard{limits: l}
	g.figures = l.measure()
	return g, g.figures.err
}

// Take admits a change that adds so many entries and bytes, or says why not: the
// error wraps ENOSPC for the disk and EDQUOT for the quota. After the change Done is
// called with what Take returned.
func (g *Guard) Take(entries int, bytes int64) (taken int64, err error) {
	if g == nil {
		return 0, nil
	}
	bytes += int64(entries) * perEntry
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refresh(maxAge)
	err = g.check(bytes)
	for tries := 0; err != nil && tries < 2; tries++ { // the first may be of a time before something was dropped
		g.await(g.refresh(retryAge))
		err = g.check(bytes)
	}
	if err != nil {
		g.refused++
		if errors.Is(err, syscall.EDQUOT) {
			g.giveBack()
		}
		return 0, err
	}
	g.taken += bytes
	g.underWay += bytes
	return bytes, nil
}

// giveBack has dead data freed, unless that was done just now. mu is held.
func (g *Guard) giveBack() {
	if g.limits.GiveBack == nil || g.givesBack || time.Now().Before(g.rests) {
		return
	}
	g.givesBack = true
	begun := time.Now()
	go func() {
		g.limits.GiveBack()
		took := time.Since(begun)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.givesBack, g.rests, g.gaveBack = false, time.Now().Add(max(maxAge, took)), true
	}()
}

// Done tells that a change has ended, well or not. With 0 it was one that may have
// made room: whoever would be refused next has that looked up.
func (g *Guard) Done(taken int64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.underWay -= taken
	g.freed = g.freed || taken == 0
}

// State is what a guard knows.
type State struct {
	Free, Used int64 // bytes, -1 where no limit needs them
	Refused    int64 // changes, ever
	Err        error // why a change would be refused, or that nothing could be measured
}

// State tells the last figures, and measures anew where they are old.
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

// check returns why there is no room for so many bytes. What could not be measured
// refuses nothing: the store itself will tell. mu is held.
func (g *Guard) check(bytes int64) error {
	f, l := &g.figures, &g.limits
	since := g.taken - f.before + bytes // with what this change adds
	if l.Pending != nil {
		since *= 2
	}
	if l.MaxBytes > 0 && f.used+f.pending+since > l.MaxBytes {
		return fmt.Errorf("%w: the store would have %s with what it is yet to write out, and may have %s: what was dropped or deleted makes room",
			syscall.EDQUOT, size(f.used+f.pending+since), size(l.MaxBytes))
	}
	if l.MinFree > 0 && f.free-f.pending-since < l.MinFree && f.free >= 0 {
		return fmt.Errorf("%w: the disk has %s free, of which what was taken and this change may need %s, and %s stay free: make room on it, or drop what the store holds",
			syscall.ENOSPC, size(f.free), size(f.pending+since), size(l.MinFree))
	}
	return nil
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// refresh begins a measurement where the figures are too old, and returns the one
// that is under way. mu is held.
func (g *Guard) refresh(age time.Duration) <-chan struct{} {
	f := &g.figures
	switch {
	case age == retryAge && (g.gaveBack || g.freed && f.took < retryAge):
		age = 0 // giving back rests, so who drops again and again does not have it measured without rest
	default:
		age = max(age, rest*f.took)
	}
	if g.measuring != nil || time.Since(f.ended) < age {
		return g.measuring
	}
	g.freed, g.gaveBack = false, false
	done := make(chan struct{})
	g.measuring = done
	// A change that is under way may or may not be in the figures.
	before := g.taken - g.underWay
	go func() {
		f := g.limits.measure()
		f.before = before
		g.mu.Lock()
		defer g.mu.Unlock()
		g.figures, g.measuring = f, nil
		close(done)
	}()
	return done
}

// await waits for a measurement, but not for one that takes long. mu is let go of
// meanwhile.
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
	begun := time.Now()
	f := figures{free: -1, used: -1}
	var errs [2]error
	// Before the files: what is written out in between counts twice, and not never.
	if l.Pending != nil {
		f.pending = l.Pending()
	}
	if l.MinFree > 0 {
		if f.free, errs[0] = l.Free(); errs[0] != nil {
			f.free = -1
		}
	}
	if l.MaxBytes > 0 {
		f.used, errs[1] = l.Used()
	}
	if f.err = errors.Join(errs[:]...); f.err != nil {
		f.err = fmt.Errorf("measuring the free room: %w", f.err)
	}
	f.ended = time.Now()
	f.took = f.ended.Sub(begun)
	return f
}

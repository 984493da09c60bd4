// Package progress shows the progress of long work on a terminal: bytes, percent,
// rate and time left, or what it waits for, on one line that it overwrites.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// IsTerminal reports whether what is written to w is seen on a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Bar shows the progress of one job, which may have several parts.
type Bar struct {
	w     io.Writer
	part  atomic.Pointer[part]
	stop  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

type part struct {
	start time.Time
	line  func(elapsed time.Duration) string
}

// interval is the time between two lines, and before the first one: short work
// shows nothing.
const interval = 250 * time.Millisecond

// Start begins to show progress if show says so.
func Start(w io.Writer, show bool) *Bar {
	b := &Bar{w: w, stop: make(chan struct{})}
	if show {
		b.ended.Go(b.run)
	}
	return b
}

// Count begins a part of which the bytes done are counted. Total is -1 where it
// is not known.
func (b *Bar) Count(total int64, done func() int64) {
	b.part.Store(&part{time.Now(), func(elapsed time.Duration) string { return Line(done(), total, elapsed) }})
}

// Wait begins a part of which no more is known than how many bytes of memory are
// left to write, or nothing where left is nil.
func (b *Bar) Wait(what string, left func() int64) {
	b.part.Store(&part{time.Now(), func(elapsed time.Duration) string {
		line := what
		if left != nil {
			line += fmt.Sprintf(", %.1f MB of memory left", float64(left())/1e6)
		}
		return line + ", " + elapsed.Round(time.Second).String()
	}})
}

// Stop removes the line. It may be called twice.
func (b *Bar) Stop() {
	b.once.Do(func() { close(b.stop) })
	b.ended.Wait()
}

func (b *Bar) run() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	shown := false
	for {
		select {
		case <-b.stop:
			if shown {
				fmt.Fprint(b.w, "\r\x1b[K")
			}
			return
		case <-tick.C:
			if p := b.part.Load(); p != nil {
				fmt.Fprint(b.w, "\r"+p.line(time.Since(p.start))+"\x1b[K")
				shown = true
			}
		}
	}
}

// Rate writes bytes per second.
func Rate(perSecond float64) string {
	if perSecond < 10e6 {
		return fmt.Sprintf("%.1f MB/s", perSecond/1e6)
	}
	return fmt.Sprintf("%.0f MB/s", perSecond/1e6)
}

// Line describes work of which done bytes of total, -1 if not known, took the
// time elapsed.
func Line(done, total int64, elapsed time.Duration) string {
	rate := float64(done) / max(elapsed.Seconds(), 1e-9)
	line := fmt.Sprintf("%.1f MB", float64(done)/1e6)
	if total > 0 {
		line = fmt.Sprintf("%3.0f %%  %s of %.1f MB", 100*float64(done)/float64(total), line, float64(total)/1e6)
	}
	line += "  " + Rate(rate)
	if total > 0 && done > 0 && done < total {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += "  " + left.Round(time.Second).String() + " left"
	}
	return line
}

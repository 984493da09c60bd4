// Package progress shows the progress of long-running work on one line of a terminal: bytes, percent,
// rate and remaining time, or what the work is waiting for.
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

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// TerminalWidth returns the width of a terminal in columns, or defaultWidth if w is not a terminal.
func TerminalWidth(w io.Writer, defaultWidth int) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return defaultWidth
}

// Bar shows the progress of one job, which may have several steps.
type Bar struct {
	w        io.Writer
	step     atomic.Pointer[step]
	stop     chan struct{}
	stopOnce sync.Once
	wg       sync.WaitGroup
}

type step struct {
	start time.Time
	line  func(elapsed time.Duration) string
}

// interval is the time between updates. It also delays the first update, so a short job shows
// nothing.
const interval = 250 * time.Millisecond

// Start returns a Bar. If show is true, the Bar is visible until Stop is called.
func Start(w io.Writer, show bool) *Bar {
	b := &Bar{w: w, stop: make(chan struct{})}
	if show {
		b.wg.Go(b.run)
	}
	return b
}

// Count begins a step that processes total bytes, or an unknown number if total is -1. bytesDone
// returns the number of bytes processed so far.
func (b *Bar) Count(total int64, bytesDone func() int64) {
	b.step.Store(&step{time.Now(), func(elapsed time.Duration) string { return Line(bytesDone(), total, elapsed) }})
}

// Wait begins a step without a known length. remaining returns the number of bytes in memory that
// the step must still write; remaining may be nil.
func (b *Bar) Wait(activity string, remaining func() int64) {
	b.step.Store(&step{time.Now(), func(elapsed time.Duration) string {
		line := activity
		if remaining != nil {
			line += fmt.Sprintf(", %.1f MB still to write", float64(remaining())/1e6)
		}
		return line + ", " + elapsed.Round(time.Second).String()
	}})
}

// Stop removes the line. Later calls do nothing.
func (b *Bar) Stop() {
	b.stopOnce.Do(func() { close(b.stop) })
	b.wg.Wait()
}

func (b *Bar) run() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	isShown := false
	for {
		select {
		case <-b.stop:
			if isShown {
				fmt.Fprint(b.w, "\r\x1b[K")
			}
			return
		case <-tick.C:
			if s := b.step.Load(); s != nil {
				fmt.Fprint(b.w, "\r"+s.line(time.Since(s.start))+"\x1b[K")
				isShown = true
			}
		}
	}
}

// Rate formats bytes per second.
func Rate(perSecond float64) string {
	if perSecond < 10e6 {
		return fmt.Sprintf("%.1f MB/s", perSecond/1e6)
	}
	return fmt.Sprintf("%.0f MB/s", perSecond/1e6)
}

// Line describes the progress of work that has processed done of total bytes in the elapsed time.
// total is -1 if it is unknown.
func Line(done, total int64, elapsed time.Duration) string {
	rate := float64(done) / max(elapsed.Seconds(), 1e-9)
	line := fmt.Sprintf("%.1f MB", float64(done)/1e6)
	if total > 0 {
		line = fmt.Sprintf("%3.0f %%  %s of %.1f MB", 100*float64(done)/float64(total), line, float64(total)/1e6)
	}
	line += "  " + Rate(rate)
	if total > 0 && done > 0 && done < total {
		remaining := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += "  " + remaining.Round(time.Second).String() + " left"
	}
	return line
}

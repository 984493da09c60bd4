// Package progress shows on a terminal how far long work is: bytes, percent,
// rate and time left, on one line that is written over.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// IsTerminal tells whether what is written to w is seen on a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Bar shows the progress of one job.
type Bar struct {
	w     io.Writer
	total int64
	done  func() int64
	start time.Time
	stop  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

// interval is the time between two lines, and before the first one: short work
// shows nothing.
const interval = 250 * time.Millisecond

// Start begins to show progress if show says so. Total is the work in bytes, or
// -1 where that is not known; done tells how much is done.
func Start(w io.Writer, show bool, total int64, done func() int64) *Bar {
	b := &Bar{w: w, total: total, done: done, start: time.Now(), stop: make(chan struct{})}
	if show {
		b.ended.Go(b.run)
	}
	return b
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
			fmt.Fprint(b.w, "\r"+Line(b.done(), b.total, time.Since(b.start))+"\x1b[K")
			shown = true
		}
	}
}

// Line describes work of which done bytes of total, -1 if not known, took the
// time elapsed.
func Line(done, total int64, elapsed time.Duration) string {
	rate := float64(done) / max(elapsed.Seconds(), 1e-9)
	line := fmt.Sprintf("%.1f MB", float64(done)/1e6)
	if total > 0 {
		line = fmt.Sprintf("%3.0f %%  %s of %.1f MB", 100*float64(done)/float64(total), line, float64(total)/1e6)
	}
	line += fmt.Sprintf("  %.0f MB/s", rate/1e6)
	switch {
	case total > 0 && done >= total:
		line += "  writing the rest"
	case total > 0 && done > 0:
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += "  " + left.Round(time.Second).String() + " left"
	}
	return line
}

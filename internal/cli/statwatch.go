package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/progress"
)

// watchEvery is the time between two looks at a store. One that takes long to count
// is counted a quarter of the time at the most.
const (
	watchEvery = time.Second
	watchRest  = 3
)

// watch is what stat --watch knows from one look to the next.
type watch struct {
	a        *app
	url      string
	asJSON   bool
	top      int
	terminal bool

	before watchRecord
}

// watchRecord is what one look finds. Rates are of the time since the one before.
type watchRecord struct {
	Time time.Time `json:"time"`
	statRecord
	Changes          int64   `json:"changes"`
	BytesPerSecond   float64 `json:"bytes_per_second"`
	ChangesPerSecond float64 `json:"changes_per_second"`
}

// run looks until ctx ends, whose error it returns.
func (w *watch) run(ctx context.Context, store partd.Partd) error {
	w.terminal = !w.asJSON && progress.IsTerminal(w.a.out)
	for {
		begin := time.Now()
		r, err := w.look(ctx, store)
		if err != nil {
			return err
		}
		if err := w.show(r); err != nil {
			return err
		}
		w.before = r
		if err := canceled.Wait(ctx, time.After(max(watchEvery-time.Since(begin), watchRest*time.Since(begin)))); err != nil {
			return err
		}
	}
}

func (w *watch) look(ctx context.Context, store partd.Partd) (r watchRecord, err error) {
	stats, err := partd.Stat(ctx, store)
	if err != nil {
		return r, err
	}
	r = watchRecord{Time: time.Now(), Changes: stats.Changes}
	keys, _, err := largest(ctx, store, w.top)
	r.statRecord = statRecord{stats.Keys, stats.Bytes, stats.Disk, keysJSON(keys), keys}
	if b := &w.before; !b.Time.IsZero() {
		seconds := r.Time.Sub(b.Time).Seconds()
		r.BytesPerSecond = float64(r.Bytes-b.Bytes) / seconds
		if r.Changes >= b.Changes { // else the server is another one
			r.ChangesPerSecond = float64(r.Changes-b.Changes) / seconds
		}
	}
	return r, err
}

func (w *watch) show(r watchRecord) error {
	if !w.terminal {
		return show(w.a.out, w.asJSON, r, func(out io.Writer) {
			fmt.Fprintf(out, "%s  %d keys  %d bytes  %s\n", r.Time.UTC().Format(time.RFC3339), r.Keys, r.Bytes, r.rates())
		})
	}
	var b bytes.Buffer // at once, so that the screen does not flicker
	b.WriteString("\x1b[H\x1b[2J")
	fmt.Fprintf(&b, "store  %s\ntime   %s\n", w.url, r.Time.Format(time.TimeOnly))
	writeStat(&b, r.statRecord, width(w.a.out))
	fmt.Fprintf(&b, "\nrates  %s\n", r.rates())
	_, err := b.WriteTo(w.a.out)
	return err
}

// rates says how fast the store grows, and how many changes there are where a server
// counts them.
func (r *watchRecord) rates() string {
	text := fmt.Sprintf("%+.3f MB/s", r.BytesPerSecond/1e6)
	if r.Changes > 0 {
		text += fmt.Sprintf("  %.0f changes/s", r.ChangesPerSecond)
	}
	return text
}

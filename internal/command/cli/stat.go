package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
)

func newStat(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stat [flags]",
		Short: "Show the number of keys and bytes, and the largest keys",
		Long: `Show the number of keys and bytes in a store, the bytes of its files on disk,
and its largest keys.

With --watch, it repeats this every second (less often if reading takes long)
until it is interrupted. It also shows by how many bytes per second the store
grows and, for a server, how many changes per second it applies. On a terminal,
it redraws the screen. Otherwise it writes a line or, with --json, an object each
time.`,
		Example: `  partd stat
  partd stat --top 50 --store log:photos
  partd stat --json
  partd stat --watch --store tcp://127.0.0.1:7077`,
	}
	url, asJSON := storeFlag(cmd), jsonFlag(cmd, "write a JSON object")
	watching := cmd.Flags().Bool("watch", false, "repeat every second and show rates")
	top := cmd.Flags().Int("top", 10, "show the `N` largest keys")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *top < 0 {
			return cliutil.Usagef("--top must be at least 0, not %d", *top)
		}
		return withReading(cmd.Context(), *url, func(store partd.Partd) error {
			if *watching {
				return (&watch{app: a, url: *url, asJSON: *asJSON, top: *top}).run(cmd.Context(), store)
			}
			r, _, err := readStat(cmd.Context(), store, *top)
			if err != nil {
				return err
			}
			return writeResult(a.out, *asJSON, r, func(w io.Writer) {
				fmt.Fprintf(w, "store  %s\n", *url)
				writeStat(w, r, progress.TerminalWidth(a.out, chartWidth))
			})
		})
	}
	return cmd
}

func writeStat(w io.Writer, r statRecord, columns int) {
	fmt.Fprintf(w, "keys   %d\nbytes  %s\n", r.Keys, withUnit(r.Bytes))
	if r.Disk > 0 {
		fmt.Fprintf(w, "disk   %s\n", withUnit(r.Disk))
	}
	if len(r.largestKeys) > 0 {
		fmt.Fprintln(w, "\nlargest keys")
		drawChart(w, r.largestKeys, columns)
	}
}

type statRecord struct {
	Keys    int64       `json:"keys"`
	Bytes   int64       `json:"bytes"`
	Disk    int64       `json:"disk"`
	Largest []keyRecord `json:"largest"`

	largestKeys []partd.KeyInfo
}

// readStat reads a store's statistics and its top largest keys. changes is the number of changes that
// a server has applied; it is 0 without a server.
func readStat(ctx context.Context, store partd.Partd, top int) (r statRecord, changes int64, err error) {
	stats, err := partd.Stat(ctx, store)
	if err != nil {
		return r, 0, err
	}
	keys, _, err := largestKeys(ctx, store, top)
	return statRecord{stats.Keys, stats.Bytes, stats.Disk, keysJSON(keys), keys}, stats.Changes, err
}

func keysJSON(keys []partd.KeyInfo) []keyRecord {
	records := make([]keyRecord, len(keys))
	for i, k := range keys {
		records[i] = keyJSON(k)
	}
	return records
}

// largestKeys returns the n largest keys in a store, largest first. Keys of equal size are sorted
// by name. largestKeys also counts all keys and their bytes, unless n is 0.
func largestKeys(ctx context.Context, store partd.Partd, n int) (top []partd.KeyInfo, total partd.Stats, err error) {
	if n == 0 {
		return nil, total, nil
	}
	for info, err := range partd.Keys(ctx, store) {
		if err != nil {
			return nil, total, err
		}
		total.Keys++
		total.Bytes += info.Size
		if len(top) == n && compareSizes(top[n-1], info) <= 0 {
			continue
		}
		i, _ := slices.BinarySearchFunc(top, info, compareSizes)
		top = slices.Insert(top, i, info)
		top = top[:min(len(top), n)]
	}
	return top, total, nil
}

// compareSizes orders keys by size, largest first, then by name.
func compareSizes(a, b partd.KeyInfo) int {
	return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(a.Key, b.Key))
}

// stat --watch repeats every watchInterval. If reading the store takes long, the command waits
// watchPauseFactor times as long before it reads the store again.
const (
	watchInterval    = time.Second
	watchPauseFactor = 3
)

type watch struct {
	app        *app
	url        string
	asJSON     bool
	top        int
	isTerminal bool

	previous watchRecord
}

// watchRecord is one result. Its rates refer to the time since the previous result.
type watchRecord struct {
	Time time.Time `json:"time"`
	statRecord
	Changes          int64   `json:"changes"`
	BytesPerSecond   float64 `json:"bytes_per_second"`
	ChangesPerSecond float64 `json:"changes_per_second"`
}

// run shows results until ctx ends and returns ctx's error.
func (w *watch) run(ctx context.Context, store partd.Partd) error {
	w.isTerminal = !w.asJSON && progress.IsTerminal(w.app.out)
	for {
		begin := time.Now()
		r, err := w.read(ctx, store)
		if err != nil {
			return err
		}
		if err := w.show(r); err != nil {
			return err
		}
		w.previous = r
		if err := canceled.Wait(ctx, time.After(max(watchInterval-time.Since(begin), watchPauseFactor*time.Since(begin)))); err != nil {
			return err
		}
	}
}

func (w *watch) read(ctx context.Context, store partd.Partd) (r watchRecord, err error) {
	r.statRecord, r.Changes, err = readStat(ctx, store, w.top)
	r.Time = time.Now()
	if b := &w.previous; !b.Time.IsZero() {
		seconds := r.Time.Sub(b.Time).Seconds()
		r.BytesPerSecond = float64(r.Bytes-b.Bytes) / seconds
		if r.Changes >= b.Changes { // a restarted server counts from 0
			r.ChangesPerSecond = float64(r.Changes-b.Changes) / seconds
		}
	}
	return r, err
}

func (w *watch) show(r watchRecord) error {
	if !w.isTerminal {
		return writeResult(w.app.out, w.asJSON, r, func(out io.Writer) {
			fmt.Fprintf(out, "%s  %d keys  %d bytes  %s\n", r.Time.UTC().Format(time.RFC3339), r.Keys, r.Bytes, r.rates())
		})
	}
	var b bytes.Buffer // to avoid flicker, the page is written at once
	b.WriteString("\x1b[H\x1b[2J")
	fmt.Fprintf(&b, "store  %s\ntime   %s\n", w.url, r.Time.Format(time.TimeOnly))
	writeStat(&b, r.statRecord, progress.TerminalWidth(w.app.out, chartWidth))
	fmt.Fprintf(&b, "\nrates  %s\n", r.rates())
	_, err := b.WriteTo(w.app.out)
	return err
}

// rates formats the growth of the store, and the changes per second if a server counts them.
func (r *watchRecord) rates() string {
	text := fmt.Sprintf("%+.3f MB/s", r.BytesPerSecond/1e6)
	if r.Changes > 0 {
		text += fmt.Sprintf("  %.0f changes/s", r.ChangesPerSecond)
	}
	return text
}
